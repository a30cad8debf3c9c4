//! How much memory there is: the tightest limit of the container, the machine's, and what this process holds.
//!
//! The parsing is pure, over the texts of `/proc`; one reader feeds it. It knows no store: how the limit is kept is
//! the store's affair. Elsewhere than on Linux nothing is found, and a modest fixed limit is the default.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::limits::MEMORY_BYTES_MIN;

/// The most that a machine without a container's limit gives by default, in bytes.
const MACHINE_SHARE_BYTES_MAX: usize = 1 << 30;

/// The limit where neither a container's nor the machine's memory can be learnt, in bytes.
const UNKNOWN_MACHINE_BYTES: usize = 256 << 20;

/// What the process may take, and how that came about. Displayed, it says both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit, in bytes of resident memory.
    pub bytes: usize,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// An option said so.
    Chosen,
    /// Three quarters of a control group's limit, the tightest on the way up from this process's own.
    ControlGroup(usize, PathBuf),
    /// A quarter of the machine's memory, or the most that we take unasked.
    Machine(usize),
    /// Nothing could be learnt.
    Unknown,
}

impl MemoryLimit {
    /// A limit that was asked for.
    pub fn chosen(bytes: usize) -> Self {
        MemoryLimit { bytes, reason: Reason::Chosen }
    }

    /// The default here: three quarters of the tightest control-group limit where there is one, else a quarter
    /// of the machine's memory and at most 1 GiB. What cannot be read counts as absent.
    pub fn of_this_machine() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let files = limit_files(&read("/proc/self/cgroup".as_ref()), &read("/proc/self/mountinfo".as_ref()));
        let limits = files.into_iter().filter_map(|file| Some((whole(&read(&file))?, file)));
        MemoryLimit::default_for(limits, kilobytes(&read("/proc/meminfo".as_ref()), "MemTotal"))
    }

    /// The default for the control groups' limits, each with its file, and the machine's memory, in bytes.
    fn default_for(limits: impl Iterator<Item = (usize, PathBuf)>, machine: Option<usize>) -> Self {
        // A group without a limit says so with a number beyond any machine's memory (version 1).
        let real = limits.filter(|(bytes, _)| *bytes < machine.unwrap_or(usize::MAX / 4));
        let (bytes, reason) = match (real.min(), machine) {
            (Some((bytes, file)), _) => (bytes / 4 * 3, Reason::ControlGroup(bytes, file)),
            (None, Some(bytes)) => ((bytes / 4).min(MACHINE_SHARE_BYTES_MAX), Reason::Machine(bytes)),
            (None, None) => (UNKNOWN_MACHINE_BYTES, Reason::Unknown),
        };
        MemoryLimit { bytes: bytes.max(MEMORY_BYTES_MIN), reason }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Megabytes(self.bytes))?;
        match &self.reason {
            Reason::Chosen => Ok(()),
            Reason::ControlGroup(bytes, file) => {
                write!(f, " (three quarters of the {} that {} allows)", Megabytes(*bytes), file.display())
            }
            Reason::Machine(bytes) => {
                write!(f, " (a quarter of the machine's {}, at most 1024 mb)", Megabytes(*bytes))
            }
            Reason::Unknown => write!(f, " (the machine does not tell how much it has)"),
        }
    }
}

/// The memory that is resident for this process now, in bytes; `None` where the system does not tell.
pub fn resident_bytes() -> Option<usize> {
    kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// A number of bytes, shown in megabytes.
struct Megabytes(usize);

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, tenths) = (self.0 >> 20, ((self.0 & 0xF_FFFF) * 10) >> 20);
        if tenths == 0 { write!(f, "{whole} mb") } else { write!(f, "{whole}.{tenths} mb") }
    }
}

/// The files that hold this process's memory limits, from the texts of `/proc/self/cgroup` and
/// `/proc/self/mountinfo`: those of its own group and of every group above, in both versions.
fn limit_files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (names, mount): (&[&str], _) = match controllers {
            "" => (&["memory.max", "memory.high"], mount_of(mounts, "cgroup2", None)),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (&["memory.limit_in_bytes"], mount_of(mounts, "cgroup", Some("memory")))
            }
            _ => continue,
        };
        let Some((root, mount)) = mount else { continue };
        // Inside a container the mount may show only the container's own part, or the path may lead out of it.
        let below = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
        let below = if group.split('/').any(|part| part == "..") { Path::new("") } else { below };
        let own = Path::new(mount).join(below);
        for directory in own.ancestors().take_while(|directory| directory.starts_with(mount)) {
            files.extend(names.iter().map(|name| directory.join(name)));
        }
    }
    files
}

