//! What ends the server and what does not; and that an end loses no reply.

use std::time::{Duration, Instant};

use gostash::limits::{LISTEN_BACKLOG, TURN_CONNECTIONS};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::client::{Client, dec, del, get, inc, line, set, start};
use crate::process::{at_once, wait_until_quiet};
use crate::server::{Server, socket_dir};

#[test]
fn what_arrived_before_sigterm_is_answered() {
    let mut server = Server::start(&[]);
    let value = vec![b'v'; 100_000];
    let mut large = Client::tcp(&server);
    large.check(&set(b"large", &value), b"OK\r\n");
    let mut clients = Client::many(&server, 50);
    for (number, client) in clients.iter_mut().enumerate() {
        client.check(&set(&[number as u8], b"0"), b"OK\r\n");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let unfinished = &get(b"large")[..5];
        client.send(&[&inc(&[number as u8]).repeat(100), unfinished].concat());
    }
    large.send(&get(b"large").repeat(100));
    server.signal(Signal::TERM);
    let replies: Vec<u8> = (1..=100).flat_map(|n| line(n.to_string().as_bytes())).collect();
    for client in &mut clients {
        client.expect(&replies);
        client.expect_end();
    }
    for _ in 0..100 {
        large.expect(&line(&value));
    }
    large.expect_end();
    assert_eq!(server.wait().code(), Some(0));
}

/// Some senders signal first the process and then its whole group. That is one stop, which still answers everybody: more
/// clients than one turn serves.
#[test]
fn two_signals_at_once_are_one_stop() {
    let mut server = Server::start(&[]);
    let mut clients = Client::many(&server, 2 * TURN_CONNECTIONS);
    clients.iter_mut().for_each(|client| client.check(&set(b"key", b"0"), b"OK\r\n"));
    wait_until_quiet(&server);
    at_once(&server, || {
        clients.iter_mut().for_each(|client| client.send(&get(b"key")));
        server.signal(Signal::TERM);
        server.signal(Signal::INT);
    });
    clients.iter_mut().for_each(|client| client.expect(b"0\r\n"));
    assert_eq!(server.wait().code(), Some(0));
}

