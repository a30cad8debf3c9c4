//! Clients that speak correctly and behave badly: slow, greedy, gone. Nobody else may wait for them, and what waits to
//! be sent to them is bounded.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use gostash::limits::{BUFFER_EXTRA_BYTES, PRESSURE_MILLIS, TICK_MILLIS, TURN_CONNECTIONS, VALUE_SHARE};
use rustix::process::Signal;
use socket2::SockRef;

use crate::client::{Client, ask, bulk, del, get, inc, line, number, queued, set, start, words};
use crate::process::{at_once, core_wait, descriptors, peak_resident_bytes, wait_until_quiet};
use crate::random::Random;
use crate::server::{FREE_PORT, PATIENCE, Server, shell, socket_dir, wait_until};

/// More than ten times what anybody should wait for others, so that only a server that makes them wait fails.
const UNNOTICED: Duration = Duration::from_secs(1);

/// A value of which a few hundred replies fill every buffer on the way.
const LARGE_VALUE_BYTES: usize = 100_000;

/// Four clients pipeline without a pause; a fifth takes turns with them.
#[test]
fn nobody_waits_for_endless_pipelines() {
    let server = Server::start(&[]);
    let done = AtomicBool::new(false);
    scope(|scope| {
        for number in 0..4_u8 {
            let mut client = Client::tcp(&server);
            let mut sender = client.again();
            let done = &done;
            scope.spawn(move || {
                let frames = inc(&[number]).repeat(1_000);
                while !done.load(Ordering::Relaxed) {
                    sender.send(&frames);
                }
                sender.half_close();
            });
            scope.spawn(move || while client.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {});
        }
        // Stops the other threads even if this one panics, or the failure would never be reported.
        let _done = OnDrop(|| done.store(true, Ordering::Relaxed));
        unnoticed(&server, &mut Client::tcp(&server), Duration::from_millis(500));
    });
}

/// Both have asked when the server wakes up, the one who asks much first.
#[test]
fn who_asks_little_is_answered_before_who_asks_much() {
    let server = Server::start(&[]);
    let (mut much, mut little) = (Client::tcp(&server), Client::tcp(&server));
    for client in [&mut much, &mut little] {
        client.check(&set(b"key", b"0"), b"OK\r\n");
    }
    at_once(&server, || {
        much.send(&inc(b"key").repeat(100));
        little.send(&get(b"key"));
    });
    little.expect(b"0\r\n");
    little.check(&get(b"key"), b"100\r\n");
}

/// As many clients as a turn serves have asked when the server wakes up, and those who ask little could use it up.
#[test]
fn who_asks_much_is_not_forgotten_over_many_who_ask_little() {
    let (server, mut much) = start(&[]);
    let mut little = Client::many(&server, 31);
    for client in [&mut much].into_iter().chain(&mut little) {
        client.check(&get(b"missing"), b"ERR\r\n");
    }
    at_once(&server, || {
        for (number, client) in little.iter_mut().enumerate() {
            let frames: Vec<_> = (0..9).map(|at| set(format!("{number}-{at}").as_bytes(), b"v")).collect();
            client.send(&frames.concat());
        }
        much.send(&[get(b"missing").repeat(30), get(b"30-8")].concat());
    });
    much.expect(&b"ERR\r\n".repeat(31));
    little.iter_mut().for_each(|client| client.expect(&b"OK\r\n".repeat(9)));
    much.check(&get(b"30-8"), b"v\r\n");
}

#[test]
fn nobody_waits_for_a_long_transaction() {
    let server = Server::start(&[]);
    let (mut long, mut other) = (Client::tcp(&server), Client::tcp(&server));
    other.check(&get(b"19999"), b"ERR\r\n");
    let sets: String = (0..20_000).map(|id| format!("\nSET {id:05} v")).collect();
    long.check_beside(&words(&format!("MULTI{sets}")), false, &queued(20_000));
    at_once(&server, || {
        long.send(&words("EXEC"));
        other.send(&get(b"19999"));
    });
    other.expect(b"ERR\r\n");
    long.expect(&[&b"*20000\r\n"[..], &b"+OK\r\n".repeat(20_000)].concat());
    other.check(&get(b"19999"), b"v\r\n");
}

