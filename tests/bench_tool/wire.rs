//! What gostash-bench sends and how it parses what comes back, byte by byte. A proxy between it and the server records
//! what is sent, and fragments or changes the replies.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::server::Server;
use crate::{at, ended, fails, fake, rows, words_of};

/// What the proxy does to the replies.
#[derive(Clone, Copy)]
enum Change {
    Nothing,
    /// Each read is passed on in three pieces, cut in another place each time.
    Cut,
    /// Each byte is passed on by itself.
    Crumble,
    /// A bit is flipped in the byte at this place.
    Flip(usize),
}

/// The proxy.
struct Wire {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
    answered: Arc<Mutex<usize>>,
}

impl Wire {
    fn new(server: SocketAddr, change: Change) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let wire = Wire { address, sent: Arc::default(), answered: Arc::default() };
        let (sent, answered) = (Arc::clone(&wire.sent), Arc::clone(&wire.answered));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a client");
                let server = TcpStream::connect(server).expect("the server accepts");
                client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).expect("TCP");
                let (from, to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                let (sent, answered) = (Arc::clone(&sent), Arc::clone(&answered));
                thread::spawn(move || pass_requests(from, to, &sent));
                thread::spawn(move || pass_replies(server, client, change, &answered));
            }
        });
        wire
    }

    fn sent(&self) -> Vec<u8> {
        self.sent.lock().expect("no panic").clone()
    }
}

