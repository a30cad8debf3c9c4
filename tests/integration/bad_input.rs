//! Bytes that are no frames: the sender is told, and nobody else notices. The rows say which bytes; here is
//! what happens around them.

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gostash::limits::{DESCRIPTORS_RESERVED, FRAME_EXTRA_BYTES, READ_LARGE_BYTES, TURN_CONNECTIONS, TURN_READ_BYTES};

use crate::client::{Client, del, get, inc, number, set, start};
use crate::process::{at_once, limit_descriptors, resident_bytes, wait_until_quiet};
use crate::random::{Random, SEED_VARIABLE, seed};
use crate::server::{PATIENCE, Server, wait_until};

/// Closing a socket that has unread input makes the kernel send a reset, which would overtake the reply.
#[test]
fn the_error_arrives_although_input_is_in_flight() {
    let server = Server::start(&[]);
    for junk in [1, 1_000, 100_000, 1_000_000, 10_000_000] {
        let mut client = Client::tcp(&server);
        client.send(&[inc(b"key"), b"BROKEN".to_vec(), vec![b'x'; junk]].concat());
        let mut bystander = Client::tcp(&server);
        bystander.check(&get(b"another"), b"ERR\r\n");
        client.expect(b"1\r\nERR\r\n");
        bystander.check(&del(b"key"), b"OK\r\n");
        client.expect_end();
    }
}

/// Whether it sends without end, which is more than the longest value and what sockets hold, or never closes.
#[test]
fn a_broken_connection_that_goes_on_is_cut_off() {
    let (server, mut other) = start(&["--max-value-size", "1b"]);
    for (bytes, pause_millis, sent_max) in [(256 * 1024, 0, 24 << 20), (1, 20, usize::MAX)] {
        let mut client = Client::tcp(&server);
        client.check(b"BROKEN", b"ERR\r\n");
        client.expect_end();
        let (since, mut sent) = (Instant::now(), 0);
        while client.try_send(&vec![b'x'; bytes]).is_ok() {
            sent += bytes;
            assert!(sent < sent_max && since.elapsed() < PATIENCE, "still swallowing after {sent} bytes");
            sleep(Duration::from_millis(pause_millis));
        }
        // No more was thrown away than what might have been on its way.
        let read = other.info("total_net_input_bytes:");
        assert!(read < 2 * FRAME_EXTRA_BYTES, "{read} bytes were read");
    }
}

/// What is thrown away takes time to read, too, so a turn reads no more of it than of anything else.
#[test]
fn a_turn_throws_away_only_so_much() {
    let (server, mut other) = start(&[]);
    let mut broken = Client::many(&server, TURN_CONNECTIONS);
    broken.iter_mut().for_each(|client| client.check(b"BROKEN", b"ERR\r\n"));
    at_once(&server, || broken.iter_mut().for_each(|client| client.send(&[b'x'; 100_000])));
    wait_until("all of it to be read", || other.info("total_net_input_bytes:") > TURN_CONNECTIONS * 100_000);
    let loop_section = other.text("INFO loop");
    let longest = loop_section.lines().find(|line| line.starts_with("loop_longest_turn_last_minute")).unwrap();
    let read = number(longest, "bytes_in=");
    assert!(read <= TURN_READ_BYTES + READ_LARGE_BYTES, "{read} bytes were read in {longest}");
}

/// Those who are told of their error and linger may not keep others out, however many they are: neither do they take the
/// places of clients, nor all descriptors.
#[test]
fn many_broken_connections_keep_nobody_out() {
    const CLIENTS: usize = 100;
    let (server, mut bystander) = start(&["--max-clients", &CLIENTS.to_string()]);
    limit_descriptors(&server, (CLIENTS + DESCRIPTORS_RESERVED) as u64);
    let broken: Vec<_> = (0..1_000)
        .map(|_| {
            let mut client = Client::tcp(&server);
            // Past the limit the server may have said ERR and gone already.
            let _ = client.try_send(b"BROKEN");
            client
        })
        .collect();
    bystander.check(&inc(b"key"), b"1\r\n");
    wait_until("room for a new client", || {
        let mut client = Client::tcp(&server);
        let sent = client.try_send(&set(b"key", b"value"));
        sent.is_ok() && client.read_line() == b"OK\r\n"
    });
    assert!(!server.stderr().contains("accepting pauses"), "{}", server.stderr());
    drop(broken);
}

#[test]
fn random_bytes_get_an_orderly_end() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let mut random = Random::new(seed);
    let (server, mut bystander) = start(&[]);
    let before = resident_bytes(&server);
    for round in 1..=500 {
        let most = if random.once_in(10) { 100_000 } else { 100 };
        let len = 1 + random.below(most);
        check_end(&server, &random.bytes(len));
        bystander.check(&inc(b"untouched"), format!("{round}\r\n").as_bytes());
    }
    wait_until_quiet(&server);
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more after random bytes");
}

/// Frames with a few bytes changed get further into the parser than plain noise does.
#[test]
fn damaged_frames_get_an_orderly_end() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let mut random = Random::new(seed);
    let (server, mut bystander) = start(&[]);
    let (key, large) = (b"a\0key", vec![b'v'; 40_000]);
    for round in 1..=1_000 {
        let mut bytes = [set(key, b"12"), get(key), inc(key), set(key, &large), del(key)].concat();
        for _ in 0..1 + random.below(3) {
            // Mostly in the small frames, where a byte means something.
            let most = if random.once_in(4) { bytes.len() } else { 80 };
            let at = random.below(most);
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.insert(at, b"\0\r\n9-"[random.below(5)]),
                _ => drop(bytes.remove(at)),
            }
        }
        check_end(&server, &bytes);
        bystander.check(&inc(b"untouched"), format!("{round}\r\n").as_bytes());
    }
}

/// Memory follows the bytes that arrive, not those that a client says will come.
#[test]
fn announced_values_reserve_nothing() {
    let (server, mut bystander) = start(&["--max-memory", "1gb"]);
    bystander.check(&inc(b"key"), b"1\r\n");
    let before = resident_bytes(&server);
    let announcement = &set(b"key", &vec![b'v'; 16 << 20])[..1_000];
    let mut clients = Client::many(&server, 300);
    clients.iter_mut().for_each(|client| client.send(announcement));
    bystander.check(&inc(b"key"), b"2\r\n");
    let grown = resident_bytes(&server).saturating_sub(before);
    let each = grown / clients.len() as u64;
    assert!(each < 64 << 10, "{each} bytes for each of the values that were announced");
}

/// Sends, ends the input, and expects any reply and an end that is no reset.
#[track_caller]
fn check_end(server: &Server, bytes: &[u8]) {
    let mut client = Client::tcp(server);
    client.send(bytes);
    client.half_close();
    let mut buffer = [0; 4096];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => (),
            Err(error) => {
                let why = if error.kind() == ErrorKind::WouldBlock { "no end" } else { "a reset" };
                let head = bytes[..bytes.len().min(200)].escape_ascii();
                panic!("{why} ({error}) after \"{head}\"");
            }
        }
    }
}
