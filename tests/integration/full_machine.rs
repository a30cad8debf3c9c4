//! What is left when something runs out: descriptors, places for clients, memory for what is half received. The
//! server goes on with what it has, without spinning, and takes more as soon as there is room.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::scope;
use std::time::{Duration, Instant};

use gostash::limits::{BUFFER_EXTRA_BYTES, DESCRIPTORS_RESERVED, TICK_MILLIS, VALUE_SHARE};

use crate::bad_clients::OnDrop;
use crate::client::{Client, ask, bulk, del, get, inc, line, number, queued, set, start, words};
use crate::process::{
    at_once, cpu_share, descriptors, limit_descriptors, page_faults, peak_resident_bytes, resident_bytes,
    wait_until_quiet,
};
use crate::random::Random;
use crate::server::{Server, socket_dir, wait_until};

/// What is given back to the system comes back page by page, in longer than it takes to fill it.
#[test]
fn what_a_full_store_frees_is_used_again() {
    let server = Server::start(&["--max-memory", "32mb"]);
    let (mut client, mut random) = (Client::tcp(&server), Random::new(1));
    let mut faults = || {
        for _ in 0..12_000 {
            let (key, bits) = (random.below(30_000).to_string(), random.below(17));
            client.check(&set(key.as_bytes(), &vec![b'v'; random.below(1 << bits)]), b"OK\r\n");
        }
        page_faults(&server)
    };
    let [before, after] = [(); 2].map(|()| faults());
    assert!(after - before < 4_000, "{} pages touched anew by 12,000 SETs", after - before);
}

