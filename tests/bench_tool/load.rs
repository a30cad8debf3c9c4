//! Modes, figures and errors of the load generator.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::fake::{self, Fault};
use crate::server::{Server, socket_dir, wait_until};
use crate::{Row, at, command, ended, fails, rows, run, words_of};

const BRIEFLY: [&str; 4] = ["--duration", "0.1", "--warmup", "0.02"];

/// Checks what must hold in every row.
fn plausible(row: &Row) {
    assert!(row.number("requests") > 0.0, "{}", row.0);
    assert_eq!(row.number("refused"), 0.0, "{}", row.0);
    assert_eq!(row.number("misses"), 0.0, "{}", row.0);
    let latency = ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| row.number(&format!("latency_{name}_ns")));
    assert!(latency[0] > 0.0 && latency.is_sorted(), "{}", row.0);
    let [sent, received, both] = ["sent_", "received_", ""].map(|name| row.number(&format!("{name}bytes_per_second")));
    assert!(sent > 0.0 && received > 0.0 && ((sent + received) / both - 1.0).abs() < 0.001, "{}", row.0);
    let rate = row.number("requests") / row.number("seconds");
    assert!((rate / row.number("requests_per_second") - 1.0).abs() < 0.001, "{}", row.0);
}

#[test]
fn every_command_is_verified_against_the_server() {
    let server = Server::start(&[]);
    for command in &words_of("command") {
        for sizes in [["16", "32"], ["16", "0"], ["8", "3"], ["16", "0-300"], ["12-300", "0-70000"]] {
            let [key_size, value_size] = sizes;
            let what = ["--command", command, "--key-size", key_size, "--value-size", value_size, "--keys", "500"];
            let how = ["--verify", "--pipeline", "1,7", "--clients", "5", "--distribution", "zipf"];
            let long = ["--requests", "2000", "--warmup", "0"];
            let rows = rows(server.addr(), &[&what[..], &how, &long].concat());
            assert_eq!(rows.iter().map(|row| row.text("pipeline")).collect::<Vec<_>>(), ["1", "7"]);
            rows.iter().for_each(plausible);
        }
    }
}

/// Without this, `--verify` could not notice that a key has another key's value.
#[test]
fn no_two_keys_have_the_same_value() {
    const KEYS: usize = 3_000;
    let server = Server::start(&[]);
    let keys = KEYS.to_string();
    rows(server.addr(), &["--keys", &keys, "--value-size", "32", "--requests", "1", "--warmup", "0"]);
    let mut stream = server.connect();
    let frames: String = (0..KEYS).map(|id| format!("GET\x0016\0key:{id:012x}\r\n")).collect();
    stream.write_all(frames.as_bytes()).expect("a server that listens");
    let mut replies = vec![0; 34 * KEYS];
    stream.read_exact(&mut replies).expect("a value for each key");
    let values: HashSet<_> = replies.chunks(34).collect();
    assert_eq!(values.len(), KEYS);
}

#[test]
fn a_unix_socket_does_as_well() {
    let directory = socket_dir();
    let path = directory.path().join("a socket");
    let path = path.to_str().expect("a name in UTF-8");
    let server = Server::start(&["--unix-socket", path]);
    let how = ["--unix-socket", path, "--json", "--verify", "--value-size", "32-200000", "--keys", "100"];
    let row = &run(command(&how).args(BRIEFLY))[0];
    plausible(row);
    assert_eq!(row.number("server_pid"), f64::from(server.pid().as_raw_nonzero().get()));
}

