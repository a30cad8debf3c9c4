//! What is left when something runs out: descriptors, places for clients, memory for what is half received. The
//! server goes on with what it has, without spinning, and takes more as soon as there is room.

use std::thread::scope;
use std::time::{Duration, Instant};

use gostash::limits::DESCRIPTORS_RESERVED;
use rustix::process::{Resource, Rlimit, prlimit};

use crate::client::{Client, del, get, inc, line, set};
use crate::process::{at_once, cpu_share, descriptors, peak_resident_bytes, resident_bytes, wait_until_quiet};
use crate::server::{Server, wait_until};

#[test]
fn one_client_too_many_is_told_so() {
    let server = Server::start(&["--max-clients", "4"]);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::tcp(&server)).collect();
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
    let server = Server::start(&["--max-clients", "1"]);
    let mut client = Client::tcp(&server);
    client.check(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
    let mut crowd = Vec::new();
    at_once(&server, || {
        client.send(&b"*2\r\n$4\r\nINFO\r\n$7\r\nclients\r\n".repeat(20));
        crowd.extend((0..100).map(|_| Client::tcp(&server)));
    });
    for _ in 0..20 {
        let connected = loop {
            let line = client.read_line();
            if line.starts_with(b"connected_clients:") {
                break line;
            }
        };
        assert_eq!(connected.escape_ascii().to_string(), r"connected_clients:1\r\n");
    }
}

/// Those who have left make room for those who have come, even if the server finds out about both at once.
#[test]
fn who_leaves_gives_up_the_place_before_who_comes_is_counted() {
    let server = Server::start(&["--max-clients", "4"]);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::tcp(&server)).collect();
    clients.iter_mut().for_each(|client| client.check(&set(b"key", b"0"), b"OK\r\n"));
    wait_until_quiet(&server);
    at_once(&server, || {
        clients.clear();
        clients.extend((0..4).map(|_| Client::tcp(&server)));
    });
    clients.iter_mut().for_each(|client| client.check(&get(b"key"), b"0\r\n"));
}

/// Closing takes longer than accepting, and a socket that waits to be closed still has its descriptor.
#[test]
fn clients_that_all_reconnect_find_descriptors() {
    const CLIENTS: usize = 300;
    let server = Server::start(&["--max-clients", &CLIENTS.to_string()]);
    let granted = Some((CLIENTS + DESCRIPTORS_RESERVED) as u64);
    let limit = Rlimit { current: granted, maximum: granted };
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("the limit can be lowered");
    let mut clients = Vec::new();
    for _ in 0..3 {
        wait_until_quiet(&server);
        at_once(&server, || {
            clients.clear();
            clients.extend((0..CLIENTS).map(|_| Client::tcp(&server)));
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
    let limit = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("the limit can be lowered");
    // The kernel completes these connections whether or not the server accepts them.
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::tcp(&server)).collect();
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
    // Both the default bound and an eighth of this are 64 mb.
    let server = Server::start(&["--max-memory", "512mb"]);
    let mut bystander = Client::tcp(&server);
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
    let server = Server::start(&["--max-memory", "16mb"]);
    let mut bystander = Client::tcp(&server);
    let value = vec![b'v'; 1_000_000];
    for number in 0..32 {
        bystander.check(&set(&[number], &value), b"OK\r\n");
    }
    let half: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::tcp(&server);
            // It may be closed before all is sent.
            let _ = client.try_send(&set(b"half", &value)[..100_000]);
            client
        })
        .collect();
    for number in 0..20_000_u32 {
        bystander.check(&set(&number.to_le_bytes(), &value[..1_000]), b"OK\r\n");
    }
    let peak = peak_resident_bytes(&server);
    assert!(peak < 17 << 20, "{peak} bytes at most");
    drop(half);
    let mut kept = 0;
    for number in 0..20_000_u32 {
        bystander.send(&get(&number.to_le_bytes()));
        kept += usize::from(bystander.read_line().len() > 10);
    }
    assert!(kept > 5_000, "{kept} items are left beside them");
}

/// Items of any size give way to those of any other: none is refused, and the process stays within its limit.
#[test]
fn every_size_gives_way_to_every_other() {
    const TINY: u32 = 400_000;
    let server = Server::start(&["--max-memory", "16mb"]);
    let mut client = Client::tcp(&server);
    let kinds = [(300, 100_000), (TINY, 2), (20_000, 1_000), (TINY, 3), (600, 20_000), (TINY, 2), (400, 32_000)];
    for (count, bytes) in kinds.into_iter().chain([(TINY, 3), (300, 100_000), (TINY, 2)]) {
        let value = vec![b'v'; bytes];
        let frames: Vec<u8> = (0..count).flat_map(|number| set(&number.to_le_bytes(), &value)).collect();
        client.check_beside(&frames, false, &b"OK\r\n".repeat(count as usize));
    }
    let peak = peak_resident_bytes(&server);
    assert!(peak < 17 << 20, "{peak} bytes at most");
    let mut other = Client::tcp(&server);
    other.send(b"*1\r\n$6\r\nDBSIZE\r\n");
    let kept = String::from_utf8_lossy(&other.read_line()[1..]).trim().parse::<u32>().expect("a number");
    assert!(kept > 200_000, "{kept} tiny items have taken the place of all else");
}