fn pass_requests(mut from: TcpStream, mut to: TcpStream, sent: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        sent.lock().expect("no panic").extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes replies on. After a change it stops when nothing has come for a moment, or gostash-bench would wait for the
/// rest of a line whose end was changed.
fn pass_replies(mut from: TcpStream, mut to: TcpStream, change: Change, answered: &Mutex<usize>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut turn = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let chunk = &mut buffer[..count];
        let before = *answered.lock().expect("no panic");
        *answered.lock().expect("no panic") += count;
        let mut cuts = vec![0, count];
        match change {
            Change::Nothing => {}
            Change::Cut => cuts.extend([turn % count, turn * 7 % count]),
            Change::Crumble => cuts.extend(1..count),
            Change::Flip(place) if (before..before + count).contains(&place) => {
                chunk[place - before] ^= 1;
                from.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
            }
            Change::Flip(_) => {}
        }
        turn += 1;
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            if to.write_all(&chunk[piece[0]..piece[1]]).is_err() {
                return;
            }
            if matches!(change, Change::Cut) {
                sleep(Duration::from_micros(20));
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A server for each protocol, by the protocol's name.
fn servers() -> (Server, [(&'static str, SocketAddr); 3]) {
    let server = Server::start(&[]);
    let address = server.addr();
    let servers = [("gostash", address), ("resp", address), ("memcached", fake::memcached())];
    // The tests of the echo are elsewhere.
    assert_eq!(
        words_of("protocol"),
        [servers.each_ref().map(|(protocol, _)| *protocol).as_slice(), &["echo"]].concat()
    );
    (server, servers)
}

/// The key with this number and length.
fn key(id: u32, length: usize) -> String {
    match length {
        12.. => format!("key:{id:0>digits$x}", digits = length - 4),
        _ => format!("{id:0length$x}"),
    }
}

#[test]
fn replies_are_paired_however_they_are_cut() {
    let (_server, servers) = servers();
    for (protocol, address) in servers {
        for change in [Change::Cut, Change::Crumble] {
            for command in ["mix", "inc", "del"] {
                for verify in [&[][..], &["--verify"]] {
                    let requests = if matches!(change, Change::Cut) { "1500" } else { "200" };
                    let what = ["--protocol", protocol, "--command", command, "--value-size", "40", "--keys", "10"];
                    let how = ["--clients", "2", "--pipeline", "3", "--requests", requests, "--warmup", "0"];
                    let args = [&what[..], &how, verify].concat();
                    let row = &rows(Wire::new(address, change).address, &args)[0];
                    assert_eq!(row.text("requests"), requests, "{protocol} {command}");
                    assert_eq!([row.text("misses"), row.text("refused")], ["0", "0"], "{protocol} {command}");
                }
            }
        }
        // A missing key is a miss in every protocol.
        let what = ["--protocol", protocol, "--command", "get", "--value-size", "40", "--key-size", "21"];
        let how = ["--no-preload", "--keys", "10", "--requests", "100", "--warmup", "0", "--clients", "2"];
        let row = &rows(Wire::new(address, Change::Cut).address, &[&what[..], &how].concat())[0];
        assert_eq!(row.text("misses"), "100", "{protocol}");
    }
}

#[test]
fn a_miss_ratio_is_of_all_that_can_miss() {
    let memcached = fake::memcached();
    let how = ["--protocol", "memcached", "--command", "inc", "--clients", "2", "--requests", "4000", "--warmup", "0"];
    for (args, expected) in [(["--preload", "--keys", "300"], 0.0), (["--no-preload", "--keys", "600"], 0.5)] {
        let row = &rows(memcached, &[&how[..], &args].concat())[0];
        assert_eq!(row.number("hits") + row.number("misses"), 4000.0, "{}", row.0);
        assert!((row.number("miss_ratio") - expected).abs() < 0.1, "{}", row.0);
    }
    // A DEL follows the SET of its key, which cannot miss.
    let row =
        &rows(memcached, &["--protocol", "memcached", "--command", "del", "--requests", "4000", "--warmup", "0"])[0];
    assert!((1_900.0..=2_000.0).contains(&row.number("hits")) && row.number("misses") == 0.0, "{}", row.0);
}

#[test]
fn no_byte_may_be_another() {
    let (_server, servers) = servers();
    for (protocol, address) in servers {
        for (command, requests) in [("mix", "2"), ("inc", "2"), ("del", "2")] {
            let what = ["--protocol", protocol, "--command", command, "--value-size", "4", "--keys", "1", "--verify"];
            let how = ["--clients", "1", "--pipeline", "3", "--requests", requests, "--warmup", "0"];
            let args = [&what[..], &how].concat();
            let wire = Wire::new(address, Change::Nothing);
            rows(wire.address, &args);
            let length = *wire.answered.lock().expect("no panic");
            assert!((8..120).contains(&length), "{protocol} {command}: {length}");
            let check = |place| {
                let status = ended(&mut at(Wire::new(address, Change::Flip(place)).address, &args)).status;
                assert_eq!(status.code(), Some(1), "{protocol} {command} byte {place} of {length}");
            };
            thread::scope(|scope| {
                (0..4).for_each(|first| _ = scope.spawn(move || (first..length).step_by(4).for_each(check)));
            });
        }
    }
}

#[test]
fn the_place_of_a_difference_is_told() {
    let server = Server::start(&[]);
    // The four bytes of the reply to the preload come first, then the value.
    for byte in [1, 7, 8, 9, 39, 40] {
        let wire = Wire::new(server.addr(), Change::Flip(4 + byte - 1));
        let what = ["--command", "get", "--keys", "1", "--value-size", "40", "--verify"];
        let how = ["--clients", "1", "--requests", "1", "--warmup", "0"];
        let place = format!("byte {byte} of 40 differs from what was set");
        let parts = ["wrong reply to GET key:000000000000", &place];
        fails(at(wire.address, &what).args(how), 1, &parts);
    }
}

#[test]
fn a_batch_of_the_right_length_is_taken_at_a_glance() {
    let (_server, servers) = servers();
    for (protocol, address) in servers {
        let what = ["--protocol", protocol, "--command", "get", "--keys", "1", "--value-size", "40"];
        let how = ["--clients", "1", "--pipeline", "3", "--requests", "3", "--warmup", "0"];
        let args = [&what[..], &how].concat();
        let wire = Wire::new(address, Change::Nothing);
        rows(wire.address, &args);
        let last = *wire.answered.lock().expect("no panic") - 1;
        // A changed end of the last reply goes unnoticed only if that reply is not parsed.
        assert_eq!(rows(Wire::new(address, Change::Flip(last)).address, &args)[0].text("requests"), "3");
        let wire = Wire::new(address, Change::Flip(last));
        fails(at(wire.address, &args).arg("--verify"), 1, &["wrong reply to GET", "expected '"]);
    }
}

#[test]
fn requests_are_what_the_protocol_says() {
    let (_server, servers) = servers();
    for (protocol, address) in servers {
        for length in [6, 8, 11, 12, 100] {
            let length_text = length.to_string();
            let what = ["--protocol", protocol, "--command", "get", "--key-size", &length_text, "--value-size", "0"];
            let how = ["--keys", "20", "--clients", "1", "--requests", "1", "--warmup", "0"];
            let wire = Wire::new(address, Change::Nothing);
            rows(wire.address, &[&what[..], &how].concat());
            let sets = (0..20).map(|id| {
                let key = key(id, length);
                match protocol {
                    "gostash" => format!("SET\0{length}\0{key}\00\0\r\n"),
                    "resp" => format!("*3\r\n$3\r\nSET\r\n${length}\r\n{key}\r\n$0\r\n\r\n"),
                    _ => format!("set {key} 0 0 0\r\n\r\n"),
                }
            });
            let sent = String::from_utf8(wire.sent()).expect("empty values");
            let get = sent.strip_prefix(&sets.collect::<String>()).unwrap_or_else(|| panic!("not in {sent:?}"));
            let gets = (0..20).map(|id| {
                let key = key(id, length);
                match protocol {
                    "gostash" => format!("GET\0{length}\0{key}\r\n"),
                    "resp" => format!("*2\r\n$3\r\nGET\r\n${length}\r\n{key}\r\n"),
                    _ => format!("get {key}\r\n"),
                }
            });
            assert!(gets.into_iter().any(|known| known == get), "{get:?}");
        }
    }
}

#[test]
fn digits_are_what_format_makes_of_them() {
    let ids = [0, 9, 10, 0xdead_beef, 0x0123_4567, 0x89ab_cdef, u32::MAX];
    let records: Vec<u8> = ids.iter().flat_map(|id| [id.to_le_bytes(), 16_u32.to_le_bytes()]).flatten().collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), records).expect("room for it");
    let server = Server::start(&[]);
    let wire = Wire::new(server.addr(), Change::Nothing);
    rows(wire.address, &["replay", file.path().to_str().expect("a name in UTF-8"), "--pipeline", "64"]);
    let gets: String = ids.iter().map(|&id| format!("GET\x0016\0{}\r\n", key(id, 16))).collect();
    assert!(wire.sent().starts_with(gets.as_bytes()), "{}", wire.sent().escape_ascii());
}

#[test]
fn zipf_draws_each_rank_as_often_as_it_should() {
    let server = Server::start(&[]);
    for exponent in [0.5, 0.99, 1.0, 1.2, 3.0] {
        let wire = Wire::new(server.addr(), Change::Nothing);
        let distribution = format!("zipf:{exponent}");
        let what = ["--command", "get", "--no-preload", "--keys", "10", "--distribution", &distribution];
        let how = ["--clients", "1", "--pipeline", "1000", "--requests", "200000", "--warmup", "0"];
        rows(wire.address, &[&what[..], &how].concat());
        let mut counts = HashMap::new();
        wire.sent().chunks(key(0, 16).len() + 9).for_each(|get| *counts.entry(get.to_vec()).or_insert(0_u32) += 1);
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        assert_eq!(counts.len(), 10);
        let total: f64 = (1..=10).map(|rank| f64::from(rank).powf(-exponent)).sum();
        for (count, rank) in counts.into_iter().zip(1..) {
            let expected = 200_000.0 * f64::from(rank).powf(-exponent) / total;
            let spread = 5.0 * expected.sqrt() + 1.0;
            assert!((f64::from(count) - expected).abs() < spread, "{exponent} {rank}: {count}, {expected}");
        }
    }
}

#[test]
fn sizes_are_ranges_with_units_and_all_of_them_occur() {
    let server = Server::start(&[]);
    let how = ["--keys", "60", "--clients", "1", "--requests", "1", "--warmup", "0"];
    for (given, understood) in [("32-512", "32-512"), ("1kb-2MB", "1024-2097152"), ("7b", "7")] {
        let what = ["--no-preload", "--distribution", "zipf", "--value-size", given];
        let table = String::from_utf8(ended(at(server.addr(), &how).args(what)).stdout).expect("text");
        assert!(table.contains(&format!("60 keys, zipf:0.99, values of {understood} b, ")), "{table}");
    }
    let wire = Wire::new(server.addr(), Change::Nothing);
    rows(wire.address, &[&how[..], &["--value-size", "3-5"]].concat());
    let sent = wire.sent();
    let sets = sent.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"SET"));
    let mut lengths: Vec<_> = sets.map(|set| set.split(|&byte| byte == 0).nth(3).expect("a length").to_vec()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert_eq!(lengths, [b"3", b"4", b"5"]);
}

#[test]
fn the_length_of_a_value_does_not_follow_from_that_of_its_key() {
    let server = Server::start(&[]);
    let wire = Wire::new(server.addr(), Change::Nothing);
    let what = ["--keys", "16000", "--key-size", "16-31", "--value-size", "0-9", "--clients", "1"];
    rows(wire.address, &[&what[..], &["--requests", "1", "--warmup", "0"]].concat());
    let mut counts = HashMap::new();
    // SET, the key's length, the key, the value's length, the value
    let sent = wire.sent();
    let sets: Vec<_> = sent.split(|&byte| byte == 0).collect();
    let pairs = sets.windows(3).filter(|part| part[1].starts_with(b"key:"));
    pairs.for_each(|part| *counts.entry((part[0], part[2])).or_insert(0_u32) += 1);
    let total: u32 = counts.values().sum();
    assert!((16_000..=16_001).contains(&total), "{total}");
    // 100 of each pair are expected. The sum of the squares has a mean of 159 and a standard deviation of 18.
    let chi_square: f64 = counts.values().map(|&count| (f64::from(count) - 100.0).powi(2) / 100.0).sum();
    assert!(counts.len() == 160 && chi_square < 159.0 + 6.0 * 18.0, "{chi_square} {counts:?}");
}