#[test]
fn the_servers_process_is_found_and_its_time_and_memory_are_read() {
    let server = Server::start(&[]);
    let row = &rows(server.addr(), &["--pipeline", "1,1,1,1,1,1,1,1", "--duration", "0.1", "--warmup", "0"])[7];
    assert_eq!(row.number("server_pid"), f64::from(server.pid().as_raw_nonzero().get()));
    // One thread cannot use more CPU time than passes, in any row; the kernel counts in steps of some milliseconds.
    assert!((0.01..1.05).contains(&row.number("server_busy")), "{}", row.0);
    assert!((50.0..1e6).contains(&row.number("server_cpu_ns_per_request")), "{}", row.0);
    let (resident, peak) = (row.number("server_resident_bytes"), row.number("server_peak_bytes"));
    assert!((1e6..1e9).contains(&resident) && peak >= resident, "{}", row.0);
    let everywhere = Server::start(&["--host", "0.0.0.0"]);
    let row = &rows(everywhere.addr(), &BRIEFLY)[0];
    assert_eq!(row.number("server_pid"), f64::from(everywhere.pid().as_raw_nonzero().get()));
    let ourselves = std::process::id().to_string();
    let row = &rows(server.addr(), &[&["--pid", &ourselves][..], &BRIEFLY].concat())[0];
    assert_eq!(row.text("server_pid"), ourselves);
}

#[test]
fn a_count_of_requests_is_kept() {
    let server = Server::start(&[]);
    for (depth, requests) in [("1", "1000"), ("64", "6401"), ("1000", "100000")] {
        let row = &rows(server.addr(), &["--pipeline", depth, "--requests", requests, "--warmup", "0"])[0];
        assert_eq!(row.text("requests"), requests);
        // All keys are there, so the hits are the GETs of the mix: nine of ten.
        let [hits, count] = ["hits", "requests"].map(|name| row.number(name));
        assert!((hits / count - 0.9).abs() < 0.05, "{}", row.0);
    }
}

#[test]
fn all_keys_are_touched_and_no_others() {
    let server = Server::start(&[]);
    let args = ["--command", "set", "--no-preload", "--keys", "300", "--requests", "20000", "--warmup", "0"];
    assert_eq!(rows(server.addr(), &args)[0].text("misses"), "0");
    let args = ["--command", "get", "--no-preload", "--keys", "300", "--requests", "20000", "--warmup", "0"];
    assert_eq!(rows(server.addr(), &args)[0].text("misses"), "0", "300 keys drawn 20,000 times are all drawn");
    let args = ["--command", "get", "--no-preload", "--keys", "600", "--requests", "20000", "--warmup", "0"];
    let row = &rows(server.addr(), &args)[0];
    assert!((9_000.0..11_000.0).contains(&row.number("misses")), "half of the keys were never set: {}", row.0);
    assert_eq!(row.number("hits") + row.number("misses"), 20_000.0);
}