fn full_of_tiny_items() -> Server {
    let server = Server::start(&["--max-memory", "16mb"]);
    let tiny: Vec<u8> = (0..900_000_u32).flat_map(|number| set(&number.to_le_bytes(), b"no")).collect();
    Client::tcp(&server).check_beside(&tiny, false, &b"OK\r\n".repeat(900_000));
    server
}

/// A transaction that needs more room than one command may make waits for it, too.
#[test]
fn a_transaction_finds_room() {
    let server = full_of_tiny_items();
    let mut other = Client::tcp(&server);
    let value = "v".repeat(20_000);
    let set = |key: usize| format!("*3\r\n$3\r\nSET\r\n$3\r\n{key}\r\n$20000\r\n{value}\r\n");
    let sets: String = (100..160).map(set).collect();
    let frames = format!("*1\r\n$5\r\nMULTI\r\n{sets}*1\r\n$4\r\nEXEC\r\n");
    let replies = format!("+OK\r\n{}*60\r\n{}", "+QUEUED\r\n".repeat(60), "+OK\r\n".repeat(60));
    other.check_beside(frames.as_bytes(), false, replies.as_bytes());
}

/// What transactions queue takes memory from the store, however small its items are, and gives it back.
#[test]
fn long_transactions_stay_within_the_limit() {
    let server = full_of_tiny_items();
    let mut others: Vec<Client> = (0..20).map(|_| Client::tcp(&server)).collect();
    let queue = |sets: usize, bytes: usize| {
        let value = "v".repeat(bytes);
        let set = |key: usize| format!("*3\r\n$3\r\nSET\r\n$7\r\n{:07}\r\n${bytes}\r\n{value}\r\n", 1_000_000 + key);
        format!("*1\r\n$5\r\nMULTI\r\n{}", (0..sets).map(set).collect::<String>())
    };
    let queued = |sets| format!("+OK\r\n{}", "+QUEUED\r\n".repeat(sets));
    for (sets, bytes) in [(15_000, 100), (100, 20_000), (15, 100_000)] {
        others[0].check_beside(queue(sets, bytes).as_bytes(), false, queued(sets).as_bytes());
        let peak = peak_resident_bytes(&server);
        assert!(peak < 17 << 20, "{peak} bytes at most with {sets} of {bytes}");
        let replies = format!("*{sets}\r\n{}", "+OK\r\n".repeat(sets));
        others[0].check(b"*1\r\n$4\r\nEXEC\r\n", replies.as_bytes());
    }
    for other in &mut others {
        other.check_beside(queue(4, 20_000).as_bytes(), false, queued(4).as_bytes());
    }
    let peak = peak_resident_bytes(&server);
    assert!(peak < 17 << 20, "{peak} bytes at most");
    others.iter_mut().for_each(|other| other.check(b"*1\r\n$7\r\nDISCARD\r\n", b"+OK\r\n"));
    Client::tcp(&server).check(&set(b"key", b"value"), b"OK\r\n");
}

/// A limit that is lowered while nobody asks for anything is kept all the same.
#[test]
fn a_lowered_limit_is_kept_by_an_idle_server() {
    let server = Server::start(&["--max-memory", "64mb"]);
    let mut client = Client::tcp(&server);
    let frames: Vec<u8> = (0..2_500_u32).flat_map(|number| set(&number.to_le_bytes(), &[b'v'; 30_000])).collect();
    client.check_beside(&frames, false, &b"OK\r\n".repeat(2_500));
    let mut other = Client::tcp(&server);
    other.check(b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$9\r\nmaxmemory\r\n$8\r\n16777216\r\n", b"+OK\r\n");
    wait_until("memory to be given back", || resident_bytes(&server) < 17 << 20);
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
        client.check(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
        let limit = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Some(server.pid()), Resource::Nofile, limit).expect("the limit can be lowered");
        client.check(b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$7\r\ntimeout\r\n$1\r\n0\r\n", b"+OK\r\n");
        client.send(b"*2\r\n$4\r\nINFO\r\n$6\r\nmemory\r\n");
        let is_known = |line: Vec<u8>| line.starts_with(b"used_memory_rss:") && line != b"used_memory_rss:0\r\n";
        wait_until("a line about resident memory", || is_known(client.read_line()));
    });
}