/// Nor is a buffer of long replies got anew each time, though a turn writes only so much and answers only so many.
#[test]
fn buffers_of_long_replies_are_used_again() {
    for length in [20_000, 30_000] {
        let server = Server::start(&[]);
        let mut clients = Client::many(&server, 20);
        // A pipeline takes several turns: at first it is a long visit, and at last a short one.
        let (key, value) = ([b'k'; 30], vec![b'v'; length]);
        clients[0].check(&set(&key, &value), b"OK\r\n");
        let mut faults = || {
            for _ in 0..20 {
                clients.iter_mut().for_each(|client| client.send(&get(&key).repeat(16)));
                clients.iter_mut().for_each(|client| client.expect(&line(&value).repeat(16)));
            }
            page_faults(&server)
        };
        let [before, after] = [(); 2].map(|()| faults());
        assert!(after - before < 1_000, "{} pages touched anew by 6,400 GETs of {length} bytes", after - before);
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = Server::start(&["--max-clients", "4"]);
    let mut clients = Client::many(&server, 4);
    for (number, client) in clients.iter_mut().enumerate() {
        client.check(&inc(b"key"), format!("{}\r\n", number + 1).as_bytes());
    }
    let mut silent = Client::tcp(&server);
    silent.expect(b"ERR\r\n");
    silent.expect_end();
    // One that has much to say must be able to read the refusal, too; none of it is carried out.
    let mut talking = Client::tcp(&server);
    let _ = talking.try_send(&inc(b"key").repeat(10_000));
    talking.expect(b"ERR\r\n");
    talking.expect_end();
    clients[0].check(&inc(b"key"), b"5\r\n");
    // A place that becomes free is given to the next.
    clients.pop();
    wait_until("room for a new client", || {
        let mut client = Client::tcp(&server);
        client.try_send(&set(b"key", b"1")).is_ok() && client.read_line() == b"OK\r\n"
    });
}

/// However many are refused, they take no place, not even until they have been told.
#[test]
fn who_is_refused_is_never_counted() {
    let (server, mut client) = start(&["--max-clients", "1"]);
    client.check_words("PING", "+PONG\n");
    let mut crowd = Vec::new();
    at_once(&server, || {
        client.send(&words("INFO clients").repeat(20));
        crowd = Client::many(&server, 100);
    });
    for _ in 0..20 {
        assert_eq!(number(&client.read_text(), "connected_clients:"), 1);
    }
}

/// Those who have left make room for those who have come, even if the server finds out about both at once.
#[test]
fn who_leaves_gives_up_the_place_before_who_comes_is_counted() {
    let server = Server::start(&["--max-clients", "4"]);
    let mut clients = Client::many(&server, 4);
    clients.iter_mut().for_each(|client| client.check(&set(b"key", b"0"), b"OK\r\n"));
    wait_until_quiet(&server);
    at_once(&server, || {
        clients.clear();
        clients = Client::many(&server, 4);
    });
    clients.iter_mut().for_each(|client| client.check(&get(b"key"), b"0\r\n"));
}

/// Closing takes longer than accepting, and a socket that waits to be closed still has its descriptor.
#[test]
fn clients_that_all_reconnect_find_descriptors() {
    const CLIENTS: usize = 300;
    let server = Server::start(&["--max-clients", &CLIENTS.to_string()]);
    limit_descriptors(&server, (CLIENTS + DESCRIPTORS_RESERVED) as u64);
    let mut clients = Vec::new();
    for _ in 0..3 {
        wait_until_quiet(&server);
        at_once(&server, || {
            clients.clear();
            clients = Client::many(&server, CLIENTS);
        });
        clients.iter_mut().for_each(|client| client.check(&set(b"key", b"0"), b"OK\r\n"));
    }
    assert!(!server.stderr().contains("WARN"), "{}", server.stderr());
}

/// The descriptor limit falls below what is in use, as an operator or a full system table may have it.
#[test]
fn without_descriptors_the_connected_are_served_and_the_others_wait() {
    const CLIENTS: usize = 200;
    const DESCRIPTORS: u64 = 64;
    let server = Server::start(&["--max-clients", "1000"]);
    limit_descriptors(&server, DESCRIPTORS);
    // The kernel completes these connections whether or not the server accepts them.
    let mut clients = Client::many(&server, CLIENTS);
    clients.iter_mut().for_each(|client| client.send(&set(b"key", b"value")));
    wait_until("the server to run out", || descriptors(&server) as u64 >= DESCRIPTORS);

    // Connections are accepted in order, so the first ones are in.
    let share = cpu_share(&server);
    assert!(share < 0.3, "{share} of a core for clients that cannot be accepted");
    clients[0].check(&get(b"key"), b"OK\r\nvalue\r\n");
    clients[20].check(&inc(b"number"), b"OK\r\n1\r\n");
    drop(clients.drain(0..1));
    drop(clients.drain(19..20));
    for mut client in clients {
        client.expect(b"OK\r\n");
    }
    let mut late = Client::tcp(&server);
    late.check(&get(b"key"), b"value\r\n");
}

/// Half-sent values are memory, too: together they have a bound, and the largest gives way.
#[test]
fn half_sent_values_are_bounded_together() {
    const CLIENTS: usize = 7;
    const VALUE_BYTES: usize = 15 << 20;
    const BOUND_BYTES: usize = 64 << 20;
    const FITTING: usize = BOUND_BYTES / VALUE_BYTES;
    // An eighth of this is a little more.
    let (server, mut bystander) = start(&["--max-memory", "640mb"]);
    bystander.check(&inc(b"key"), b"1\r\n");
    let before = (peak_resident_bytes(&server), descriptors(&server));
    let value = vec![b'v'; VALUE_BYTES];
    let frame = set(b"large", &value);
    let (most, last) = frame.split_at(frame.len() - 1);
    scope(|scope| {
        let senders: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = Client::tcp(&server);
                client.check(&get(b"large"), b"ERR\r\n");
                scope.spawn(move || {
                    // It may be closed before all is sent.
                    let _ = client.try_send(most);
                    client
                })
            })
            .collect();
        wait_until("as many clients as fit to be left", || descriptors(&server) == before.1 + FITTING);
        bystander.check(&inc(b"key"), b"2\r\n");
        let mut served = 0;
        for sender in senders {
            let mut client = sender.join().expect("sending does not panic");
            served += usize::from(client.try_send(last).is_ok() && client.read_line() == b"OK\r\n");
        }
        assert_eq!(served, FITTING, "those who are left are served");
    });
    let grown = peak_resident_bytes(&server) - before.0;
    assert!(grown < BOUND_BYTES as u64 * 5 / 4, "{grown} bytes for half-sent values");
    bystander.check(&get(b"large"), &line(&value));
}

/// While buffers are a little over their bound, those who hold the least have time to go on.
#[test]
fn one_client_is_closed_in_each_tick() {
    let (server, mut client) = start(&["--max-memory", "16mb"]);
    // In the end they would hold 2.6 MB together, and the bound is 2.4 MB.
    let _half = half_sent(&server, 80);
    let mut before = Instant::now();
    wait_until("five to be closed", || {
        let now = Instant::now();
        let closed = client.info("client_disconnections:");
        before = if closed < 2 { now } else { before };
        closed >= 5
    });
    assert!(before.elapsed() > Duration::from_millis(TICK_MILLIS), "{:?}", before.elapsed());
}

/// Values that together are several times as long as all buffers may be come in one after the other, each to its end.
#[test]
fn long_values_stand_in_line() {
    const CLIENTS: usize = 24;
    let (server, mut bystander) = start(&["--max-memory", "16mb"]);
    let frame = set(b"key", &vec![b'v'; 500_000]);
    scope(|scope| {
        for mut client in Client::many(&server, CLIENTS) {
            let frame = &frame;
            scope.spawn(move || (0..3).for_each(|_| client.check(frame, b"OK\r\n")));
        }
    });
    bystander.check(&inc(b"number"), b"1\r\n");
    check_peak(&server);
}