/// A SCAN is more work than a turn has, and many others have asked for one.
#[test]
fn who_asks_much_does_not_wait_for_all_who_ask_little() {
    let (server, mut much) = start(&[]);
    much.fill(0..1_000, b"value");
    let mut others = Client::many(&server, 20);
    others.iter_mut().for_each(|other| other.check_words("PING", "+PONG\n"));
    at_once(&server, || {
        much.send(&inc(b"n").repeat(50));
        others.iter_mut().for_each(|other| other.send(&words("SCAN 0 COUNT 1000\nINCR n")));
    });
    let first = number(&much.read_text(), "");
    assert!(first < 10, "{first}");
}

/// One more asks for INFO than a turn serves, and each turn answers one: two of them could be the first by turns.
#[test]
fn whoever_a_turn_did_not_come_to_goes_first() {
    let (server, _client) = start(&["--max-memory", "256mb"]);
    let mut clients = Client::many(&server, TURN_CONNECTIONS + 1);
    clients.iter_mut().for_each(|client| client.check_words("PING", "+PONG\n"));
    let commands = words("INCR n\nINFO").repeat(7);
    at_once(&server, || clients.iter_mut().for_each(|client| client.send(&commands)));
    let second = |client: &mut Client| number(&[(); 14].map(|()| client.read_text())[2], ":");
    let last = clients.iter_mut().map(second).max().expect("a client");
    assert!(last < clients.len() * 4, "{last} commands came before the second of one client");
}

/// However much a transaction of few commands answers, nobody else's command comes between those.
#[test]
fn a_short_transaction_is_executed_in_one_go() {
    let (server, mut client) = start(&["--max-memory", "256mb"]);
    let mut other = Client::tcp(&server);
    other.check_words(&format!("SET value {}", "v".repeat(2_500)), "+OK\n");
    let set = format!("\nSET other {}", "v".repeat(1_000));
    for (count, between) in [(92, "\nGET value".repeat(90)), (1024, set.repeat(1022))] {
        client.check(&words(&format!("MULTI\nINCR a{between}\nINCR a")), &queued(count));
        at_once(&server, || {
            client.send(&words("EXEC"));
            other.send(&words("INCR a"));
        });
        let replies: Vec<_> = (0..=count).map(|_| client.read_text()).collect();
        assert_eq!(number(&replies[count], ":"), number(&replies[1], ":") + 1);
        other.read_text();
    }
}

/// Others have asked before and could take all that is written in many turns. What the server has written by then is told
/// by INFO, and the second one is answered only once the value between them is on its way.
#[test]
fn nobody_waits_for_those_who_are_sent_much() {
    // The second is sent much itself, and takes turns with the others.
    for (bytes, between_max) in [(100_000, 2 << 20), (1_000_000, 16 << 20)] {
        let (server, mut client) = start(&["--max-memory", "256mb"]);
        let value = vec![b'v'; bytes];
        client.check(&set(b"value", &value), b"OK\r\n");
        client.check(&set(b"large", &vec![b'l'; 1_000_000]), b"OK\r\n");
        let (mut others, mut asker) = (Client::many(&server, 8), Client::tcp(&server));
        others.iter_mut().for_each(|other| other.check(&get(b"none"), b"ERR\r\n"));
        asker.check_words("PING", "+PONG\n");
        at_once(&server, || {
            others.iter_mut().for_each(|other| other.send(&get(b"large").repeat(10)));
            asker.send(&words("INFO stats\nGET value\nINFO stats"));
        });
        let written = |text: String| number(&text, "total_net_output_bytes:");
        let before = written(asker.read_text());
        asker.expect(&bulk(&value));
        let between = written(asker.read_text()) - before;
        assert!(between < between_max, "{between} bytes were written before {bytes} were on their way");
    }
}