/// Has 200 clients read slowly. `change` is called once they are connected.
fn slow_readers(large_bytes: usize, change: impl FnOnce(&Server)) {
    let server = Server::start(&["--max-memory", "16mb"]);
    let mut writer = Client::tcp(&server);
    let mut write = |count: u32, bytes: usize| {
        let value = vec![b'v'; bytes];
        let frames: Vec<u8> =
            (0..count).flat_map(|number| set(&[&number.to_le_bytes()[..], &[bytes as u8]].concat(), &value)).collect();
        writer.check_beside(&frames, false, &b"OK\r\n".repeat(count as usize));
    };
    write(100_000, 32);
    write(20, large_bytes);
    let mut readers: Vec<Client> = (0..200).map(|_| Client::tcp(&server)).collect();
    change(&server);
    for (number, reader) in (0..).zip(&mut readers) {
        // It may be closed.
        let large = get(&[&(number % 20_u32).to_le_bytes()[..], &[large_bytes as u8]].concat());
        let _ = reader.try_send(&large.repeat(6_000_000 / large_bytes));
    }
    write(100_000, 100);
    drop(readers);
    write(100_000, 101);
    let peak = peak_resident_bytes(&server);
    assert!(peak < 17 << 20, "{peak} bytes at most");
}

/// A full store that may not evict cannot make room for buffers, so it has left them theirs.
#[test]
fn buffers_stay_within_the_limit_beside_a_full_store_that_may_not_evict() {
    let server = Server::start(&["--max-memory", "16mb", "--eviction", "none"]);
    let mut writer = Client::tcp(&server);
    writer.check(&set(b"large", &[b'v'; 30_000]), b"OK\r\n");
    let is_refused = |number: u32| {
        writer.send(&set(&number.to_le_bytes(), &[b'v'; 1000]));
        writer.read_line() == b"ERR\r\n"
    };
    assert!((0..16_384).any(is_refused), "more was stored than there is room for");
    let readers: Vec<Client> = (0..200)
        .map(|_| {
            let mut reader = Client::tcp(&server);
            // It may be closed.
            let _ = reader.try_send(&get(b"large").repeat(200));
            reader
        })
        .collect();
    wait_until_quiet(&server);
    let peak = peak_resident_bytes(&server);
    assert!(peak < 17 << 20, "{peak} bytes at most");
    drop(readers);
}

/// A list of all clients takes memory for each of the many clients that ask for it.
#[test]
fn many_lists_of_clients_stay_within_the_limit() {
    let server = Server::start(&["--max-memory", "16mb"]);
    let name = "n".repeat(120);
    let greeting = format!("*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$120\r\n{name}\r\n");
    let mut clients: Vec<Client> = (0..1_500)
        .map(|_| {
            let mut client = Client::tcp(&server);
            client.check(greeting.as_bytes(), b"+OK\r\n");
            client
        })
        .collect();
    for asking in clients.iter_mut().take(200) {
        asking.send(b"*2\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n");
    }
    wait_until_quiet(&server);
    let peak = peak_resident_bytes(&server);
    assert!(peak < 17 << 20, "{peak} bytes at most");
    // And whoever comes then is served.
    drop(clients);
    let mut client = Client::tcp(&server);
    (0..100_u8).for_each(|number| client.check(&set(&[number], b"value"), b"OK\r\n"));
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
    let server = Server::start(&["--max-memory", "8mb", "--eviction", "none"]);
    let mut client = Client::tcp(&server);
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
    for number in &stored {
        client.check(&get(&key(*number)), &line(&value(*number)));
        client.check(&del(&key(*number)), b"OK\r\n");
    }
    client.check(&set(b"again", &value(1)), b"OK\r\n");
    client.check(&inc(b"again"), b"2\r\n");
}

/// A full store that may evict takes everything, and still answers with what was stored or not at all.
#[test]
fn a_full_store_that_may_evict_takes_everything() {
    let server = Server::start(&["--max-memory", "8mb"]);
    let mut client = Client::tcp(&server);
    let value = |number: usize| format!("{number:010000}").into_bytes();
    for number in 0..3_000_usize {
        client.check(&set(&number.to_le_bytes(), &value(number)), b"OK\r\n");
    }
    let mut hits = 0;
    for number in 0..3_000_usize {
        client.send(&get(&number.to_le_bytes()));
        match client.read_line() {
            reply if reply == b"ERR\r\n" => (),
            reply => {
                assert!(reply == line(&value(number)), "another value than was stored");
                hits += 1;
            }
        }
    }
    assert!((100..800).contains(&hits), "{hits} items of 10,000 bytes are left in 8 mb");
}