/// Over a slow network, values come in side by side, and each to its end.
#[test]
fn long_values_come_in_slowly() {
    let (server, mut bystander) = start(&["--max-memory", "16mb"]);
    let mut clients = Client::many(&server, 12);
    for piece in set(b"key", &vec![b'v'; 300_000]).chunks(6_000) {
        clients.iter_mut().for_each(|client| client.send(piece));
        std::thread::sleep(Duration::from_millis(5));
    }
    clients.iter_mut().for_each(|client| client.expect(b"OK\r\n"));
    assert_eq!(bystander.info("client_disconnections:"), 0);
    check_peak(&server);
}

/// Nor does a crowd that sends slowly take more than has room: who has begun waits for the turn.
#[test]
fn a_crowd_of_long_values_comes_in_slowly() {
    let (server, mut bystander) = start(&["--max-memory", "16mb"]);
    let frame = set(b"key", &[b'v'; 120_000]);
    scope(|scope| {
        for mut client in Client::many(&server, 200) {
            let frame = &frame;
            scope.spawn(move || {
                frame.chunks(20_000).for_each(|piece| {
                    client.send(piece);
                    std::thread::sleep(Duration::from_millis(20));
                });
                client.expect(b"OK\r\n");
            });
        }
    });
    assert_eq!(bystander.info("client_disconnections:"), 0);
}

/// A client that is far away sends as much as the kernel lets it, and then nothing for a round trip. It keeps its place.
#[test]
fn a_round_trip_costs_nobody_the_turn() {
    const BURST_BYTES: usize = 60_000;
    let server = Server::start(&["--max-memory", "16mb"]);
    let _half = half_sent(&server, 12);
    let (mut far, mut near) = (Client::tcp(&server), Client::tcp(&server));
    // There is no room for both.
    let frames = [set(b"far", &[b'v'; 1_500_000]), set(b"near", &[b'v'; 1_000_000])];
    let (bursts, rest) = frames[0].split_at(4 * BURST_BYTES);
    let is_near_served = AtomicBool::new(false);
    let burst = |far: &mut Client, bytes: &[u8]| {
        far.send(bytes);
        std::thread::sleep(Duration::from_millis(260));
    };
    scope(|scope| {
        burst(&mut far, &bursts[..BURST_BYTES]);
        scope.spawn(|| {
            near.check_beside(&frames[1], false, b"OK\r\n");
            is_near_served.store(true, Relaxed);
        });
        bursts[BURST_BYTES..].chunks(BURST_BYTES).for_each(|bytes| burst(&mut far, bytes));
        let was_near_first = is_near_served.load(Relaxed);
        far.check(rest, b"OK\r\n");
        assert!(!was_near_first, "it lost its place in mid-value");
    });
}

/// Over the bound, nobody who holds more than a fair share is read from, but for those who have closed their side.
#[test]
fn who_holds_more_than_a_fair_share_is_not_read_from_over_the_bound() {
    let (server, mut writer) = start(&["--max-memory", "64mb"]);
    let mut clients = Client::many(&server, 300);
    writer.check(&ask(&[b"SET", &b"key"[..], &[b'v'; 20_000]]), b"+OK\r\n");
    let mut holders = clients.split_off(298);
    for holder in &mut holders {
        let address = holder.address();
        holder.check_words("PING", "+PONG\n");
        // More waits to be sent than a three hundredth of the bound, and less than the high-water mark.
        wait_until("a reply that the kernel does not take", || {
            holder.send(&words("GET key"));
            let list = writer.text("CLIENT LIST");
            let line = list.lines().find(|line| line.contains(&address)).expect("it is connected");
            number(line, "omem=") > 30_000
        });
    }
    let readers = over_the_bound(&server, &mut writer, "PING", 8);
    holders[0].send(&words("INCR open"));
    holders[1].send(&words("INCR closed"));
    holders[1].half_close();
    let is_over = |writer: &mut Client| writer.info("loop_bytes_waiting:") >= eighths(8);
    let mut is_served = [false; 2];
    while is_over(&mut writer) && !is_served[0] {
        is_served = ["closed", "open"].map(|key| writer.text(&format!("EXISTS {key}")) == ":1");
        assert!(!is_served[1] || !is_over(&mut writer), "more was read from it");
    }
    assert!(is_served[0] && writer.info("client_disconnections:") == 0, "who has closed was not served");
    drop(readers);
    wait_until("it to be read from again", || writer.text("EXISTS open") == ":1");
}

/// So many eighths of what all buffers may take in a server of 64 MB, in bytes.
fn eighths(count: usize) -> usize {
    ((64 << 20) / VALUE_SHARE + BUFFER_EXTRA_BYTES) / 8 * count
}

