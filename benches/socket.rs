//! Round trips over loopback: a request is written to a socket, and its reply read from it, before the next one is
//! sent. The original's rows of these names write to a socket that is closed already, so these have nothing to compare
//! with. Every reply is checked.
//!
//! `cargo bench --bench socket` starts the built server for itself. Most of each time is the kernel's: two system
//! calls of the client, three of the server, and a wake-up of each.

use std::io::{Read, Write};
use std::net::TcpStream;

use criterion::{Criterion, criterion_group, criterion_main};

// The tests' own, of which this uses a part.
#[allow(dead_code)]
#[path = "../tests/integration/server.rs"]
mod server;

fn round_trips(criterion: &mut Criterion) {
    let server = server::Server::start(&["--log-level", "warn"]);
    let mut client = server.connect();
    client.set_nodelay(true).expect("no delay");
    let mut group = criterion.benchmark_group("round trip");
    let value = "v".repeat(32);
    let (key, number) = ("key of 16 bytes.", "number, 16 bytes");

    let set = format!("SET\x0016\0{key}\x0032\0{value}\r\n");
    let reply = format!("{value}\r\n");
    exchange(&mut client, &set, "OK\r\n");
    group.bench_function("get", |bencher| {
        let get = format!("GET\x0016\0{key}\r\n");
        bencher.iter(|| exchange(&mut client, &get, &reply));
    });
    group.bench_function("set", |bencher| {
        bencher.iter(|| exchange(&mut client, &set, "OK\r\n"));
    });
    let mut expected = 0_i64;
    for (name, command, delta) in [("incr", "INC", 1), ("decr", "DEC", -1)] {
        group.bench_function(name, |bencher| {
            let frame = format!("{command}\x0016\0{number}\r\n");
            bencher.iter(|| {
                expected += delta;
                exchange(&mut client, &frame, &format!("{expected}\r\n"));
            });
        });
    }
    // A key can be deleted only once, so each time is that of a SET and a DEL.
    group.bench_function("set and del", |bencher| {
        let del = format!("DEL\x0016\0{key}\r\n");
        bencher.iter(|| {
            exchange(&mut client, &set, "OK\r\n");
            exchange(&mut client, &del, "OK\r\n");
        });
    });
    group.bench_function("del of a missing key", |bencher| {
        let del = format!("DEL\x0016\0{key}\r\n");
        bencher.iter(|| exchange(&mut client, &del, "ERR\r\n"));
    });
    group.bench_function("insert of random keys", |bencher| {
        let mut state = 1_u64;
        bencher.iter(|| {
            // A generator of full period, so no key comes twice.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            exchange(&mut client, &format!("SET\x0016\0{state:016x}\x0032\0{value}\r\n"), "OK\r\n");
        });
    });
    group.finish();
}

/// One request and its reply, which must be the one expected.
fn exchange(client: &mut TcpStream, request: &str, reply: &str) {
    let mut got = [0; 64];
    let got = &mut got[..reply.len()];
    client.write_all(request.as_bytes()).expect("the request is sent");
    client.read_exact(got).expect("a whole reply");
    assert_eq!(got, reply.as_bytes(), "the reply to {request:?}");
}

criterion_group!(benches, round_trips);
criterion_main!(benches);
