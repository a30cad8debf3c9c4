//! What is left when something runs out: descriptors, places for clients, memory for what is half received. The
//! server goes on with what it has, without spinning, and takes more as soon as there is room.

use std::thread::scope;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::client::{Client, get, inc, line, set};
use crate::process::{cpu_share, descriptors, peak_resident_bytes};
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

/// The limit falls below what runs, as an operator or a full system table may have it.
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
    const CLIENTS: usize = 12;
    const BOUND_BYTES: u64 = 64 << 20;
    // Both the default bound and an eighth of this are 64 mb.
    let server = Server::start(&["--max-memory", "512mb"]);
    let mut bystander = Client::tcp(&server);
    bystander.check(&inc(b"key"), b"1\r\n");
    let before = peak_resident_bytes(&server);
    let mut frame = set(b"large", &vec![b'v'; 15 << 20]);
    frame.pop();
    let closed = scope(|scope| {
        let senders: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = Client::tcp(&server);
                let frame = &frame;
                // All but the last byte. Those who were let finish stay, or there would be room again.
                scope.spawn(move || client.try_send(frame).map(|()| client))
            })
            .collect();
        let ends: Vec<_> = senders.into_iter().map(|sender| sender.join().expect("no panic")).collect();
        bystander.check(&inc(b"key"), b"2\r\n");
        ends.iter().filter(|end| end.is_err()).count()
    });
    let grown = peak_resident_bytes(&server) - before;
    assert!(grown < BOUND_BYTES * 5 / 4, "{grown} bytes for half-sent values");
    assert!(closed > 0, "{CLIENTS} clients hold 15 mb each, and none had to give way");
    // What they held is free again.
    let value = vec![b'w'; 16 << 20];
    bystander.check(&set(b"large", &value), b"OK\r\n");
    bystander.check(&get(b"large"), &line(&value));
}