/// Clients that read nothing of a value that has been deleted, so many that buffers are a little over these eighths of
/// their bound. They say `greeting` before.
fn over_the_bound(server: &Server, writer: &mut Client, greeting: &str, count: usize) -> Vec<Client> {
    for number in 0..40 {
        writer.check(&ask(&[b"SET", format!("large {number}").as_bytes(), &vec![b'v'; 500_000]]), b"+OK\r\n");
    }
    let mut readers = Vec::new();
    // The kernel may still take some of what the last ones are sent.
    while (0..5).any(|_| writer.info("loop_bytes_waiting:") < eighths(count) + 400_000) {
        let key = format!("large {}", readers.len());
        let mut reader = Client::tcp(server);
        reader.text(greeting);
        reader.check(&ask(&["GET", &key]), b"$");
        readers.push(reader);
        writer.check(&ask(&["DEL", &key]), b":1\r\n");
    }
    readers
}

/// A client that alone keeps a deleted value alive holds it: who sends little is not closed.
#[test]
fn who_reads_nothing_is_closed_before_who_sends_a_value() {
    let (server, mut writer) = start(&["--max-memory", "64mb"]);
    let (mut sender, frame) = (Client::tcp(&server), set(b"key", &[b'v'; 200_000]));
    sender.send(&frame[..60_000]);
    let _readers = over_the_bound(&server, &mut writer, "PING", 8);
    wait_until("one to be closed", || writer.info("client_disconnections:") > 0);
    sender.check(&frame[60_000..], b"OK\r\n");
}

/// Who has sent no more than it takes to authenticate is not closed for what others hold.
#[test]
fn who_is_about_to_authenticate_is_not_closed_for_others() {
    let (server, mut writer) = start(&["--max-memory", "64mb", "--password", "secret"]);
    writer.check_words("AUTH secret", "+OK\n");
    let (mut stranger, frame) = (Client::tcp(&server), words("AUTH secret"));
    stranger.send(&frame[..frame.len() - 3]);
    let _readers = over_the_bound(&server, &mut writer, "AUTH secret", 8);
    wait_until("one to be closed", || writer.info("client_disconnections:") > 0);
    stranger.check(&frame[frame.len() - 3..], b"+OK\r\n");
}

/// Even while nobody's value may come in, those who have gone give back what they hold.
#[test]
fn who_leaves_in_line_is_found_out_over_the_bound() {
    let (server, mut writer) = start(&["--max-memory", "64mb"]);
    let mut sender = Client::tcp(&server);
    sender.send(&set(b"key", &vec![b'v'; 1_000_000])[..60_000]);
    let _readers = over_the_bound(&server, &mut writer, "PING", 9);
    let before = writer.info("connected_clients:");
    drop(sender);
    wait_until("anybody to have gone", || writer.info("connected_clients:") < before);
    assert_eq!(writer.info("client_disconnections:"), 0, "others were closed first");
}

/// The first in line is received though there is not room for all of it: those who hold the rest may never give it back.
#[test]
fn the_first_in_line_does_not_wait_for_room() {
    let server = Server::start(&["--max-memory", "16mb"]);
    let (mut half, mut client) = (Client::tcp(&server), Client::tcp(&server));
    half.send(&set(b"half", &[b'v'; 600_000])[..500_000]);
    wait_until_quiet(&server);
    client.check_beside(&set(b"key", &vec![b'v'; 1_900_000]), false, b"OK\r\n");
}

/// A crowd may all begin at once: what each has sent takes little memory until it is its turn.
#[test]
fn a_crowd_begins_to_send() {
    for bytes in [10_000, 40_000] {
        let (server, mut bystander) = start(&["--max-memory", "16mb"]);
        let frame = set(b"key", &vec![b'v'; bytes]);
        let mut clients = Client::many(&server, 500);
        at_once(&server, || clients.iter_mut().for_each(|client| client.send(&frame)));
        clients.iter_mut().for_each(|client| client.expect(b"OK\r\n"));
        assert_eq!(bystander.info("client_disconnections:"), 0);
        check_peak(&server);
    }
}

/// Who sends one long value after the other, without a pause, lets others have their turn after each.
#[test]
fn values_in_a_pipeline_hold_up_nobody() {
    let server = Server::start(&["--max-memory", "16mb"]);
    let mut stuck = Client::many(&server, 4);
    stuck.iter_mut().for_each(|client| client.send(&set(b"half", &[b'v'; 500_000])[..200_000]));
    let frame = set(b"many", &vec![b'v'; 300_000]);
    let is_over = AtomicBool::new(false);
    scope(|scope| {
        for mut sender in Client::many(&server, 2) {
            let mut reader = sender.again();
            let (frame, is_over) = (&frame, &is_over);
            scope.spawn(move || {
                while !is_over.load(Relaxed) && sender.try_send(frame).is_ok() {}
                sender.half_close();
            });
            scope.spawn(move || while reader.read_line() == b"OK\r\n" {});
        }
        check_long_sets(&server, 20, &is_over);
    });
}

