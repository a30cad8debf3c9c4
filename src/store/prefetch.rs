//! Asking the processor to begin to load a place, without waiting for it: the only unsafe code there is.
//!
//! A plain load does not do: what comes after it can be begun but not finished before it has arrived, so a dozen of them
//! are under way at most, and the processor stands still. With these a request in a pipeline of 64 takes a sixth less of
//! the server's time, of 100,000 keys or of five million.

/// Has a place loaded into the processor's caches, on processors for which Rust can say that; `None` is no place.
#[inline(always)]
#[allow(unsafe_code)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub(super) fn prefetch<T>(place: Option<&T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(place) = place {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: It needs SSE, which every x86-64 has. It is a hint: it neither reads nor writes as far as a program can
        // tell, and never faults, wherever it points; and this points to something that is borrowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) }
    }
}