/// Any of those who are sent much could be all that a turn writes. A witness, who is answered once in each turn, tells
/// when the last byte for another was written.
#[test]
fn a_short_reply_waits_for_no_long_one() {
    let (server, mut client) = start(&[]);
    client.check(&set(b"long", &vec![b'v'; 1_000_000]), b"OK\r\n");
    let [mut others, mut two] = [20, 2].map(|count| Client::many(&server, count));
    others.iter_mut().for_each(|other| other.check(&get(b"none"), b"ERR\r\n"));
    two.iter_mut().for_each(|client| client.check_words("PING", "+PONG\n"));
    at_once(&server, || {
        others.iter_mut().for_each(|other| other.send(&get(b"long")));
        two[0].send(&words("QUIT"));
        two[1].send(&words("INFO clients").repeat(20));
    });
    let connected: Vec<_> = (0..20).map(|_| number(&two[1].read_text(), "connected_clients:")).collect();
    // What the others ask for may be more work than is done before it in the first turns.
    assert_eq!(connected[4..], [22; 16], "{connected:?}");
}

/// However many connect at one address, who connects at another is accepted among the first.
#[test]
fn nobody_waits_for_a_crowd_at_another_address() {
    let dir = socket_dir();
    let path = dir.path().join("socket");
    let server = Server::start(&["--unix-socket", path.to_str().expect("a plain path")]);
    let (mut crowd, mut other) = (Vec::new(), None);
    at_once(&server, || {
        crowd = Client::many(&server, 100);
        crowd.iter_mut().for_each(|client| client.send(&inc(b"key")));
        other.insert(Client::unix(&path)).send(&inc(b"key"));
    });
    let number = number(&other.expect("just connected").read_text(), "");
    assert!(number < 50, "it was number {number}");
}

#[test]
fn nobody_waits_for_a_byte_at_a_time() {
    let (server, mut bystander) = start(&[]);
    let mut slow = Client::many(&server, 50);
    let frame = inc(b"slow");
    for byte in &frame {
        slow.iter_mut().for_each(|client| client.send(&[*byte]));
        unnoticed(&server, &mut bystander, Duration::from_millis(20));
    }
    for (number, client) in slow.iter_mut().enumerate() {
        client.expect(format!("{}\r\n", number + 1).as_bytes());
    }
}

/// Output has a bound: the server stops reading someone who does not read, and goes on when he does.
#[test]
fn a_client_that_never_reads_costs_little_and_gets_everything_later() {
    const REPLIES: usize = 2_000;
    let (server, mut bystander) = start(&["--max-memory", "1gb"]);
    let (old, new) = (vec![b'o'; LARGE_VALUE_BYTES], vec![b'n'; LARGE_VALUE_BYTES]);
    bystander.check(&set(b"key", &old), b"OK\r\n");
    let before = peak_resident_bytes(&server);

    let mut client = Client::tcp(&server);
    client.send(&get(b"key").repeat(REPLIES));
    wait_until_quiet(&server);
    unnoticed(&server, &mut bystander, Duration::from_millis(100));
    // What is on its way must not change under it.
    bystander.check(&set(b"key", &new), b"OK\r\n");
    bystander.check(&del(b"key"), b"OK\r\n");
    bystander.check(&set(b"key", &new), b"OK\r\n");
    let grown = peak_resident_bytes(&server) - before;
    assert!(grown < 16 << 20, "{grown} bytes for one client that does not read");

    // Each reply is one value from end to end, first the old one.
    let first_byte = |client: &mut Client| {
        let mut byte = [0];
        client.read(&mut byte).expect("the rest of the replies");
        byte[0]
    };
    let mut turned = false;
    for _ in 0..REPLIES {
        turned |= first_byte(&mut client) == b'n';
        client.expect(&line(if turned { &new } else { &old })[1..]);
    }
    assert!(turned, "all replies were held at once");
    client.check(&inc(b"number"), b"1\r\n");
}

#[test]
fn a_half_closed_client_gets_every_reply() {
    let (server, mut bystander) = start(&[]);
    let mut waits = || !bystander.text("CLIENT LIST").lines().all(|line| line.contains(" omem=0 "));
    // What waits in the end is more than the high-water mark and requests, or only the last reply or two.
    for (bytes, at_once) in [(LARGE_VALUE_BYTES, 200), (20_000, 1)] {
        let (value, mut client) = (vec![b'v'; bytes], Client::tcp(&server));
        client.check(&set(b"key", &value), b"OK\r\n");
        let mut count = 0;
        // Once is not enough: what is executed in the turn that answers this has not been sent yet.
        while !(waits() && waits()) {
            client.send(&get(b"key").repeat(at_once));
            count += at_once;
        }
        client.send(&inc(b"unfinished")[..8]);
        client.half_close();
        wait_until_quiet(&server);
        (0..count).for_each(|_| client.expect(&line(&value)));
        client.expect_end();
    }
}