#[test]
fn idle_clients_work_once_and_stay() {
    let server = Server::start(&[]);
    let args = ["--clients", "2", "--idle-clients", "200", "--keys", "202", "--verify", "--protocol", "resp"];
    let how = ["--command", "get", "--duration", "60", "--warmup", "0"];
    let mut child = at(server.addr(), &args).args(how).stdout(Stdio::null()).spawn().expect("it starts");
    wait_until("200 clients that have set a key, and 2 that get some", || {
        let (mut stream, mut list) = (server.connect(), String::new());
        stream.write_all(b"*2\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n").expect("a server that listens");
        stream.shutdown(Shutdown::Write).and_then(|()| stream.read_to_string(&mut list)).expect("a list");
        [" cmd=set ", " cmd=get "].map(|command| list.matches(command).count()) == [200, 2]
    });
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

#[test]
fn a_rate_is_kept() {
    let server = Server::start(&[]);
    let args = ["--rate", "2000", "--duration", "0.5", "--warmup", "0.1", "--verify"];
    let row = &rows(server.addr(), &args)[0];
    plausible(row);
    assert_eq!(row.number("requests"), 1000.0);
    assert!(row.number("seconds") > 0.45, "{}", row.0);
    assert_eq!(row.number("unanswered"), 0.0);
    // At once, and after a third of a second.
    let row = &rows(server.addr(), &["--rate", "3", "--duration", "0.5", "--warmup", "0"])[0];
    assert_eq!([row.text("requests"), row.text("limited_by")], ["2", "\"rate\""], "{}", row.0);
}

/// The last replies come after the time that the rate is counted in, however well it is kept.
#[test]
fn a_rate_is_kept_by_a_server_far_away_and_missed_by_one_that_cannot_keep_up() {
    // The last of six requests is due after 2.5 s and answered after 3.5, more than the 3 s that six should take.
    let quick = ["--rate", "2", "--duration", "3", "--no-preload", "--command", "set", "--warmup", "0"];
    for (clients, limited_by) in [("6", "\"rate\""), ("1", "\"rate missed\"")] {
        let far = fake::start(Fault::Delay(Duration::from_secs(1)));
        let row = &rows(far, &[&quick[..], &["--clients", clients]].concat())[0];
        assert_eq!([row.text("requests"), row.text("limited_by")], ["6", limited_by], "{}", row.0);
    }
}

#[test]
fn a_stall_shows_in_every_request_that_was_due_in_it() {
    let stall = Fault::Stall { after: 300, length: Duration::from_millis(400) };
    let quick = ["--clients", "4", "--keys", "10", "--no-preload", "--command", "set", "--warmup", "0"];
    // A request is due every millisecond, so 400 of 1,000 are due in the stall, and wait between 0 and 400 ms.
    let open = ["--rate", "1000", "--duration", "1"];
    let row = &rows(fake::start(stall), &[&quick[..], &open].concat())[0];
    assert!(row.number("latency_max_ns") > 395e6, "{}", row.0);
    assert!(row.number("latency_p99_ns") > 370e6, "a hundredth waits for 390 ms or more: {}", row.0);
    assert!(row.number("latency_p50_ns") < 200e6, "most do not wait: {}", row.0);
    // In closed loop the stall delays one request of each client only, so the percentiles do not show it.
    let row = &rows(fake::start(stall), &[&quick[..], &["--requests", "20000"]].concat())[0];
    assert!(row.number("latency_max_ns") > 395e6, "{}", row.0);
    assert!(row.number("latency_p99_ns") < 200e6, "{}", row.0);
}

#[test]
fn a_stall_at_the_end_is_waited_for() {
    let stall = Fault::Stall { after: 150, length: Duration::from_millis(300) };
    let args = ["--clients", "1", "--no-preload", "--command", "set", "--warmup", "0"];
    let row = &rows(fake::start(stall), &[&args[..], &["--rate", "1000", "--duration", "0.2"]].concat())[0];
    assert_eq!(row.number("requests"), 200.0);
    assert!(row.number("latency_max_ns") > 250e6, "{}", row.0);
}

#[test]
fn a_server_that_falls_silent_leaves_a_row_and_is_not_measured_again() {
    let stall = Fault::Stall { after: 10, length: Duration::from_secs(60) };
    let args = ["--clients", "2", "--no-preload", "--command", "set", "--warmup", "0", "--duration", "0.2", "--json"];
    for depths in ["1", "1,3"] {
        let output = ended(at(fake::start(stall), &args).args(["--pipeline", depths]));
        let row = Row(String::from_utf8(output.stdout).expect("text"));
        assert_eq!((row.0.lines().count(), row.number("unanswered")), (1, 2.0), "{}", row.0);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "gostash-bench: expected 2 more replies, got none in time\n");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_reply_that_comes_slowly_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let _ = client.read(&mut [0; 1000]).expect("a request");
        for byte in b"OK\r\n" {
            client.write_all(&[*byte]).expect("it listens");
            sleep(Duration::from_secs(2));
        }
    });
    let args = ["--clients", "1", "--no-preload", "--command", "set", "--warmup", "0", "--duration", "0.1"];
    let row = &rows(address, &args)[0];
    assert_eq!([row.number("requests"), row.number("unanswered")], [1.0, 0.0], "{}", row.0);
}

#[test]
fn a_known_delay_is_what_is_measured() {
    let delayed = fake::start(Fault::Delay(Duration::from_millis(100)));
    let args = ["--clients", "1", "--pipeline", "3", "--no-preload", "--command", "set", "--duration", "0.6"];
    let started = Instant::now();
    let row = &rows(delayed, &args)[0];
    // A second to warm up is not measured, and what is under way at the end is waited for.
    assert!((0.6..1.1).contains(&row.number("seconds")) && started.elapsed().as_secs_f64() > 1.6, "{}", row.0);
    assert!((100e6..200e6).contains(&row.number("latency_p50_ns")), "{}", row.0);
    assert!((15.0..30.0).contains(&row.number("requests_per_second")), "three requests each 100 ms: {}", row.0);
}