/// The first mount of this kind with that option: which directory of the file system it shows, and where.
fn mount_of<'a>(mounts: &'a str, kind: &str, option: Option<&str>) -> Option<(&'a str, &'a str)> {
    mounts.lines().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut what = what.split(' ');
        let options = (what.next()? == kind).then(|| what.nth(1)).flatten()?;
        option.is_none_or(|option| options.split(',').any(|name| name == option)).then_some(())?;
        let mut place = place.split(' ').skip(3);
        Some((place.next()?, place.next()?))
    })
}

/// A limit file's text; "max", no limit, is no number.
fn whole(text: &str) -> Option<usize> {
    text.trim().parse().ok()
}

/// A line such as `VmRSS:   1234 kB` of a status file, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    fn names(files: &[PathBuf]) -> Vec<&str> {
        files.iter().filter_map(|file| file.to_str()).collect()
    }

    #[test]
    fn version_2_is_read_from_the_own_group_up() {
        let mounts = "28 23 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let files = limit_files("0::/system.slice/gostash.service\n", mounts);
        let service = "/sys/fs/cgroup/system.slice/gostash.service";
        assert_eq!(
            names(&files),
            [
                format!("{service}/memory.max"),
                format!("{service}/memory.high"),
                "/sys/fs/cgroup/system.slice/memory.max".into(),
                "/sys/fs/cgroup/system.slice/memory.high".into(),
                "/sys/fs/cgroup/memory.max".into(),
                "/sys/fs/cgroup/memory.high".into(),
            ]
        );
    }

    #[test]
    fn version_1_wants_the_memory_controller() {
        let mounts = "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory\n";
        let groups = "4:memory:/box\n3:cpuset:/\n";
        assert_eq!(
            names(&limit_files(groups, mounts)),
            ["/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!(names(&limit_files("3:cpuset:/\n1:name=systemd:/\n", mounts)), [""; 0]);
    }

    #[test]
    fn a_mount_of_the_container_s_own_part_is_the_group_itself() {
        let mounts = "900 890 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        assert_eq!(
            names(&limit_files("4:memory:/docker/abc\n", mounts)),
            ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        let mounts = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(
            names(&limit_files("0::/../outside\n", mounts)),
            ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.high"]
        );
    }

    #[test]
    fn no_groups_and_nonsense_name_no_file() {
        assert_eq!(names(&limit_files("", "")), [""; 0]);
        assert_eq!(names(&limit_files("0::/\nx\n::\n", "x - y\n - cgroup2\n")), [""; 0]);
    }

    #[test]
    fn the_tightest_real_limit_wins_over_the_machine() {
        let limits = [(900 * MB, "wide".into()), (200 * MB, "tight".into()), (0x7FFF_FFFF_FFFF_F000, "none".into())];
        let limit = MemoryLimit::default_for(limits.into_iter(), Some(8192 * MB));
        assert_eq!(limit.bytes, 150 * MB);
        assert_eq!(limit.to_string(), "150 mb (three quarters of the 200 mb that tight allows)");
    }

    #[test]
    fn without_a_limit_it_is_a_quarter_of_the_machine_up_to_a_gigabyte() {
        let none = || [(0x7FFF_FFFF_FFFF_F000, PathBuf::new())].into_iter();
        assert_eq!(MemoryLimit::default_for(none(), Some(1001 * MB)).bytes, 1001 * MB / 4);
        assert_eq!(MemoryLimit::default_for(none(), Some(64 << 30)).bytes, 1 << 30);
        let unknown = MemoryLimit::default_for(none(), None);
        assert_eq!(unknown.bytes, 256 * MB);
        assert_eq!(MemoryLimit::default_for([(4 * MB, PathBuf::new())].into_iter(), None).bytes, MEMORY_BYTES_MIN);
    }

    #[test]
    fn numbers_are_taken_as_the_kernel_writes_them() {
        assert_eq!(whole("104857600\n"), Some(100 * MB));
        assert_eq!(whole("max\n"), None);
        assert_eq!(whole(""), None);
        let status = "VmHWM:\t    1780 kB\nVmRSS:\t    1664 kB\n";
        assert_eq!(kilobytes(status, "VmRSS"), Some(1664 * 1024));
        assert_eq!(kilobytes(status, "VmSwap"), None);
        assert_eq!(kilobytes("MemTotal:        8388608 kB\n", "MemTotal"), Some(8 << 30));
        assert_eq!(kilobytes("MemTotal: 12 pages\n", "MemTotal"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_resident_memory() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