#[test]
fn those_who_have_gone_leave_nothing_behind() {
    // All connections' buffers together are bound to an eighth of this, much less than what is sent here.
    let (server, mut bystander) = start(&["--max-memory", "16mb"]);
    bystander.check(&inc(b"key"), b"1\r\n");
    let before = descriptors(&server);
    let mut random = Random::new(1);
    // One is received whole before it is looked at, the other in pieces.
    let (small, large) = (set(b"key", &vec![b'v'; 30_000]), set(b"key", &vec![b'v'; LARGE_VALUE_BYTES]));
    for _ in 0..900 {
        let mut client = Client::tcp(&server);
        match random.below(4) {
            0 => client.send(&small[..15_000 + random.below(15_000)]),
            1 => client.send(&large[..random.below(large.len())]),
            2 => client.send(&get(b"key").repeat(random.below(100))),
            _ => (),
        }
        // A reset takes back what has not been read yet, so mostly it has been.
        if !random.once_in(4) {
            bystander.check(&get(b"no such key"), b"ERR\r\n");
        }
        if random.once_in(3) { drop(client) } else { client.reset() }
    }
    wait_until("every connection that has ended to be freed", || descriptors(&server) == before);
    // Had the buffers not been counted back, a client among several would have no room for this.
    let mut others = Client::many(&server, 9);
    others.iter_mut().for_each(|client| client.check(&get(b"no such key"), b"ERR\r\n"));
    let value = vec![b'v'; 1 << 20];
    bystander.check(&set(b"key", &value), b"OK\r\n");
    bystander.check(&get(b"key"), &line(&value));
}

#[test]
fn an_idle_client_is_closed_and_a_busy_one_is_not() {
    let server = Server::start(&["--idle-timeout", "2"]);
    let since = Instant::now();
    let mut idle = Client::tcp(&server);
    let mut half = Client::tcp(&server);
    half.send(b"INC\x003\0ke");
    let mut busy = Client::tcp(&server);
    // The idle one is waited for on the side, so that the busy one never pauses.
    scope(|scope| {
        let idle = scope.spawn(move || {
            idle.expect_end();
            half.expect_end();
            since.elapsed()
        });
        let mut number = 0;
        while !idle.is_finished() || since.elapsed() < Duration::from_secs(3) {
            number += 1;
            busy.check(&inc(b"busy"), format!("{number}\r\n").as_bytes());
            sleep(Duration::from_millis(50));
        }
        let waited = idle.join().expect("idle clients are closed in order");
        assert!(waited >= Duration::from_millis(1_900), "closed after {waited:?}");
    });
}

/// As when a container is paused: all timeouts have run out then, but nobody's request has been read.
#[test]
fn who_spoke_while_the_server_was_stopped_is_not_idle() {
    let server = Server::start(&["--idle-timeout", "2"]);
    let mut clients = Client::many(&server, 400);
    clients.iter_mut().for_each(|client| client.send(&get(b"key")));
    clients.iter_mut().for_each(|client| client.expect(b"ERR\r\n"));
    at_once(&server, || {
        clients.iter_mut().for_each(|client| client.send(&get(b"key")));
        sleep(Duration::from_millis(2_500));
    });
    clients.iter_mut().for_each(|client| client.expect(b"ERR\r\n"));
}

/// Nor may anybody be closed then for what buffers took before. These read all the time; all of what they are sent has
/// been overwritten, and so counts until it is sent.
#[test]
fn who_read_while_the_server_was_stopped_is_not_closed_for_buffers() {
    let (server, mut writer) = start(&["--max-memory", "64mb"]);
    let value = ask(&[b"SET", &b"key"[..], &vec![b'v'; 1 << 20]]);
    let bytes_max = (64 << 20) / VALUE_SHARE + BUFFER_EXTRA_BYTES;
    let mut readers = Vec::new();
    writer.check(&value, b"+OK\r\n");
    while writer.info("loop_bytes_waiting:") < bytes_max {
        let mut reader = Client::tcp(&server);
        reader.check(&get(b"key"), b"v");
        readers.push(reader);
        writer.check(&value, b"+OK\r\n");
    }
    sleep(Duration::from_millis(PRESSURE_MILLIS / 2)); // half of what closes the largest
    at_once(&server, || sleep(Duration::from_millis(PRESSURE_MILLIS + 200)));
    readers.iter_mut().for_each(|reader| reader.expect(&line(&vec![b'v'; (1 << 20) - 1])));
}