/// A transaction keeps its place in line while others that are executed take all of a turn's work.
#[test]
fn long_transactions_stand_in_line() {
    const SETS: usize = 8_000;
    let server = Server::start(&["--max-memory", "16mb"]);
    let sets: Vec<u8> = (0..SETS).flat_map(|key| ask(&[b"SET", format!("{key}").as_bytes(), &[b'v'; 100]])).collect();
    let frames = [words("MULTI"), sets, words("EXEC")].concat();
    let replies = [queued(SETS), format!("*{SETS}\r\n").into(), b"+OK\r\n".repeat(SETS)].concat();
    scope(|scope| {
        for mut client in Client::many(&server, 30) {
            let (frames, replies) = (&frames, &replies);
            scope.spawn(move || client.check_beside(frames, false, replies));
        }
    });
}

/// Who sends a long value in drops gives way to those who send theirs at once.
#[test]
fn drops_hold_up_nobody() {
    let server = Server::start(&["--max-memory", "16mb"]);
    let mut slow = half_sent(&server, 40);
    let is_over = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                slow.iter_mut().for_each(|client| client.send(b"v"));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        check_long_sets(&server, 10, &is_over);
    });
}

/// Who pipelines long values stands in line for each of them, or others would wait until the pipeline has a gap.
#[test]
fn the_line_moves_on_after_each_value() {
    let (server, mut bystander) = start(&["--max-memory", "16mb"]);
    let _half = half_sent(&server, 12);
    let (mut much, mut other) = (Client::tcp(&server), Client::tcp(&server));
    let read = |text: String| number(&text, "total_net_input_bytes:");
    scope(|scope| {
        let value = [b'v'; 40_000];
        scope.spawn(move || much.check_beside(&set(b"much", &value).repeat(1_500), false, &b"OK\r\n".repeat(1_500)));
        wait_until("the pipeline to be on its way", || bystander.info("total_net_input_bytes:") > 4 << 20);
        at_once(&server, || {
            other.send(&[words("INFO stats"), ask(&[b"SET", &b"other"[..], &value]), words("INFO stats")].concat());
        });
        let before = read(other.read_text());
        other.expect(b"+OK\r\n");
        let between = read(other.read_text()) - before;
        assert!(between < 1 << 20, "{between} bytes were read while it waited");
    });
}

/// Values whose clients have closed their side stand in line like any others.
#[test]
fn half_closed_clients_stand_in_line() {
    let dir = socket_dir();
    let path = dir.path().join("socket");
    let server = Server::start(&["--max-memory", "16mb", "--unix-socket", path.to_str().expect("a plain path")]);
    let mut clients: Vec<_> = (0..60).map(|_| Client::unix(&path)).collect();
    clients.iter_mut().for_each(|client| client.check(&get(b"key"), b"ERR\r\n"));
    at_once(&server, || {
        for client in &mut clients {
            client.send(&set(b"key", &[b'v'; 100_000]));
            client.half_close();
        }
    });
    clients.iter_mut().for_each(|client| client.expect(b"OK\r\n"));
}

/// Who is sent what the store holds would free nothing by being closed, however much it is.
#[test]
fn who_reads_slowly_is_not_closed_for_those_who_send() {
    let (server, mut observer) = start(&["--max-memory", "16mb"]);
    let value = vec![b'v'; 1 << 20];
    observer.check(&ask(&[b"SET", &b"key"[..], &value]), b"+OK\r\n");
    let mut readers = Client::many(&server, 4);
    readers.iter_mut().for_each(|reader| reader.send(&get(b"key").repeat(20)));
    wait_until_quiet(&server);
    let _half = half_sent(&server, 84);
    wait_until("some to be closed", || observer.info("client_disconnections:") >= 6);
    readers.iter_mut().for_each(|reader| (0..20).for_each(|_| reader.expect(&line(&value))));
}

/// Stores long values while others send theirs until they are told that it is over. They must not hold it up.
#[track_caller]
fn check_long_sets(server: &Server, count: usize, is_over: &AtomicBool) {
    // Stops the other threads even if this one panics, or the failure would never be reported.
    let _over = OnDrop(|| is_over.store(true, Relaxed));
    let mut client = Client::tcp(server);
    let since = Instant::now();
    (0..count).for_each(|_| client.check(&set(b"own", &[b'v'; 100_000]), b"OK\r\n"));
    let elapsed = since.elapsed();
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}, where some milliseconds are enough");
}

/// Clients that have each sent the beginning of a value. It takes a piece of 32 KB, in a crowd once its turn has come.
fn half_sent(server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Client::many(server, count);
    clients.iter_mut().for_each(|client| client.send(&set(b"half", &[b'v'; 60_000])[..20_000]));
    clients
}

/// The longest value alone fills what buffers may take, and its client may pause all the same.
#[test]
fn the_longest_value_may_take_its_time() {
    let server = Server::start(&["--max-memory", "8mb"]);
    let frame = set(&[b'k'; 65_535], &vec![b'v'; 1 << 20]);
    let mut client = Client::tcp(&server);
    let (first, last) = frame.split_at(frame.len() - 3);
    client.send(first);
    std::thread::sleep(Duration::from_millis(1500));
    client.send(last);
    client.expect(b"OK\r\n");
}