/// One request of a client that is alone takes as long as its row, whose end is the last read of the reply.
#[test]
fn a_long_reply_is_there_with_its_last_byte() {
    let server = Server::start(&[]);
    let depths = ["1"; 40].join(",");
    let what = ["--clients", "1", "--keys", "1", "--value-size", "1mb", "--command", "get", "--pipeline", &depths];
    let rows = rows(server.addr(), &[&what[..], &["--requests", "1", "--warmup", "0"]].concat());
    let mut shares: Vec<f64> =
        rows.iter().map(|row| row.number("latency_max_ns") / 1e9 / row.number("seconds")).collect();
    shares.sort_unstable_by(f64::total_cmp);
    assert!(shares[10] > 0.95, "a machine that is busy elsewhere may lengthen some rows: {shares:?}");
}

#[test]
fn a_short_latency_has_three_digits_too() {
    let server = Server::start(&[]);
    let depths = ["1"; 40].join(",");
    let rows = rows(server.addr(), &["--clients", "1", "--pipeline", &depths, "--requests", "9", "--warmup", "0"]);
    let medians: Vec<_> = rows.iter().map(|row| row.number("latency_p50_ns") as u64).collect();
    // Each is the end of a range that has one figure for all. Below 32 us such a range has up to 16 ns.
    let is_fine = |nanos: &u64| !(nanos + 1).is_multiple_of(32);
    assert!(medians.iter().any(is_fine) || medians.iter().all(|nanos| *nanos > 32_000), "{medians:?}");
}

#[test]
fn a_wrong_reply_is_caught() {
    let small = ["--keys", "50", "--value-size", "40", "--requests", "200", "--verify"];
    let large = ["--keys", "5", "--value-size", "300000", "--requests", "200", "--verify"];
    for args in [small, large] {
        let check = |fault, parts: &[&str]| fails(&mut at(fake::start(fault), &args), 1, parts);
        check(Fault::LastByte, &["wrong reply to GET key:", "differs from what was set"]);
        check(Fault::MiddleByte, &["wrong reply to GET key:", "differs from what was set"]);
        check(Fault::Forgets, &["wrong reply to GET key:", "expected a value, got 'ERR\\r\\n'"]);
        check(Fault::Short, &["wrong reply to GET key:"]);
        check(Fault::Twice, &["expected"]);
        rows(fake::start(Fault::None), &args);
    }
    let args = ["--command", "inc", "--requests", "200", "--verify"];
    for (fault, got) in [(Fault::AddsTwo, "5000000000002"), (Fault::Plus, "+5000000000001")] {
        let parts = &["wrong reply to INC key:", &format!("expected 5000000000001, got '{got}\\r\\n'")];
        fails(&mut at(fake::start(fault), &args), 1, parts);
    }
}

#[test]
fn lengths_are_checked_without_verify() {
    for fault in [Fault::Short, Fault::Twice] {
        fails(&mut at(fake::start(fault), &["--requests", "200"]), 1, &["expected", "got"]);
    }
    fails(&mut at(fake::start(Fault::Endless), &[]), 1, &["wrong reply to SET", "got 'xxx"]);
    let row = &rows(fake::start(Fault::Forgets), &["--requests", "2000", "--get-percent", "100"])[0];
    assert_eq!(row.number("misses"), row.number("requests"));
}

/// Why is what the server said: it may want a password, or be full.
#[test]
fn a_refused_preload_tells_why() {
    let server = Server::start(&["--password", "secret"]);
    let expected = ["wrong reply to SET key:", "expected '+OK\\r\\n', got '-NOAUTH Authentication required.\\r\\n'"];
    fails(&mut at(server.addr(), &["--protocol", "resp", "--keys", "100"]), 1, &expected);
}

