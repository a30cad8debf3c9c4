//! What limit the texts of the system's files amount to, and how it is said; how long a chunk counts.

use std::path::PathBuf;

use gostash::chunk::ChunkMeter;
use gostash::limits::{CHUNK_BYTES, MEMORY_BYTES_MIN};
use gostash::memory::{MemoryLimit, kilobytes, limit_files, resident_bytes};

const MB: usize = 1 << 20;

/// What a version 1 group without a limit says.
const NO_LIMIT: usize = 0x7FFF_FFFF_FFFF_F000;

fn files(groups: &str) -> Vec<String> {
    limit_files(groups).iter().map(|file| file.display().to_string()).collect()
}

#[test]
fn version_2_is_read_from_the_own_group_up() {
    let service = "/sys/fs/cgroup/system.slice/gostash.service";
    assert_eq!(
        files("0::/system.slice/gostash.service\n"),
        [
            &format!("{service}/memory.max"),
            &format!("{service}/memory.high"),
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/system.slice/memory.high",
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory.high",
        ]
    );
}

#[test]
fn version_1_wants_the_memory_controller() {
    let memory = "/sys/fs/cgroup/memory";
    assert_eq!(
        files("4:blkio,memory:/box\n3:cpuset:/\n"),
        [format!("{memory}/box/memory.limit_in_bytes"), format!("{memory}/memory.limit_in_bytes")]
    );
    assert_eq!(files("3:cpuset:/\n1:name=systemd:/\n"), [""; 0]);
}

#[test]
fn the_top_is_read_whatever_the_path_and_nonsense_names_no_file() {
    let outside = files("0::/../outside\n");
    assert!(outside.ends_with(&["/sys/fs/cgroup/memory.max".into(), "/sys/fs/cgroup/memory.high".into()]));
    assert_eq!(files("x\n:\n"), [""; 0]);
    assert_eq!(files(""), [""; 0]);
}

#[test]
fn the_tightest_real_limit_wins_over_the_machine() {
    let limits = [(900 * MB, "wide".into()), (200 * MB, "tight".into()), (NO_LIMIT, "none".into())];
    let limit = MemoryLimit::default_for(limits.into_iter(), Some(8192 * MB));
    assert_eq!(limit.bytes, 150 * MB);
    assert_eq!(limit.to_string(), "150 mb (three quarters of the 200 mb that tight allows)");
    assert_eq!(MemoryLimit::chosen(3 * MB / 2).to_string(), "1.5 mb");
}

#[test]
fn without_a_limit_it_is_a_quarter_of_the_machine_up_to_a_gigabyte() {
    let none = || [(NO_LIMIT, PathBuf::new())].into_iter();
    let quarter = MemoryLimit::default_for(none(), Some(1002 * MB));
    assert_eq!(quarter.bytes, 1002 * MB / 4);
    assert_eq!(quarter.to_string(), "250.5 mb (a quarter of the machine's 1002 mb, at most 1024 mb)");
    assert_eq!(MemoryLimit::default_for(none(), Some(64 << 30)).bytes, 1 << 30);
    assert_eq!(MemoryLimit::default_for(none(), None).bytes, 256 * MB);
    assert_eq!(MemoryLimit::default_for([(4 * MB, PathBuf::new())].into_iter(), None).bytes, MEMORY_BYTES_MIN);
}

#[test]
fn numbers_are_taken_as_the_kernel_writes_them() {
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

#[test]
fn chunks_count_until_the_last_reference_is_gone() {
    let meter = ChunkMeter::new();
    let mut chunk = meter.chunk();
    assert_eq!(chunk.fill(&[7; 2 * CHUNK_BYTES]), CHUNK_BYTES);
    assert!(chunk.is_full());
    let one = meter.bytes();
    assert!(one >= CHUNK_BYTES);
    let stored = chunk.freeze();
    let sending = stored.clone();
    drop(stored);
    assert_eq!(meter.bytes(), one, "a reader still holds it");
    assert_eq!(sending[0], 7);
    drop(sending);
    assert_eq!(meter.bytes(), 0);
}
