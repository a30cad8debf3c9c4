//! How much memory there is: the tightest limit of the container, the machine's, and what this process holds. And where
//! large blocks of it come from.
//!
//! The parsing is pure, over the texts of `/proc`. It knows no store: how the limit is kept is the store's affair.
//! Elsewhere than on Linux nothing is found, and a modest fixed limit is the default.

use std::fs;
use std::path::{Path, PathBuf};

use memmap2::{MmapMut, UncheckedAdvice};

use crate::limits::{MACHINE_SHARE_BYTES_MAX, MEMORY_BYTES_MIN, UNKNOWN_MACHINE_BYTES};

/// What the process may take, and how that came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit, in bytes of resident memory.
    pub bytes: usize,
    /// Both, as text.
    pub text: String,
}

impl MemoryLimit {
    /// A limit that was asked for.
    pub fn chosen(bytes: usize) -> Self {
        MemoryLimit { bytes, text: megabytes(bytes) }
    }

    /// The default: three quarters of the tightest limit that a control group has, without one a quarter of the machine's
    /// memory and at most 1 GiB. `read` returns the text of one of the system's files.
    pub fn auto(read: impl Fn(&Path) -> String) -> Self {
        let machine = kilobytes(&read("/proc/meminfo".as_ref()), "MemTotal");
        let files = limit_files(&read("/proc/self/cgroup".as_ref()));
        let limits = files.into_iter().filter_map(|file| Some((read(&file).trim().parse().ok()?, file)));
        // A group without a limit says so with a word, or (version 1) with a number beyond any machine's memory.
        let real = limits.filter(|(bytes, _)| *bytes < machine.unwrap_or(usize::MAX / 4));
        let (bytes, reason) = if let Some((limit, file)) = real.min() {
            (limit / 4 * 3, format!(" (three quarters of the {} that {} allows)", megabytes(limit), file.display()))
        } else if let Some(all) = machine {
            let quarter = (all / 4).min(MACHINE_SHARE_BYTES_MAX);
            (quarter, format!(" (a quarter of the machine's {}, at most 1024 mb)", megabytes(all)))
        } else {
            (UNKNOWN_MACHINE_BYTES, " (the machine does not tell how much it has)".to_owned())
        };
        let bytes = bytes.max(MEMORY_BYTES_MIN);
        MemoryLimit { bytes, text: megabytes(bytes) + &reason }
    }
}

/// The memory that is resident for this process now, in bytes; `None` where the system does not tell.
pub fn resident_bytes() -> Option<usize> {
    kilobytes(&read("/proc/self/status".as_ref()), "VmRSS")
}

/// A block of its own: so many bytes, all zero, which take memory page by page as they are touched. The C library would keep
/// what is free between what is in use, and a limit that is kept by counting would be none on what the process holds.
///
/// # Panics
/// If the system refuses: `max-memory` is more than it has to give.
pub fn block(bytes: usize) -> MmapMut {
    MmapMut::map_anon(bytes).unwrap_or_else(|error| panic!("the system refused {bytes} bytes of memory: {error}"))
}

/// Has the C library give buffers of 64 KB and more back, too: left alone, it takes them into its heap once it has seen some freed.
/// When 200 of 2,000 clients had asked for CLIENT LIST, filling 16 MB again peaked at 16.9 instead of 17.8.
pub fn give_back_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: It sets a number that is looked at when memory is asked for. No other thread is there to ask meanwhile.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
    }
}

/// Gives a block's memory back, whatever is in it then; on Linux zeros. To drop it would do so, but for the kernel's bound on
/// how many pieces a process's addresses may be in (65,530): with a hole for each of many blocks it keeps them instead.
#[allow(unsafe_code)]
pub fn give_back(block: &mut MmapMut) {
    // SAFETY: The pages are this process's alone and backed by no file, so at most they are zero from now on; and nobody can
    // be looking at them, since they are borrowed mutably. Refused, it does nothing.
    let _ = unsafe { block.unchecked_advise(UncheckedAdvice::DontNeed) };
}

/// A file's text; what cannot be read counts as empty.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// With a decimal where they are not whole.
fn megabytes(bytes: usize) -> String {
    format!("{:.1} mb", bytes as f64 / f64::from(1 << 20)).replace(".0 ", " ")
}

/// The files that may hold this process's memory limits, by the text of `/proc/self/cgroup`: those of its own group
/// and of every group above, in both versions, where systems mount them. In a container the group's path may be one
/// outside of it, and not be there; then the container's own limit is at the top.
pub fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let [_, controllers, group] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let (top, names) = match controllers {
            "" => ("/sys/fs/cgroup", &["memory.max", "memory.high"][..]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"][..])
            }
            _ => continue,
        };
        let own = Path::new(top).join(group.trim_start_matches('/'));
        for group in own.ancestors().take_while(|group| group.starts_with(top)) {
            files.extend(names.iter().map(|name| group.join(name)));
        }
    }
    files
}

/// A line such as `VmRSS:   1234 kB` of a status file, in bytes.
pub fn kilobytes(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}