/// The server answers while the value is on its way, and closes the connection when ever more of it comes. That it is
/// closed tells less than the answer.
#[test]
fn what_a_server_says_before_it_goes_away_is_told() {
    let server = Server::start(&["--max-value-size", "1mb"]);
    let large = ["--clients", "1", "--keys", "3", "--value-size", "20mb"];
    for (protocol, said) in [("gostash", "got 'ERR\\r\\n'"), ("resp", "got '-ERR Protocol error: invalid bulk length")]
    {
        fails(
            &mut at(server.addr(), &[&large[..], &["--protocol", protocol]].concat()),
            1,
            &["wrong reply to SET", said],
        );
    }
}

#[test]
fn a_server_that_goes_away_is_an_error() {
    fails(&mut at(fake::start(Fault::Hangs), &[]), 1, &["connection", "requests unanswered"]);
    // A port that is bound, and so nobody else's, but not listened on.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = bound.local_addr().ok().and_then(|address| address.as_socket()).expect("its address");
    fails(&mut at(address, &[]), 1, &["127.0.0.1", "expected a server", "refused"]);
    fails(&mut command(&["--unix-socket", "/nonexistent"]), 1, &["unix:/nonexistent", "expected a server"]);
}

/// A full disk leaves no table, so the status must tell. A reader who has seen enough is no error.
#[cfg(target_os = "linux")]
#[test]
fn figures_that_cannot_be_written_are_an_error() {
    let server = Server::start(&[]);
    let (_, unread) = std::io::pipe().expect("a pipe");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device that is always full");
    let said = "gostash-bench: standard output: No space left on device (os error 28)\n";
    for (out, code, said) in [(Stdio::from(unread), 0, ""), (Stdio::from(full), 1, said)] {
        let started = at(server.addr(), &BRIEFLY).stdout(out).stderr(Stdio::piped()).spawn();
        let output = started.expect("it starts").wait_with_output();
        let output = output.expect("it ends");
        assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(code), said));
    }
}