/// However many leave a value half-sent, the process stays within its limit, and within a megabyte more at its worst.
#[test]
fn many_half_sent_values_stay_within_the_limit() {
    let (server, mut bystander) = start(&["--max-memory", "16mb"]);
    let value = vec![b'v'; 1_000_000];
    bystander.fill(0..32, &value);
    let half: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::tcp(&server);
            // It may be closed before all is sent.
            let _ = client.try_send(&set(b"half", &value)[..100_000]);
            client
        })
        .collect();
    bystander.fill(0..20_000, &value[..1_000]);
    check_peak(&server);
    drop(half);
    let keys = (0..20_000_u32).map(|number| number.to_le_bytes().to_vec());
    let mut other = Client::tcp(&server);
    other.send(&ask(&[b"EXISTS".to_vec()].into_iter().chain(keys).collect::<Vec<_>>()));
    let kept = number(&other.read_text(), ":");
    assert!(kept > 5_000, "only {kept} items are left beside them");
}

/// Those who fall silent in mid-value may each hold up the line for a second. What is short does not stand in it.
#[test]
fn nobody_waits_with_a_short_value_behind_half_sent_ones() {
    let (server, mut bystander) = start(&["--max-memory", "16mb"]);
    let long = set(b"long", &vec![b'v'; 1_000_000]);
    let mut half = Client::many(&server, 60);
    // There is room for two of these, and then for so little that each of all clients has less than the short value.
    half[..2].iter_mut().for_each(|client| client.send(&long[..990_000]));
    wait_until_quiet(&server);
    half[2..].iter_mut().for_each(|client| client.send(&long[..100_000]));
    bystander.fill(0..100, &[b'v'; 5_000]);
    let frame = ask(&[&b"SET"[..], b"key", &[b'v'; 5_000]]);
    Client::tcp(&server).check(&[words("MULTI"), frame, words("EXEC")].concat(), b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
}

/// Items of any size give way to those of any other: none is refused, and the process stays within its limit.
#[test]
fn every_size_gives_way_to_every_other() {
    const TINY: u32 = 400_000;
    let (server, mut client) = start(&["--max-memory", "16mb"]);
    let kinds = [(300, 100_000), (TINY, 2), (20_000, 1_000), (TINY, 3), (600, 20_000), (TINY, 2), (400, 32_000)];
    for (count, bytes) in kinds.into_iter().chain([(TINY, 3), (300, 100_000), (TINY, 2)]) {
        client.fill(0..count, &vec![b'v'; bytes]);
    }
    check_peak(&server);
    let kept = number(&Client::tcp(&server).text("DBSIZE"), ":");
    assert!(kept > 200_000, "{kept} tiny items have taken the place of all else");
}

fn full_of_tiny_items() -> Server {
    let server = Server::start(&["--max-memory", "16mb"]);
    Client::tcp(&server).fill(0..900_000, b"no");
    server
}

/// A transaction that needs more room than one command may make waits for it, too.
#[test]
fn a_transaction_finds_room() {
    let server = full_of_tiny_items();
    let mut other = Client::tcp(&server);
    let sets: Vec<u8> =
        (100..160).flat_map(|key: u32| ask(&[&b"SET"[..], &key.to_le_bytes(), &[b'v'; 20_000]])).collect();
    let replies = ["+OK\r\n", &"+QUEUED\r\n".repeat(60), "*60\r\n", &"+OK\r\n".repeat(60)].concat();
    other.check_beside(&[words("MULTI"), sets, words("EXEC")].concat(), false, replies.as_bytes());
}

/// Tiny items give way more slowly than replies are made.
#[test]
fn replies_stay_within_the_limit_beside_tiny_items() {
    let server = full_of_tiny_items();
    Client::tcp(&server).check(&set(b"large", &[b'v'; 30_000]), b"OK\r\n");
    let mut readers = Client::many(&server, 1_000);
    // They may be closed.
    readers.iter_mut().for_each(|reader| _ = reader.try_send(&get(b"large").repeat(200)));
    wait_until_quiet(&server);
    check_peak(&server);
}

/// What transactions queue takes memory from the store, however small its items are, and gives it back.
#[test]
fn long_transactions_stay_within_the_limit() {
    let server = full_of_tiny_items();
    let mut others = Client::many(&server, 20);
    let queue = |client: &mut Client, sets: usize, bytes: usize| {
        let value = vec![b'v'; bytes];
        let set = |key| ask(&[&b"SET"[..], format!("{:07}", 1_000_000 + key).as_bytes(), &value]);
        client.check_beside(&[words("MULTI"), (0..sets).flat_map(set).collect()].concat(), false, &queued(sets));
        check_peak(&server);
    };
    for (sets, bytes) in [(15_000, 100), (100, 20_000), (15, 100_000)] {
        queue(&mut others[0], sets, bytes);
        others[0].check_words("EXEC", &format!("*{sets}\n{}", "+OK\n".repeat(sets)));
    }
    others.iter_mut().for_each(|other| queue(other, 4, 20_000));
    others.iter_mut().for_each(|other| other.check_words("DISCARD", "+OK\n"));
    Client::tcp(&server).check(&set(b"key", b"value"), b"OK\r\n");
}

/// A limit that is lowered while nobody asks for anything is kept all the same.
#[test]
fn a_lowered_limit_is_kept_by_an_idle_server() {
    let server = Server::start(&["--max-memory", "64mb"]);
    Client::tcp(&server).fill(0..2_500, &[b'v'; 30_000]);
    Client::tcp(&server).check_words("CONFIG SET maxmemory 16777216", "+OK\n");
    wait_until("memory to be given back", || resident_bytes(&server) < 17 << 20);
}

/// Room for as many clients again takes no memory from items before there are any.
#[test]
fn only_places_of_clients_take_memory() {
    let (server, mut other) = start(&["--max-memory", "8mb"]);
    Client::tcp(&server).fill(0..60_000, &[b'v'; 100]);
    let mut clients = Vec::new();
    let [before, after] = [2_040, 2_060].map(|count| {
        clients.extend(Client::many(&server, count - clients.len()));
        wait_until("all to be accepted", || other.info("connected_clients:") > count);
        wait_until_quiet(&server);
        number(&other.text("DBSIZE"), ":")
    });
    assert!(before < after + 1_000, "{before} items beside 2,040 clients, and {after} beside 20 more");
}

/// Replies that many clients leave unread take memory, and so do the holes that stay in the heap when these have gone.
#[test]
fn many_slow_readers_stay_within_the_limit() {
    slow_readers(300_000, |_| ());
    // These are copied for each of them.
    slow_readers(30_000, |_| ());
}

/// How much memory the process takes is known even if no descriptor is left to ask the system with.
#[test]
fn without_descriptors_the_limit_on_memory_is_kept() {
    slow_readers(300_000, |server| {
        let mut client = Client::tcp(server);
        client.check_words("PING", "+PONG\n");
        limit_descriptors(server, 0);
        client.check_words("CONFIG SET timeout 0", "+OK\n");
        assert!(client.info("used_memory_rss:") > 0, "it does not know");
    });
}

/// Has 200 clients read slowly. `change` is called once they are connected.
fn slow_readers(large_bytes: usize, change: impl FnOnce(&Server)) {
    let (server, mut writer) = start(&["--max-memory", "16mb"]);
    writer.fill(0..100_000, &[b'v'; 32]);
    writer.fill(200_000..200_020, &vec![b'v'; large_bytes]);
    let mut readers = Client::many(&server, 200);
    change(&server);
    for (number, reader) in (0..).zip(&mut readers) {
        // It may be closed.
        let large = get(&(200_000 + number % 20_u32).to_le_bytes());
        let _ = reader.try_send(&large.repeat(6_000_000 / large_bytes));
    }
    writer.fill(300_000..400_000, &[b'v'; 100]);
    drop(readers);
    writer.fill(400_000..500_000, &[b'v'; 101]);
    check_peak(&server);
}

/// A full store that may not evict cannot make room for buffers, so it has left them theirs: what they come to when all
/// send at once, and the largest are closed for it.
#[test]
fn buffers_stay_within_the_limit_beside_a_full_store_that_may_not_evict() {
    for bytes in [20_000, 30_000] {
        let (server, mut writer) = start(&["--max-memory", "16mb", "--eviction", "none"]);
        writer.check(&set(b"large", &vec![b'v'; bytes]), b"OK\r\n");
        let is_refused = |number: u32| {
            writer.send(&set(&number.to_le_bytes(), &[b'v'; 1000]));
            writer.read_line() == b"ERR\r\n"
        };
        assert!((0..16_384).any(is_refused), "more was stored than there is room for");
        let mut readers = Client::many(&server, 200);
        // They may be closed.
        at_once(&server, || readers.iter_mut().for_each(|it| _ = it.try_send(&get(b"large").repeat(200))));
        wait_until_quiet(&server);
        check_peak(&server);
    }
}

/// Not even for the rest of its turn does CONFIG SET give items the room that is left to buffers.
#[test]
fn a_full_store_that_may_not_evict_stays_full_when_options_are_set() {
    let (server, mut writer) = start(&["--max-memory", "16mb", "--eviction", "none"]);
    let frame = |number: u32| set(&number.to_le_bytes(), &[b'v'; 1000]);
    let is_refused = |number: u32| {
        writer.send(&frame(number));
        writer.read_line() == b"ERR\r\n"
    };
    assert!((0..16_384).any(is_refused), "more was stored than there is room for");
    let mut operator = Client::tcp(&server);
    operator.check_words("PING", "+PONG\n");
    for option in ["timeout 60", "maxmemory 16777217"] {
        at_once(&server, || {
            operator.send(&words(&format!("CONFIG SET {option}")));
            writer.send(&(20_000..20_010).flat_map(frame).collect::<Vec<_>>());
        });
        writer.expect(&b"ERR\r\n".repeat(10));
        operator.expect(b"+OK\r\n");
    }
}

/// Clients without the password may fill the buffers, but nobody who has it is closed for that.
#[test]
fn strangers_drive_out_nobody() {
    let server = Server::start(&["--max-memory", "16mb", "--password", "secret"]);
    let mut clients = Client::many(&server, 2);
    clients.iter_mut().for_each(|client| client.check_words("AUTH secret", "+OK\n"));
    let frame = ask(&[&b"SET"[..], b"key", &vec![b'v'; 1_500_000]]);
    let (begun, rest) = frame.split_at(1_000_000);
    clients[0].send(begun);
    let mut strangers = Client::many(&server, 40);
    let unfinished = [&b"*10\r\n"[..], &bulk(&[b'x'; 16_384]).repeat(9)].concat();
    strangers.iter_mut().for_each(|stranger| _ = stranger.try_send(&unfinished));
    wait_until("many of them to be closed", || clients[1].info("client_disconnections:") >= 20);
    clients[0].check(rest, b"+OK\r\n");
}

/// A list of all clients takes memory for each of the many clients that ask for it.
#[test]
fn many_lists_of_clients_stay_within_the_limit() {
    let server = Server::start(&["--max-memory", "16mb"]);
    let greeting = format!("CLIENT SETNAME {}", "n".repeat(120));
    let mut clients = Client::many(&server, 1_500);
    clients.iter_mut().for_each(|client| client.check_words(&greeting, "+OK\n"));
    clients[..200].iter_mut().for_each(|client| client.send(&words("CLIENT LIST")));
    wait_until_quiet(&server);
    check_peak(&server);
    // And whoever comes then is served.
    drop(clients);
    Client::tcp(&server).fill(0..100, b"value");
}

/// Clients that have gone with a frame half sent no longer take memory that others wait for.
#[test]
fn who_vanishes_with_half_a_frame_holds_up_nobody() {
    let server = Server::start(&["--max-memory", "16mb"]);
    let frame = set(b"half", &[b'v'; 30_000]);
    let mut client = Client::tcp(&server);
    client.send(&frame[..12_500]);
    let others: Vec<Client> = (0..200)
        .map(|_| {
            let mut other = Client::tcp(&server);
            // It may be closed.
            let _ = other.try_send(&frame[..13_000]);
            other
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(others);
    let since = Instant::now();
    client.send(&frame[12_500..]);
    client.expect(b"OK\r\n");
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

/// With `eviction=none` a full store says so in its place among the replies, and keeps what it has.
#[test]
fn a_full_store_that_may_not_evict_refuses() {
    const ITEMS: usize = 2_000;
    let (server, mut client) = start(&["--max-memory", "8mb", "--eviction", "none"]);
    let value = |number: usize| format!("{number:010000}").into_bytes();
    let key = |number: usize| format!("key {number}").into_bytes();
    let mut stored = Vec::new();
    for number in 0..ITEMS {
        client.send(&[set(&key(number), &value(number)), get(&key(number))].concat());
        match client.read_line().as_slice() {
            b"OK\r\n" => {
                client.expect(&line(&value(number)));
                stored.push(number);
            }
            reply => {
                assert_eq!(reply, b"ERR\r\n");
                client.expect(b"ERR\r\n");
            }
        }
    }
    assert!((100..800).contains(&stored.len()), "{} items of 10,000 bytes in 8 mb", stored.len());
    // Small items find gaps for a while; then there is no room for one more key.
    let mut counters = 0..1_000_000;
    assert!(counters.any(|number| {
        client.send(&inc(format!("counter {number}").as_bytes()));
        client.read_line() == b"ERR\r\n"
    }));
    // A list of all clients takes memory, too.
    let mut others = Client::many(&server, 1_500);
    others[0].check_words("CLIENT LIST", "-OOM command not allowed when used memory > 'maxmemory'.\n");
    for number in &stored {
        client.check(&get(&key(*number)), &line(&value(*number)));
        client.check(&del(&key(*number)), b"OK\r\n");
    }
    client.check(&set(b"again", &value(1)), b"OK\r\n");
    client.check(&inc(b"again"), b"2\r\n");
}

/// A process whose limit is 16 MB may never have taken a megabyte more.
#[track_caller]
fn check_peak(server: &Server) {
    let peak = peak_resident_bytes(server);
    assert!(peak < 17 << 20, "{peak} bytes at most");
}