/// Clients that read nothing are few enough for buffers where each leaves little more than the high-water mark unread.
#[test]
fn who_reads_nothing_is_not_closed_while_there_is_room() {
    let (server, mut witness) = start(&["--max-memory", "256mb"]);
    let mut clients = Client::many(&server, 180);
    let (key, value) = (b"key", [b'v'; 30_000]);
    clients[0].check(&set(key, &value), b"OK\r\n");
    clients.iter_mut().for_each(|client| client.send(&get(key).repeat(50)));
    sleep(Duration::from_millis(PRESSURE_MILLIS + 3 * TICK_MILLIS));
    assert_eq!(witness.info("client_disconnections:"), 0, "some were closed");
    clients.iter_mut().for_each(|client| client.expect(&line(&value).repeat(50)));
}

/// Nor does anybody lose the place in line. Only one of these has room: the first, whose last half is sent meanwhile.
#[test]
fn who_is_received_while_the_server_is_stopped_is_still_the_first() {
    let (server, mut first) = start(&["--max-memory", "16mb"]);
    let (mut second, mut other) = (Client::tcp(&server), Client::tcp(&server));
    let (ones, twos) = (set(b"key", &vec![b'1'; 2 << 20]), set(b"key", &vec![b'2'; 2 << 20]));
    let (begun, rest) = ones.split_at(1 << 20);
    first.send(begun);
    wait_until("half of the first to come in", || other.info("mem_clients_normal:") >= 1 << 20);
    second.send(&twos[..200_000]);
    wait_until_quiet(&server);
    let (mut sender, mut second_sender) = (first.again(), second.again());
    scope(|scope| {
        at_once(&server, || {
            scope.spawn(move || sender.send(rest));
            scope.spawn(|| second_sender.send(&twos[200_000..]));
            sleep(Duration::from_millis(PRESSURE_MILLIS + 200));
        });
    });
    first.expect(b"OK\r\n");
    second.expect(b"OK\r\n");
    assert_eq!(&other.text("GET key")[..1], "2", "the second was received first");
}

/// There is room for one of these values at a time. Who sends the first slowly is closed as idle, but not who waits for it.
#[test]
fn who_waits_in_line_is_not_idle() {
    let server = Server::start(&["--max-memory", "16mb", "--idle-timeout", "2"]);
    let (mut waits, mut other) = (Client::tcp(&server), Client::tcp(&server));
    let frame = set(b"key", &vec![b'v'; 1_800_000]);
    sleep(Duration::from_millis(500));
    let mut slow = Client::tcp(&server);
    slow.send(&frame[..1_000_000]);
    wait_until("half of the first to come in", || other.info("mem_clients_normal:") >= 900_000);
    scope(|scope| {
        let mut sender = waits.again();
        scope.spawn(|| {
            let pieces = &mut frame[1_000_000..].chunks(10_000);
            while pieces.next().is_some_and(|piece| slow.try_send(piece).is_ok()) {
                sleep(Duration::from_millis(60));
            }
        });
        let frame = &frame;
        scope.spawn(move || _ = sender.try_send(frame));
        waits.expect(b"OK\r\n");
    });
}

/// Each sends the beginning of a transaction and pauses, for which that has earned it some thirty milliseconds.
#[test]
fn who_pauses_in_line_holds_up_others_for_less_than_a_tick() {
    let (server, _client) = start(&["--max-memory", "8mb"]);
    let mut clients = Client::many(&server, 300);
    let begun = words(&format!("MULTI{}", "\nGET key".repeat(100)));
    let since = Instant::now();
    clients.iter_mut().for_each(|client| client.send(&begun));
    clients.iter_mut().for_each(|client| client.expect(&queued(100)));
    let ticks = since.elapsed().as_millis() as u64 / TICK_MILLIS;
    assert!(ticks < 150, "{ticks} ticks");
}

