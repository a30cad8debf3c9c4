//! How much memory the container and the machine allow, how much this process holds, where large blocks come from, and
//! how the processor loads ahead. What is unsafe is in this file.
//!
//! Parsing is pure: it works on the texts of the system's files. Keeping to the limit is the store's affair. On systems
//! other than Linux nothing is found, and the default is a modest fixed limit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use memmap2::{MmapMut, UncheckedAdvice};

use crate::limits::{MACHINE_SHARE_BYTES_MAX, MEMORY_BYTES_MIN, STORE_BYTES_MAX, UNKNOWN_MACHINE_BYTES};

/// How much memory the process may take, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit, in bytes of resident memory.
    pub bytes: usize,
    /// The limit and the reason for it, as text.
    pub text: String,
    /// The highest that is safe. The process may take a twentieth more, and the system must let it have that.
    pub safe_bytes: usize,
}

impl MemoryLimit {
    /// A limit that the user has chosen.
    pub fn chosen(bytes: usize) -> Self {
        MemoryLimit { bytes, text: megabytes(bytes), safe_bytes: usize::MAX }
    }

    /// Logs a warning if the system may not let the process have this much.
    pub fn warn_if_too_much(&self) {
        let auto = MemoryLimit::auto(read);
        if self.bytes > auto.safe_bytes {
            log::warn!("max-memory is {}, auto would be {}: the system may kill a full server", self.text, auto.text);
        }
    }

    /// The default: three quarters of the tightest control-group limit; if there is none, a quarter of the machine's
    /// memory, or of what a limit on addresses allows, at most 1 GiB. `read` returns the text of a system's file.
    pub fn auto(read: impl Fn(&Path) -> String) -> Self {
        // Memory that was given back keeps its addresses: at worst they come to three times what is in use.
        let text = read("/proc/self/limits".as_ref());
        let lines = text.lines().filter(|line| line.starts_with("Max address space") || line.starts_with("Max data"));
        let addresses = lines.filter_map(|line| Some(line.split_whitespace().nth(3)?.parse::<usize>().ok()? / 3));
        let text = read("/proc/meminfo".as_ref());
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix(" kB"));
        let total = total.and_then(|kilobytes| Some(kilobytes.trim().parse::<usize>().ok()? * 1024));
        let machine = total.into_iter().chain(addresses).min();
        let files = limit_files(&read("/proc/self/cgroup".as_ref()));
        let limits = files.into_iter().filter_map(|file| Some((read(&file).trim().parse().ok()?, file)));
        // A group without a limit says so with a word or, in version 1, with a number beyond any machine's memory.
        let real = limits.filter(|(bytes, _)| *bytes < machine.unwrap_or(usize::MAX / 4));
        let (all, bytes, reason) = if let Some((limit, file)) = real.min() {
            let reason = format!(" (three quarters of the {} that {} allows)", megabytes(limit), file.display());
            (limit, limit / 4 * 3, reason)
        } else if let Some(all) = machine {
            let reason = format!(" (a quarter of the {} that machine and ulimit allow, up to 1024 mb)", megabytes(all));
            (all, (all / 4).min(MACHINE_SHARE_BYTES_MAX), reason)
        } else {
            (usize::MAX, UNKNOWN_MACHINE_BYTES, " (the machine does not tell how much it has)".to_owned())
        };
        let bytes = bytes.clamp(MEMORY_BYTES_MIN, STORE_BYTES_MAX);
        MemoryLimit { bytes, text: megabytes(bytes) + &reason, safe_bytes: all / 21 * 20 }
    }
}

/// This process's resident memory in bytes, if the system tells. The file stays open, since descriptors may run out.
pub fn resident_bytes() -> Option<usize> {
    static STATM: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/statm").ok());
    let mut text = [0; 256]; // room for its seven numbers, which are pages; the second is what is resident
    let length = rustix::io::pread(STATM.as_ref()?, &mut text, 0).ok()?;
    let pages = str::from_utf8(&text[..length]).ok()?.split(' ').nth(1)?;
    Some(pages.parse::<usize>().ok()? * rustix::param::page_size())
}

/// A mapping of its own: `bytes` zero bytes, which take memory page by page as they are touched. The C library would
/// keep free memory between blocks in use, and a limit kept by counting would not limit what the process holds. Panics
/// if the system refuses, because `max-memory` is more than it has to give.
pub fn block(bytes: usize) -> MmapMut {
    MmapMut::map_anon(bytes).unwrap_or_else(|error| panic!("the system refused {bytes} bytes of memory: {error}"))
}

/// Makes the C library give back freed buffers of 64 KB and more. By default it takes them into its heap once some were
/// freed. After 200 of 2,000 clients had asked for CLIENT LIST, filling 16 MB again peaked at 16.9 instead of 17.8. And
/// the kernel makes no huge pages, which undo what was given back: lowered from 128 to 48 MB, a server took 93 again.
pub fn prevent_hoarding() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: It sets a number that the allocator reads at each request. No other thread is there to make one now.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
    }
}

/// Gives back a block's memory from the page at `start` on, but no addresses. It then holds anything; on Linux, zeros.
/// Dropping many blocks would leave holes between mappings: the kernel bounds their number (65,530).
#[allow(unsafe_code)]
pub fn give_back(block: &mut MmapMut, start: usize) {
    // SAFETY: The pages are private and backed by no file, so at most they are zero from now on. Nobody else can look
    // at them, since they are borrowed mutably. If the system refuses, nothing happens.
    let _ = unsafe { block.unchecked_advise_range(UncheckedAdvice::DontNeed, start, block.len() - start) };
}

/// Has the processor load a place without waiting for it, if Rust can express that; otherwise loads it. `None` does
/// nothing. What follows an ordinary load cannot be completed before its data arrives, so at most a dozen are under way
/// until it stalls. With prefetching, a request in a pipeline of 64 takes 0.86 of the time at 100,000 keys.
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch<T: Copy>(place: Option<&T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(place) = place {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: The instruction needs SSE, which every x86-64 has. It is a hint: as far as a program can tell it
        // neither reads nor writes, and it never faults, wherever it points. And this points to something borrowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(place.copied());
}

/// A file's text. A file that cannot be read counts as empty.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// As text, with a decimal unless it is a whole number.
fn megabytes(bytes: usize) -> String {
    format!("{:.1} mb", bytes as f64 / f64::from(1 << 20)).replace(".0 ", " ")
}

/// The files that may hold this process's memory limits, by the text of `/proc/self/cgroup`: those of its own group and
/// of all above, in both versions. In a container the path may be the host's; then the container's limit is at the top.
pub fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let [_, controllers, group] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let has_memory = controllers.split(',').any(|name| name == "memory");
        let (top, names) = match controllers {
            "" => ("/sys/fs/cgroup", &["memory.max", "memory.high"][..]),
            _ if has_memory => ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"][..]),
            _ => continue,
        };
        let own = Path::new(top).join(group.trim_start_matches('/'));
        for group in own.ancestors().take_while(|group| group.starts_with(top)) {
            files.extend(names.iter().map(|name| group.join(name)));
        }
    }
    files
}
