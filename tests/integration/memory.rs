//! Which memory limit follows from the texts of the system's files, and how it is shown; how long a chunk counts.

use std::path::Path;

use gostash::chunk::ChunkPool;
use gostash::limits::{CHUNK_BYTES, MEMORY_BYTES_MIN, STORE_BYTES_MAX};
use gostash::memory::{MemoryLimit, block, give_back, limit_files, resident_bytes};

const MB: usize = 1 << 20;

/// The limit that a version 1 group reports when it has none.
const NO_LIMIT: &str = "9223372036854771712\n";

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
    assert_eq!(files("0::/a:b\n")[0], "/sys/fs/cgroup/a:b/memory.max");
    let outside = files("0::/../outside\n");
    assert!(outside.ends_with(&["/sys/fs/cgroup/memory.max".into(), "/sys/fs/cgroup/memory.high".into()]));
    assert_eq!(files("x\n:\n"), [""; 0]);
    assert_eq!(files(""), [""; 0]);
}

/// The default limit on a machine with these files.
fn auto(files: &[(&str, &str)]) -> MemoryLimit {
    MemoryLimit::auto(|path| {
        files.iter().filter(|(name, _)| path == Path::new(name)).map(|(_, text)| *text).collect::<String>()
    })
}

#[test]
fn the_tightest_real_limit_wins_over_the_machine() {
    let limit = auto(&[
        ("/proc/meminfo", "MemTotal:        8388608 kB\n"),
        ("/proc/self/cgroup", "4:memory:/v1\n0::/v2/box\n"),
        ("/sys/fs/cgroup/memory/v1/memory.limit_in_bytes", NO_LIMIT),
        ("/sys/fs/cgroup/v2/box/memory.max", "943718400\n"),
        ("/sys/fs/cgroup/v2/box/memory.high", "max\n"),
        ("/sys/fs/cgroup/v2/memory.high", "209715200\n"),
    ]);
    assert_eq!(limit.bytes, 150 * MB);
    let peak = limit.safe_bytes / 20 * 21;
    assert!((199 * MB..=200 * MB).contains(&peak), "with the twentieth above it, {} is {peak}", limit.safe_bytes);

    let reason = "three quarters of the 200 mb that /sys/fs/cgroup/v2/memory.high allows";
    assert_eq!(limit.text, format!("150 mb ({reason})"));
    assert_eq!(MemoryLimit::chosen(3 * MB / 2).text, "1.5 mb");
}

#[test]
fn without_a_limit_it_is_a_quarter_of_the_machine_up_to_a_gigabyte() {
    let limit_file = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
    let none = [("/proc/self/cgroup", "1:memory:/\n"), (limit_file, NO_LIMIT)];
    let of = |machine| auto(&[none[0], none[1], ("/proc/meminfo", machine)]);
    let quarter = of("MemTotal: 1026048 kB\n");
    assert_eq!(quarter.bytes, 1002 * MB / 4);
    assert_eq!(quarter.text, "250.5 mb (a quarter of the 1002 mb that machine and ulimit allow, up to 1024 mb)");
    assert_eq!(of("MemTotal: 67108864 kB\n").bytes, 1 << 30);
    for unknown in ["", "MemTotal: 12 pages\n", "MemFree: 1026048 kB\n"] {
        assert_eq!(of(unknown).text, "256 mb (the machine does not tell how much it has)");
    }
    assert_eq!(of("MemTotal:        1026048 kB\nMemFree: 1026048 kB\n"), quarter);
    assert!(quarter.safe_bytes < 1002 * MB && of("").safe_bytes > 1 << 60);

    assert_eq!(auto(&[none[0], (limit_file, "4194304\n")]).bytes, MEMORY_BYTES_MIN);
    assert_eq!(auto(&[none[0], (limit_file, "1099511627776\n")]).bytes, STORE_BYTES_MAX);
}

/// A process that may map so many bytes holds a third of them safely: memory that was given back stays mapped.
#[test]
fn a_limit_on_addresses_leaves_less_than_the_machine_has() {
    let of = |addresses: &str, data: &str| {
        let head = "Limit                     Soft Limit           Hard Limit           Units     \n";
        let line = |name, soft: &str| format!("{name:<25} {soft:<20} {:<20} bytes     \n", "unlimited");
        let limits = format!("{head}{}{}", line("Max data size", data), line("Max address space", addresses));
        auto(&[("/proc/meminfo", "MemTotal: 4194304 kB\n"), ("/proc/self/limits", &limits)])
    };
    assert_eq!(of("unlimited", "unlimited").bytes, 1 << 30);
    assert_eq!(of("1258291200", "unlimited").bytes, 100 * MB);
    let tighter = of("1258291200", "629145600");
    assert_eq!(tighter.text, "50 mb (a quarter of the 200 mb that machine and ulimit allow, up to 1024 mb)");
    assert!((190 * MB..200 * MB).contains(&tighter.safe_bytes), "{}", tighter.safe_bytes);
    assert_eq!(of("20480", "unlimited").bytes, MEMORY_BYTES_MIN);
}

#[cfg(target_os = "linux")]
#[test]
fn this_process_has_resident_memory() {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix(" kB")).expect("a line of it");
    let told = line.trim().parse::<usize>().expect("a number") * 1024;
    let bytes = resident_bytes().expect("the system tells");
    assert!((told / 2..told * 2).contains(&bytes), "{bytes} are not about {told}");
}

/// What a chunk takes: whole pages.
fn block_bytes() -> usize {
    CHUNK_BYTES.max(rustix::param::page_size())
}

#[test]
fn chunks_count_until_the_last_reference_is_gone() {
    let pool = ChunkPool::default();
    let mut chunk = pool.chunk();
    assert_eq!(chunk.fill(&[7; 2 * CHUNK_BYTES]), CHUNK_BYTES);
    assert_eq!(chunk.room_bytes(), 0);
    assert!(pool.count() == 1 && pool.bytes_of(1) >= block_bytes());
    let stored = chunk.freeze();
    let sending = stored.clone();
    drop(stored);
    assert_eq!(pool.count(), 1, "a reader still holds it");
    assert_eq!(sending[0], 7);
    drop(sending);
    assert_eq!(pool.count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_given_back_and_all_zero_then() {
    let mut own = block(100_000);
    assert!(own.iter().all(|byte| *byte == 0));
    for round in 1..4 {
        own.fill(round);
        give_back(&mut own, 0);
        assert!(own.len() == 100_000 && own.iter().all(|byte| *byte == 0), "round {round}");
    }
}

#[test]
fn a_chunk_that_is_gone_leaves_its_memory_to_the_next() {
    let pool = ChunkPool::default();
    let chunks: Vec<_> = (0..3).map(|_| pool.chunk()).collect();
    assert_eq!(pool.spare_bytes(), 0);
    drop(chunks);
    assert_eq!((pool.count(), pool.spare_bytes()), (0, 3 * block_bytes()));
    let mut chunk = pool.chunk();
    assert_eq!(pool.spare_bytes(), 2 * block_bytes());
    assert!(pool.give_back() && pool.give_back() && !pool.give_back());
    assert_eq!((chunk.fill(b"one"), chunk.fill(b"two")), (3, 3));
    assert_eq!(&chunk.freeze()[..], b"onetwo");
    // A chunk does not show what an earlier one left in its block.
    let mut next = pool.chunk();
    assert!(next.as_ref().is_empty());
    next.fill(b"three");
    assert_eq!(next.as_ref(), b"three");
}