#[test]
fn the_log_says_which_client_was_closed_and_why() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let client = server.connect();
    let address = client.local_addr().expect("a TCP socket has one");
    server.wait_for_stderr(&format!("a client was closed: {address}: it sent no command for idle-timeout\n"));
    server.signal(Signal::USR1);
    server.wait_for_stderr(" connections=1 refused=0 closed=1 ");
}

/// Bytes are not commands: who sends one at a time is idle all the same.
#[test]
fn trickling_does_not_count_as_busy() {
    let open = Server::start(&["--idle-timeout", "1"]);
    let closed = Server::start(&["--idle-timeout", "1", "--password", "x"]);
    let beginnings: [(&Server, &[u8]); 3] = [
        (&open, b"SET\x003\0key\x001000000\0"),
        (&open, b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$60000\r\n"),
        (&closed, b"*2\r\n$4\r\nAUTH\r\n$16000\r\n"),
    ];
    let mut clients = beginnings.map(|(server, beginning)| {
        let mut client = Client::tcp(server);
        client.send(beginning);
        Some(client)
    });
    let since = Instant::now();
    while clients.iter().any(Option::is_some) {
        clients.iter_mut().for_each(|client| _ = client.take_if(|client| client.try_send(b"v").is_err()));
        assert!(since.elapsed() < PATIENCE, "a client that completes nothing is never idle");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let (server, mut other) = start(&["--stall-timeout", "1"]);
    other.check(&set(b"large", &vec![b'l'; LARGE_VALUE_BYTES]), b"OK\r\n");
    let before = descriptors(&server);
    let mut stuck = Client::tcp(&server);
    stuck.check(&inc(b"number"), b"1\r\n");
    stuck.send(&get(b"large").repeat(500));
    wait_until("the stuck client to be closed", || descriptors(&server) == before);
    other.check(&inc(b"number"), b"2\r\n");
    // Nobody is stuck any more, so nothing is left that time makes due.
    wait_until("the server to sleep through three ticks", || {
        let wakes = || server.status_line("voluntary_ctxt_switches");
        let before = wakes();
        sleep(3 * Duration::from_millis(TICK_MILLIS));
        wakes() == before
    });
}

/// Room for less than the poll reports is room: who reads a little all the time is not stuck.
#[test]
fn who_reads_slowly_all_the_time_is_not_closed() {
    let (_server, mut slow) = start(&["--stall-timeout", "1", "--max-memory", "256mb"]);
    let value = vec![b'v'; 8 << 20];
    slow.check(&set(b"key", &value), b"OK\r\n");
    slow.send(&get(b"key"));
    // The poll would report room after about a megabyte, which takes longer than the timeout.
    let (slowly, rest) = value.split_at(800_000);
    for piece in slowly.chunks(20_000) {
        slow.expect(piece);
        sleep(Duration::from_millis(80));
    }
    slow.check(&inc(b"number"), &[&line(rest)[..], b"1\r\n"].concat());
}

/// A client is not idle while it reads a long reply.
#[test]
fn who_has_just_got_a_long_reply_is_not_idle() {
    const VALUE_BYTES: usize = 32 << 20;
    let (server, mut slow) = start(&["--max-value-size", "32mb", "--max-memory", "1gb"]);
    let value = vec![b'v'; VALUE_BYTES];
    slow.check(&set(b"key", &value), b"OK\r\n");
    // Who sends a command is idle until its end, which may have taken longer than this.
    Client::tcp(&server).check_words("CONFIG SET timeout 2", "+OK\n");
    slow.send(&get(b"key"));
    let (most, rest) = value.split_at(VALUE_BYTES / 8);
    for piece in most.chunks(most.len() / 40) {
        slow.expect(piece);
        sleep(Duration::from_millis(65));
    }
    slow.expect(&line(rest));
    sleep(Duration::from_millis(700));
    slow.check(&inc(b"number"), b"1\r\n");
}

/// To close three thousand in ten turns takes 100 us of each.
#[test]
fn who_is_idle_is_closed_over_many_turns() {
    let (server, mut client) = start(&[]);
    let _others = Client::many(&server, 3_000);
    // To connect them all may take longer than this.
    client.check_words("CONFIG SET timeout 1", "+OK\n");
    let mut look = || {
        let info = client.text("INFO");
        ["connected_clients:", "loop_turns:"].map(|field| number(&info, field))
    };
    let mut last = look();
    while last[0] > 1 {
        let next = look();
        let (closed, turns) = (last[0].saturating_sub(next[0]), next[1] - last[1]);
        assert!(closed <= 40 * turns, "{closed} in {turns} turns");
        last = next;
    }
}

/// A pipeline that does not end has its client on the ready queue when the other one comes to disconnect it.
#[test]
fn clients_with_work_waiting_are_disconnected_once() {
    let (server, mut other) = start(&[]);
    for _ in 0..20 {
        let mut busy = Client::many(&server, 4);
        busy.iter_mut().for_each(|client| client.send(&inc(b"key").repeat(50_000)));
        other.check_words("CLIENT KILL TYPE normal", ":4\n");
    }
}

/// A value fills a turn. Each of them has set one before, so the server knows who brings much.
#[test]
fn who_asks_little_does_not_wait_for_all_who_set_large_values() {
    let (server, mut client) = start(&[]);
    // The first makes a frame as long as what is read at once, so that the next visit finds nothing.
    for bytes in [8_175, 20_000, 60_000] {
        client.check_words("FLUSHALL", "+OK\n");
        let mut others = Client::many(&server, 40);
        others.iter_mut().for_each(|other| other.check(&set(b"key", &vec![b'v'; bytes]), b"OK\r\n"));
        at_once(&server, || {
            (0..40).for_each(|number: u8| others[usize::from(number)].send(&set(&[number], &vec![b'v'; bytes])));
            client.send(&words("DBSIZE"));
        });
        let keys = number(&client.read_text(), ":");
        assert!(keys < 10, "{keys} keys were set before");
        others.iter_mut().for_each(|other| other.expect(b"OK\r\n"));
    }
}

/// They fill every turn, and whoever only now brings much is not known for that yet: somebody is always new.
#[test]
fn who_brought_much_before_does_not_wait_for_all_who_bring_it_for_the_first_time() {
    let (server, mut client) = start(&[]);
    let mut others = Client::many(&server, 200);
    others.iter_mut().for_each(|other| other.check(&get(b"n"), b"ERR\r\n"));
    client.check(&set(b"key", &[b'v'; 8_000]), b"OK\r\n");
    at_once(&server, || {
        client.send(&inc(b"n"));
        others.iter_mut().for_each(|other| other.send(&[set(b"key", &[b'v'; 8_000]), inc(b"n")].concat()));
    });
    let before = number(&client.read_text(), "") - 1;
    assert!(before < 10, "{before} were served before");
}

/// To free what sixty clients held takes milliseconds, which nobody else is to wait for in one piece.
#[test]
fn what_many_clients_held_is_freed_over_many_turns() {
    let (server, mut client) = start(&[]);
    let frame = ask(&[b"NOSUCH".as_slice(), &[b'a'; 50_000], &[b'b'; 60_000]]);
    let hold = |sent: &[u8]| {
        let mut others = Client::many(&server, 60);
        others.iter_mut().for_each(|other| other.send(sent));
        wait_until_quiet(&server);
        others
    };
    let others = hold(&frame[..100_000]);
    client.send(&words("INFO loop\nCLIENT KILL TYPE normal\nINFO loop"));
    let before = number(&client.read_text(), "loop_turns:");
    client.expect(b":60\r\n");
    assert!(number(&client.read_text(), "loop_turns:") >= before + 10);
    drop(others);
    for leave in [drop, Client::reset] {
        let others = hold(&frame[..100_000]);
        let before = client.info("loop_turns:");
        at_once(&server, || others.into_iter().for_each(leave));
        wait_until("all of them to be gone", || client.info("connected_clients:") == 1);
        let turns = client.info("loop_turns:") - before;
        assert!(turns >= 40, "{turns} turns");
    }
    // Those that are sent more than they read are found to be gone when they are written to.
    client.check(&ask(&["SET", "key", &"v".repeat(30_000)]), b"+OK\r\n");
    let others = hold(&words("GET key").repeat(80));
    at_once(&server, || {
        others.into_iter().for_each(Client::reset);
        client.send(&words("INFO clients"));
    });
    assert!(number(&client.read_text(), "connected_clients:") > 40);
}

/// An INFO takes 50 us, and some ask for it with little else, others behind much else.
#[test]
fn a_turn_answers_one_question() {
    let server = Server::start(&[]);
    let mut clients = Client::many(&server, 20);
    clients.iter_mut().for_each(|client| client.check_words("PING", "+PONG\n"));
    at_once(&server, || {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&[words("PING").repeat(number % 2 * 30), words("INFO loop")].concat());
        }
    });
    let mut turns: Vec<_> = (clients.iter_mut().enumerate())
        .map(|(at, client)| {
            client.expect(&b"+PONG\r\n".repeat(at % 2 * 30));
            number(&client.read_text(), "loop_turns:")
        })
        .collect();
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns.len(), clients.len());
}