/// Whatever an argument contains, and even if it cannot be written.
#[cfg(target_os = "linux")]
#[test]
fn an_error_is_one_line_and_no_panic() {
    fails(&mut command(&["--port", "1\n\u{1b}[31m2"]), 2, &["--port: expected a port from 1 to 65535, got '1??[31m2'"]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device that is always full");
    assert_eq!(command(&["--fast"]).stderr(Stdio::from(full)).status().expect("it starts").code(), Some(2));
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    for (args, expected) in [
        (&["--clients", "0"][..], "--clients: expected a number from 1 to 60000, got '0'"),
        (&["--clients"], "--clients: expected a number from 1 to 60000, got nothing"),
        (&["--port", "http"], "--port: expected a port from 1 to 65535, got 'http'"),
        (&["--protocol", "http"], "--protocol: expected gostash, resp, memcached or echo, got 'http'"),
        (&["--pipeline", "1,,2"], "--pipeline: expected a number from 1"),
        (&["--duration", "0"], "--duration: expected seconds from 0.001, got '0'"),
        (&["--warmup", "-1"], "--warmup: expected seconds"),
        (&["--rate", "0"], "--rate: expected requests a second"),
        (&["--value-size", "9-8"], "--value-size: expected bytes"),
        (&["--value-size", ""], "--value-size: expected bytes"),
        (&["--value-size", "-"], "--value-size: expected bytes"),
        (&["--value-size", "5-"], "--value-size: expected bytes"),
        (&["--value-size", "1tb"], "--value-size: expected bytes"),
        (&["--value-size", "kb"], "--value-size: expected bytes"),
        (&["--value-size", "-3"], "--value-size: expected bytes"),
        (&["--key-size", "70000"], "--key-size: expected bytes from 1 to 65535"),
        (&["--keys", "100000", "--key-size", "4"], "--key-size: expected at least 5 to tell 100000 keys apart, got 4"),
        (&["--distribution", "zipf:x"], "--distribution: expected"),
        (&["--command", "mget"], "--command: expected"),
        (&["--command", "del", "--keys", "9"], "--keys: expected at least one for each of 50 clients"),
        (&["--command", "inc", "--verify", "--no-preload"], "--verify: expected --preload"),
        (&["--request-bytes", "9"], "--request-bytes, --reply-bytes: expected both, with --protocol echo"),
        (
            &["--protocol", "echo", "--request-bytes", "9", "--reply-bytes", "9", "--verify"],
            "--request-bytes, --reply-bytes: expected both, with --protocol echo and without --verify",
        ),
        (&["--get-percent", "101"], "--get-percent: expected a number from 0 to 100"),
        (&["--fast"], "--fast: no such option"),
        (&["replay"], "replay: expected the file of a trace"),
        (&["replay", "file", "--rate", "5"], "--rate: not an option of replay"),
        (
            &["replay", "file", "--pipeline", "1,16"],
            "--pipeline: expected one depth, since a replay begins with an empty",
        ),
        (&["--rate", "5", "replay", "file"], "unexpected argument \"replay\""),
        // Its default, but not for a replay, which has one client.
        (&["replay", "file", "--clients", "50"], "--clients: not an option of replay"),
        (&["--replay", "file"], "--replay: no such option"),
        (&["now"], "unexpected argument"),
    ] {
        fails(&mut command(args), 2, &["gostash-bench: ", expected]);
    }
}

#[test]
fn the_table_is_for_people() {
    let server = Server::start(&[]);
    let output = ended(at(server.addr(), &BRIEFLY).args(["--pipeline", "1,16"]));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("50 clients, closed loop"), "{text}");
    assert!(lines[1].contains("90 % GET, 10 % SET; 100,000 keys, uniform, values of 32 b"), "{text}");
    let head = lines.iter().position(|line| line.contains("requests/s")).expect("a head");
    let width = lines[head].len();
    let rows: Vec<_> = lines[head + 1..].iter().filter(|line| line.len() == width).collect();
    assert_eq!(rows.len(), 2, "each row is as wide as the head: {text}");
    let is_unknown = |row: &&str| cfg!(target_os = "linux") && row.split_whitespace().any(|cell| cell == "-");
    assert!(!rows.into_iter().any(is_unknown), "a figure for each column: {text}");
    assert!(width <= 100, "{width} columns: {text}");
    assert!(text.contains("resident"), "{text}");
    assert!(output.stderr.is_empty(), "no progress in a pipe");
    let deepest =
        ended(at(server.addr(), &["--requests", "9", "--warmup", "0"]).args(["--pipeline", "1000000"])).stdout;
    let deepest = String::from_utf8(deepest).expect("text");
    // In so short a time nobody can tell who was busy.
    assert!(deepest.contains(" -  ") && !deepest.contains("limited by"), "{deepest}");
    assert!(deepest.lines().any(|row| row.contains("1,000,000 ") && row.len() == width), "{deepest}");
}

#[test]
fn what_went_wrong_is_noted_below_its_row() {
    let server = Server::start(&["--password", "secret"]);
    let text = |address, args: &[&str]| String::from_utf8(ended(&mut at(address, args)).stdout).expect("text");
    let refused = text(server.addr(), &["--protocol", "resp", "--no-preload", "--requests", "500", "--warmup", "0"]);
    assert!(refused.contains("\n        refused         500\n"), "{refused}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), [1, 0, 0, 0, 20, 0, 0, 0].repeat(4)).expect("room for it");
    let replay = text(fake::start(Fault::None), &["replay", file.path().to_str().expect("a name in UTF-8")]);
    for note in ["misses          1", "miss ratio      0.25", "cold floor      0.25", "byte hit ratio  0.75"] {
        assert!(replay.contains(&format!("\n        {note}\n")), "{note}: {replay}");
    }
}

#[test]
fn numbers_are_written_for_people() {
    let delayed = fake::start(Fault::Delay(Duration::from_millis(30)));
    for (keys, written) in [("999", "; 999 keys"), ("1000", "; 1,000 keys"), ("1234567", "; 1,234,567 keys")] {
        let what = ["--keys", keys, "--no-preload", "--command", "set", "--requests", "1", "--warmup", "0"];
        let text = String::from_utf8(ended(&mut at(delayed, &what)).stdout).expect("text");
        assert!(text.contains(written), "{text}");
        // The six latencies are of one request: 30.12ms, say.
        let times: Vec<_> = text.split_whitespace().filter(|word| word.contains('.') && word.ends_with('s')).collect();
        let decimals = times[0].split_once('.').expect("a point").1.trim_end_matches(['m', 's']);
        assert!(times.len() == 6 && times.iter().all(|time| *time == times[0]) && decimals.len() == 2, "{text}");
    }
    // Microseconds, too.
    let text = String::from_utf8(ended(&mut at(Server::start(&[]).addr(), &BRIEFLY)).stdout).expect("text");
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn progress_moves_on_a_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let server = Server::start(&[]);
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("access to it");
    let name = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("ASCII");
    let other_end = std::fs::OpenOptions::new().read(true).write(true).open(name).expect("its other end");
    let args = ["--duration", "0.8", "--warmup", "0"];
    let output = at(server.addr(), &args).stderr(Stdio::from(other_end)).output().expect("it runs");
    assert!(output.status.success());
    let mut shown = Vec::new();
    // Reading a terminal whose other end is closed ends in an error.
    let _ = std::fs::File::from(terminal).read_to_end(&mut shown);
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("measuring: ") && shown.ends_with("\r\u{1b}[K"), "{shown:?}");
}