/// A frame that came in over many reads is whole when its last byte has arrived, however late that was.
#[test]
fn a_long_frame_that_arrived_before_sigterm_is_answered() {
    for (bytes, late) in [(20_000, 1), (100_000, 1), (100_000, 100_000)] {
        let (mut server, mut client) = start(&[]);
        client.check(&inc(b"key"), b"1\r\n");
        let frame = set(b"long", &vec![b'v'; bytes]);
        client.send(&frame[..frame.len() - late]);
        wait_until_quiet(&server);
        at_once(&server, || {
            client.send(&frame[frame.len() - late..]);
            server.signal(Signal::TERM);
        });
        client.expect(b"OK\r\n");
        client.expect_end();
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// As many as the kernel holds for each address are the server's, since they had connected before it was told to end.
#[test]
fn who_connected_before_sigterm_is_answered() {
    const CLIENTS: usize = 2 * (LISTEN_BACKLOG as usize + 1);
    let dir = socket_dir();
    let path = dir.path().join("socket");
    let mut server = Server::start(&["--unix-socket", path.to_str().expect("a plain path")]);
    let mut clients = Vec::new();
    at_once(&server, || {
        for number in 0..CLIENTS {
            let mut client = if number % 2 == 0 { Client::tcp(&server) } else { Client::unix(&path) };
            client.send(&inc(b"key"));
            clients.push(client);
        }
        server.signal(Signal::TERM);
    });
    let mut numbers: Vec<_> = clients.iter_mut().map(Client::read_line).collect();
    numbers.sort_by_key(|number| (number.len(), number.clone()));
    assert!(numbers.into_iter().eq((1..=CLIENTS).map(|number| line(number.to_string().as_bytes()))), "a reply to each");
    clients.iter_mut().for_each(Client::expect_end);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_client_that_does_not_read_delays_the_end_for_seconds_only() {
    let mut server = Server::start(&[]);
    let _stuck = stuck_client(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(&[]);
    let _stuck = stuck_client(&server);
    server.signal(Signal::TERM);
    // A signal that follows closely is taken for the same, so the first must have been seen.
    server.wait_for_stderr("stopping");
    wait_until_quiet(&server);
    let since = Instant::now();
    server.signal(Signal::TERM);
    server.wait();
    // Flushing would go on for five.
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

#[test]
fn sighup_and_sigpipe_do_not_end_it_and_sigint_does() {
    let (mut server, mut client) = start(&[]);
    client.check(&inc(b"key"), b"1\r\n");
    server.signal(Signal::HUP);
    server.signal(Signal::PIPE);
    client.check(&inc(b"key"), b"2\r\n");
    // Replies to someone who is gone raise the second one for real.
    for _ in 0..20 {
        let mut gone = Client::tcp(&server);
        gone.send(&get(b"key").repeat(1_000));
        gone.reset();
    }
    client.check(&inc(b"key"), b"3\r\n");
    let since = Instant::now();
    server.signal(Signal::INT);
    client.expect_end();
    assert_eq!(server.wait().code(), Some(0));
    // Nobody has anything to be answered, so the five seconds for that are not waited for.
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

/// For a write beyond the limit on a file's size, the kernel sends a signal that ends whoever does not expect it.
#[test]
fn a_log_that_is_as_long_as_it_may_be_does_not_end_it() {
    let (server, mut client) = start(&["--log-level", "debug"]);
    client.check(&inc(b"key"), b"1\r\n");
    let usual = getrlimit(Resource::Fsize);
    let set_limit = |limit| prlimit(Some(server.pid()), Resource::Fsize, limit).expect("the limit can be changed");
    set_limit(Rlimit { current: Some(0), ..usual });
    for _ in 0..20 {
        Client::tcp(&server).check(&get(b"key"), b"1\r\n");
    }
    server.signal(Signal::USR1);
    client.check(&inc(b"key"), b"2\r\n");
    set_limit(usual);
    server.signal(Signal::USR1);
    server.wait_for_stderr(" lines were dropped here");
}

/// The counters are those of the exchange, and are said when asked for and at the end.
#[test]
fn sigusr1_tells_what_was_done() {
    let (mut server, mut client) = start(&[]);
    let frames = [
        set(b"key", b"1"),
        set(b"text", b"abc"),
        inc(b"key"),
        dec(b"key"),
        inc(b"text"),
        get(b"key"),
        get(b"text"),
        get(b"missing"),
        del(b"text"),
        del(b"missing"),
        b"BROKEN".to_vec(),
    ];
    let replies = b"OK\r\nOK\r\n2\r\n1\r\nERR\r\n1\r\nabc\r\nERR\r\nOK\r\nERR\r\nERR\r\n";
    client.check(&frames.concat(), replies);
    client.expect_end();
    let all = format!(
        "connections=1 refused=0 closed=0 gets=3 hits=2 misses=1 sets=2 adds=3 deletes=2 errors=1 broken=1 \
         bytes_in={} bytes_out={} turns=",
        frames.concat().len(),
        replies.len()
    );
    server.signal(Signal::USR1);
    server.wait_for_stderr(&all);
    server.wait_for_stderr("longest_turn=");
    assert!(!server.stderr().contains("stopped"));
    server.signal(Signal::TERM);
    server.wait();
    let last = server.stderr();
    let last = last.lines().last().unwrap_or_default();
    assert!(last.contains("stopped") && last.contains(&all), "{last}");
}

fn stuck_client(server: &Server) -> Client {
    let mut client = Client::tcp(server);
    client.check(&set(b"key", &vec![b'v'; 1 << 20]), b"OK\r\n");
    client.send(&get(b"key").repeat(50));
    wait_until_quiet(server);
    client
}