/// Slow readers that hold far more than buffers may take are closed for it, and nobody else is.
#[test]
fn slow_readers_cost_nobody_else_the_connection() {
    let (server, mut client) = start(&["--max-memory", "16mb"]);
    let value = vec![b'v'; 3 * LARGE_VALUE_BYTES];
    for number in 0..20 {
        client.check(&set(format!("large{number}").as_bytes(), &value), b"OK\r\n");
    }
    let _slow: Vec<_> = (0..200)
        .map(|number| {
            let mut slow = Client::tcp(&server);
            slow.send(&get(format!("large{}", number % 20).as_bytes()).repeat(20));
            slow
        })
        .collect();
    for part in 0..100 {
        let sets: Vec<u8> =
            (0..1000).flat_map(|number| set(format!("{part}:{number}").as_bytes(), &[0; 100])).collect();
        let mut sender = client.again();
        scope(|scope| {
            scope.spawn(move || sender.send(&sets));
            // While others hold the memory, a write may find none.
            for _ in 0..1000 {
                let reply = client.read_line();
                assert!(matches!(&reply[..], b"OK\r\n" | b"ERR\r\n"), "{}", reply.escape_ascii());
            }
        });
    }
}

/// Round trips for at least `time`; none may take long, however long the machine has both sides wait for a core.
#[track_caller]
fn unnoticed(server: &Server, client: &mut Client, time: Duration) {
    let start = Instant::now();
    let mut worst = Duration::ZERO;
    while start.elapsed() < time {
        let (since, before) = (Instant::now(), core_wait(server));
        client.check(&get(b"no such key"), b"ERR\r\n");
        worst = worst.max(since.elapsed().saturating_sub(core_wait(server) - before));
    }
    assert!(worst < UNNOTICED, "a bystander waited {worst:?}");
}