#[test]
fn ctrl_c_prints_what_was_measured() {
    let server = Server::start(&[]);
    let text = interrupted(server.addr(), 300, &[]);
    assert!(text.contains("resident"), "{text}");
}

/// Some requests are always under way, which says nothing about the rate. A busy machine may miss it at times.
#[test]
fn ctrl_c_does_not_miss_the_rate() {
    let slow = fake::start(Fault::Delay(Duration::from_millis(20)));
    let open = ["--rate", "400", "--no-preload", "--command", "set"];
    let is_kept = |text: &str| text.contains("unanswered") && !text.contains("limited by");
    assert!((0..3).any(|_| is_kept(&interrupted(slow, 2_000, &open))));
}

/// What it prints if it is interrupted after so many milliseconds.
fn interrupted(address: SocketAddr, millis: u64, args: &[&str]) -> String {
    let args = [&["--duration", "60", "--warmup", "0"], args].concat();
    let mut child = at(address, &args).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("requests/s")), "the table's head comes before what is measured");
    sleep(Duration::from_millis(millis));
    let pressed = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let text = lines.collect::<Vec<_>>().join("\n");
    let status = child.wait().expect("it ends");
    assert!(pressed.elapsed() < Duration::from_secs(10));
    assert_eq!(status.code(), Some(130), "{text}");
    // A busy machine may have needed more than these, but not the 60 s that it was to take.
    let seconds = text.split("interrupted after ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok());
    assert!(seconds.is_some_and(|seconds: f64| seconds < 50.0), "{text}");
    text
}

/// Nothing was measured, so there is no row: one of zeros would look like a result.
#[test]
fn ctrl_c_before_anything_is_measured_prints_no_row() {
    let server = Server::start(&[]);
    let mut child = at(server.addr(), &["--warmup", "60"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("requests/s")), "the table's head comes before the warm-up");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let rest: Vec<_> = lines.collect();
    assert_eq!((child.wait().expect("it ends").code(), rest.concat()), (Some(130), String::new()));
}

/// Nothing is lost yet, so one Ctrl-C is enough, even if the server takes no more connections.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_it_while_it_connects() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    full.listen(0).expect("a queue of one");
    let address = full.local_addr().expect("its address");
    let first = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    first.connect(&address).expect("room for one");
    let address = address.as_socket().expect("TCP");
    // As a shell starts what is to run in the background.
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' INT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_gostash-bench")]);
    let port = address.port().to_string();
    let mut child = ignoring.args(["--host", "127.0.0.1", "--port", &port]).spawn().expect("it starts");
    let unanswered = format!(":{:04X} 02 ", address.port());
    wait_until("it to connect", || std::fs::read_to_string("/proc/net/tcp").expect("Linux").contains(&unanswered));
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let started = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if started.elapsed() > Duration::from_secs(10) {
            child.kill().expect("it runs");
            panic!("it still waits for a connection");
        }
        sleep(Duration::from_millis(10));
    }
}
