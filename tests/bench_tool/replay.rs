//! The replay of a trace: its figures, and that its requests are those of a read-through cache.

use crate::fake::{self, Fault};
use crate::server::Server;
use crate::{at, fails, rows};

/// A trace of these records, in a temporary file.
fn trace(records: &[(u32, u32)]) -> tempfile::NamedTempFile {
    let bytes: Vec<u8> =
        records.iter().flat_map(|(id, size)| [id.to_le_bytes(), size.to_le_bytes()]).flatten().collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("room for it");
    file
}

#[test]
fn hits_are_counted_at_every_depth() {
    // Five keys, 12 requests and 7 hits. One key's record has no bytes for a value, which then has one byte.
    let ids = [1, 2, 1, 1, 3, 900_000, 2, 2, 4, 900_000, 3, 1];
    let size = |id| match id {
        1 => 16,
        2 => 48,
        3 => 200_000,
        _ => 60,
    };
    let records: Vec<(u32, u32)> = ids.iter().map(|&id| (id, size(id))).collect();
    let file = trace(&records);
    let path = file.path().to_str().expect("a name in UTF-8");
    for depth in ["1", "2", "3", "64"] {
        let server = Server::start(&[]);
        let row = &rows(server.addr(), &["replay", path, "--pipeline", depth, "--verify"])[0];
        assert_eq!(row.number("requests"), 12.0);
        assert_eq!(row.number("hits"), 7.0, "depth {depth}: {}", row.0);
        assert_eq!(row.number("cold_floor"), 0.416667, "5 of 12");
        let hit_bytes = 3 * 17 + 2 * 48 + 200_000 + 60;
        let asked_bytes = 4 * 17 + 3 * 48 + 2 * 200_000 + 3 * 60;
        let expected = f64::from(hit_bytes) / f64::from(asked_bytes);
        assert!((row.number("byte_hit_ratio") - expected).abs() < 1e-6, "{}", row.0);
        assert!(row.number("server_peak_bytes") >= row.number("server_resident_bytes"));
        // Once all keys are set, every request is a hit.
        let row = &rows(server.addr(), &["replay", path, "--pipeline", depth, "--verify"])[0];
        assert_eq!([row.text("pipeline"), row.text("hits")], [depth, "12"]);
    }
}

#[test]
fn a_small_cache_misses_what_does_not_fit() {
    // Two rounds over 40 mb of items, which no policy fits into a cache of 16 mb.
    let records: Vec<(u32, u32)> = (0..80_000).map(|number| (number % 40_000, 1000)).collect();
    let file = trace(&records);
    let server = Server::start(&["--max-memory", "16mb"]);
    let path = file.path().to_str().expect("a name in UTF-8");
    let row = &rows(server.addr(), &["replay", path, "--pipeline", "32", "--verify"])[0];
    assert_eq!(row.number("cold_floor"), 0.5);
    assert!((0.5..=1.0).contains(&row.number("miss_ratio")) && row.number("hits") < 20_000.0, "{}", row.0);
}

#[test]
fn errors_name_the_file_or_the_reply() {
    let file = trace(&[(1, 20), (2, 20), (1, 20)]);
    let path = file.path().to_str().expect("a name in UTF-8");
    let replay = |path, part| {
        fails(&mut at(fake::start(Fault::LastByte), &["replay", path, "--verify"]), 1, &[part]);
    };
    replay(path, "wrong reply to GET key:000000000001");
    replay("/nonexistent", "/nonexistent");
    std::fs::write(file.path(), b"seven b").expect("room for it");
    replay(path, "expected records of 8 bytes with values of at most 1073741824, got 7 bytes");
}