/// A container's limit counts what the kernel holds for clients. This one sends values so fast that the kernel would get
/// ready for more and more of them, and then leaves its replies unread, so that the server reads nothing either.
#[test]
fn in_a_small_server_the_kernel_holds_little_for_a_client() -> io::Result<()> {
    // The machine may have much, so the shell grants fewer addresses: little is left beside the server then.
    let server =
        Server::start_by(shell("ulimit -v 600000; exec \"$@\"").args(FREE_PORT).args(["--max-memory", "16mb"]));
    let mut client = server.connect();
    SockRef::from(&client).set_send_buffer_size(65_536)?;
    let value = set(b"key", &vec![b'v'; LARGE_VALUE_BYTES * 10]);
    for _ in 0..50 {
        client.write_all(&value)?;
        client.read_exact(&mut [0; 4])?;
    }
    client.write_all(&get(b"key").repeat(10))?;
    wait_until_quiet(&server);
    let sent = Client::tcp(&server).info("total_net_output_bytes:");
    assert!(sent < 1_500_000, "the kernel took {sent} bytes of replies");
    client.set_write_timeout(Some(Duration::from_millis(500)))?;
    let mut taken = 0;
    while taken < 10_000_000
        && let Ok(count) = client.write(&value)
    {
        taken += count;
    }
    assert!(taken < 600_000, "the kernel took {taken} bytes of input");
    Ok(())
}

pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
