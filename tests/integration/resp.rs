//! The Redis protocol over a socket: the rows, and what needs a server or several clients.

use std::collections::HashSet;
use std::time::UNIX_EPOCH;

use gostash::limits::{BATCH_COMMANDS, EXEC_COMMANDS};

use crate::client::Client;
use crate::process::{cpu_share, cpu_ticks};
use crate::resp_rows::{SHORT_BYTES, ask, bulk, rows};
use crate::rows::{Ending, Row};
use crate::server::{Server, command, wait_until};

pub(crate) use crate::resp_rows::words;

#[test]
fn socket_rows_cut() {
    let server = Server::start(&["--max-memory", "1gb"]);
    let mut control = Client::tcp(&server);
    let mut id = 1;
    for (number, Row { name, send, .. }) in rows(0).enumerate() {
        let len = send.len();
        let mut cuts = vec![vec![len]];
        // Over a socket time passes between pieces. What arrives at once is executed in one turn, which has one time,
        // unless its writes have flushed memory to give back: a new server has none.
        let is_timed = name.contains("TTL");
        let new_server = is_timed.then(|| Server::start(&[]));
        if !is_timed {
            cuts.push(vec![len / 2, len]);
            if len < SHORT_BYTES {
                cuts.push((1..=len).collect());
            }
        }
        for ends in cuts {
            id += u64::from(!is_timed);
            let row = rows(id).nth(number).expect("the same rows");
            control.check(&words("FLUSHALL"), b"+OK\r\n");
            let mut client = Client::tcp(new_server.as_ref().unwrap_or(&server));
            let mut from = 0;
            for &to in &ends {
                client.send(&row.send[from..to]);
                if ends.len() > 1 {
                    control.check(&words("PING"), b"+PONG\r\n");
                }
                from = to;
            }
            client.expect(&row.expect);
            match row.ending {
                Ending::Open => client.check(&words("PING"), b"+PONG\r\n"),
                Ending::Unfinished => client.half_close(),
                Ending::Broken | Ending::Closed => {}
            }
            if row.ending != Ending::Open {
                client.expect_end();
            }
        }
    }
}

#[test]
fn nothing_is_done_before_the_password() {
    let server =
        Server::start_by(command().args(["--host", "127.0.0.1", "--port", "0"]).env("GOSTASH_PASSWORD", "open sesame"));
    let auth = |words: &[&str]| ask(words);
    let no_auth = b"-NOAUTH Authentication required.\r\n";
    let wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let mut client = Client::tcp(&server);
    for line in ["GET a", "SET a 1", "MGET a b", "PING", "INFO", "CONFIG GET *", "MULTI", "CLIENT LIST"] {
        client.check(&words(line), no_auth);
    }
    for guess in ["open", "open sesame!", "", "OPEN SESAME"] {
        client.check(&auth(&["AUTH", guess]), wrong);
    }
    client.check(&auth(&["AUTH", "nobody", "open sesame"]), wrong);
    client.check(&words("HELLO 3 SETNAME early"), no_auth);
    client.check(&words("GET a"), no_auth);
    client.check(&auth(&["AUTH", "open sesame"]), b"+OK\r\n");
    client.check(&words("HELLO 2 SETNAME wrong NOSUCH"), b"-ERR Syntax error in HELLO option 'NOSUCH'\r\n");
    client.check(&words("CLIENT GETNAME"), b"$-1\r\n");
    client.check(&words("GET a"), b"$-1\r\n");
    let config = {
        client.send(&words("CONFIG GET *"));
        client.send(&words("ECHO end"));
        let mut text = String::new();
        while !text.ends_with("end\r\n") {
            text += &read_line(&mut client);
            text += "\r\n";
        }
        text
    };
    assert!(!config.contains("sesame") && !config.contains("pass"), "{config}");

    let mut client = Client::tcp(&server);
    let bad_name =
        b"-ERR Client names cannot contain spaces, newlines or special characters, or be longer than 128 bytes.\r\n";
    client.check(&ask(&["HELLO", "3", "SETNAME", "m e"]), bad_name);
    client.send(&ask(&["HELLO", "3", "AUTH", "default", "open sesame", "SETNAME", "me"]));
    assert_eq!(read_line(&mut client), "%7");
    // Before it, nobody may make the server remember much, nor send what has no password.
    for (send, answer) in [
        (b"*11\r\n".as_slice(), b"-ERR Protocol error: unauthenticated multibulk length\r\n".as_slice()),
        (b"*2\r\n$16385\r\n", b"-ERR Protocol error: unauthenticated bulk length\r\n"),
        (b"GET\x001\0a\r\n", b"ERR\r\n"),
    ] {
        let mut client = Client::tcp(&server);
        client.check(send, answer);
        client.expect_end();
    }
    assert!(!server.stderr().contains("sesame"), "the log has the password");
}

#[test]
fn a_transaction_of_any_length_is_answered_in_order() {
    let server = Server::start(&[]);
    let mut client = Client::tcp(&server);
    let commands = 30_000;
    let send = [words("MULTI"), words("INCR a").repeat(commands), words("EXEC"), words("GET a")].concat();
    let numbers: String = (1..=commands).map(|number| format!(":{number}\r\n")).collect();
    let text = format!("+OK\r\n{}*{commands}\r\n{numbers}$5\r\n30000\r\n", "+QUEUED\r\n".repeat(commands));
    client.check_beside(&send, false, text.as_bytes());
    // What does not fit into the queue is refused, and the transaction with it.
    let send =
        [words("MULTI"), ask(&[b"APPEND".as_slice(), b"b", &[b'x'; 30_000]]).repeat(600), words("EXEC")].concat();
    client.send(&send);
    let lines: Vec<_> = (0..602).map(|_| read_line(&mut client)).collect();
    let full = "-OOM command not allowed when MULTI has queued as much as it may.";
    assert!(lines[1..601].iter().any(|line| line == full), "nothing was refused for want of room in the queue");
    assert_eq!(lines[601], "-EXECABORT Transaction discarded because of previous errors.");
    client.check(&words("EXISTS b"), b":0\r\n");
    // The same within one command, which has been answered when it turns out.
    let mget: Vec<_> = std::iter::once(b"MGET".to_vec()).chain(std::iter::repeat_n(vec![b'k'; 30_000], 300)).collect();
    let send = [words("MULTI"), ask(&mget), ask(&mget), words("GET b"), words("EXEC")].concat();
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    client.check_beside(&send, false, format!("+OK\r\n{}{aborted}", "+QUEUED\r\n".repeat(3)).as_bytes());
}

/// What is queued lies in chunks, and commands go on from one into the next. Over a socket they are cut anywhere, too.
#[test]
fn a_transaction_may_be_as_long_as_the_longest_value() {
    let server = Server::start(&[]);
    for version in ["2", "3"] {
        let mut client = Client::tcp(&server);
        client.send(&[words(&format!("HELLO {version}")), words("ECHO ready")].concat());
        while client.read_line() != b"ready\r\n" {}
        for (key_bytes, value_bytes) in [(10, 100), (10, 20_000), (65_000, 20_000), (10, 40_000)] {
            let count = 10_000_000 / (key_bytes + value_bytes);
            let key = |number| format!("{number:0key_bytes$}").into_bytes();
            let value = |number| format!("{:0value_bytes$}", number * 7).into_bytes();
            let sets: Vec<u8> =
                (0..count).flat_map(|number| ask(&[b"SET".to_vec(), key(number), value(number)])).collect();
            let replies = format!("+OK\r\n{}*{count}\r\n{}", "+QUEUED\r\n".repeat(count), "+OK\r\n".repeat(count));
            client.check_beside(&[words("MULTI"), sets, words("EXEC")].concat(), false, replies.as_bytes());
            // And what they wrote is read by a transaction that is as long where keys are.
            let gets: Vec<u8> = (0..count).flat_map(|number| ask(&[b"GET".to_vec(), key(number)])).collect();
            let queued = format!("+OK\r\n{}*{count}\r\n", "+QUEUED\r\n".repeat(count)).into_bytes();
            let values = (0..count).flat_map(|number| bulk(&value(number)));
            let missing = if version == "2" { "$-1\r\n" } else { "_\r\n" };
            let replies = queued.into_iter().chain(values).chain(missing.bytes()).collect::<Vec<_>>();
            client.check_beside(&[words("MULTI"), gets, words("EXEC"), words("GET none")].concat(), false, &replies);
            client.check(&words("FLUSHALL"), b"+OK\r\n");
        }
    }
}

/// Long transactions of many clients at once do not add up to a turn that keeps all others waiting.
#[test]
fn transactions_of_many_clients_share_a_turn() {
    let server = Server::start(&[]);
    let mut clients: Vec<_> = (0..32).map(|_| Client::tcp(&server)).collect();
    let commands = 4 * EXEC_COMMANDS;
    for client in &mut clients {
        let queued = [b"+OK\r\n".to_vec(), b"+QUEUED\r\n".repeat(commands)].concat();
        client.check_beside(&[words("MULTI"), words("GET a").repeat(commands)].concat(), false, &queued);
    }
    clients.iter_mut().for_each(|client| client.send(&words("EXEC")));
    let replies = [format!("*{commands}\r\n").as_bytes(), &b"$-1\r\n".repeat(commands)].concat();
    clients.iter_mut().for_each(|client| client.expect(&replies));
    clients[0].send(&words("INFO loop"));
    let info = read_text(&mut clients[0]);
    let turns = info.split("commands=").skip(1).map(|text| text.split(' ').next().expect("a count"));
    let most = turns.map(|count| count.parse::<usize>().expect("a number")).max().expect("a turn");
    assert!(most <= EXEC_COMMANDS + 32 * 2 * BATCH_COMMANDS, "{most} commands in one turn: {info}");
}

/// All that SCAN finds while other keys come and go in between.
#[test]
fn a_scan_finds_what_is_there_throughout() {
    let server = Server::start(&[]);
    let mut client = Client::tcp(&server);
    let set = |name: &str, keys: std::ops::Range<usize>| -> Vec<u8> {
        keys.flat_map(|key| words(&format!("SET {name}{key} v"))).collect()
    };
    let ok = |count: usize| b"+OK\r\n".repeat(count);
    client.check_beside(&set("stays", 0..3000), false, &ok(3000));
    client.check_beside(&set("goes", 0..3000), false, &ok(3000));
    let mut found = HashSet::new();
    let (mut cursor, mut steps) = ("0".to_owned(), 0);
    loop {
        client.send(&ask(&["SCAN", &cursor, "COUNT", "100", "MATCH", "stays*"]));
        assert_eq!(read_line(&mut client), "*2");
        read_line(&mut client);
        cursor = read_line(&mut client);
        let count = read_line(&mut client);
        for _ in 0..count[1..].parse().expect("a count") {
            read_line(&mut client);
            found.insert(read_line(&mut client));
        }
        if cursor == "0" {
            break;
        }
        // The table shrinks and grows by much more than it had.
        let (delete, more) = (steps * 50 % 3000, steps * 500);
        let gone: Vec<u8> = (delete..delete + 50).flat_map(|key| words(&format!("DEL goes{key}"))).collect();
        client.send(&gone);
        (0..50).for_each(|_| drop(read_line(&mut client)));
        client.check_beside(&set("comes", more..more + 500), false, &ok(500));
        steps += 1;
    }
    assert!(steps > 20, "{steps} steps");
    let missing = (0..3000).filter(|key| !found.contains(&format!("stays{key}"))).count();
    assert_eq!((missing, found.len()), (0, 3000));
}

/// A line without its end.
fn read_line(client: &mut Client) -> String {
    let mut line = String::from_utf8(client.read_line()).expect("text");
    assert!(line.ends_with("\r\n"), "{line:?}");
    line.truncate(line.len() - 2);
    line
}

/// A bulk string's text.
fn read_text(client: &mut Client) -> String {
    let head = read_line(client);
    let mut text = vec![0; head[1..].parse::<usize>().expect("a length") + 2];
    let mut read = 0;
    while read < text.len() {
        let count = client.read(&mut text[read..]).expect("what was announced");
        assert!(count > 0, "the connection has ended");
        read += count;
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn clients_are_listed_and_killed() {
    let server = Server::start(&[]);
    let mut client = Client::tcp(&server);
    let mut others: Vec<_> = (0..200).map(|_| Client::tcp(&server)).collect();
    others[7].check(&words("CLIENT SETNAME seven"), b"+OK\r\n");
    others[8].check(&words("CLIENT SETINFO LIB-NAME lib"), b"+OK\r\n");
    others[10].check(&words("CLIENT SETNAME ten"), b"+OK\r\n");
    // The last is in when it is answered, and so are all before it.
    others[199].check(&words("PING"), b"+PONG\r\n");
    // One that was sent its last reply is there no longer, even if it stays.
    let mut lingering = Client::tcp(&server);
    lingering.check(&words("QUIT"), b"+OK\r\n");
    client.send(&words("CLIENT LIST"));
    let list = read_text(&mut client);
    assert!(list.contains(" name=seven ") && list.contains(" lib-name=lib "), "{list}");
    assert!(list.lines().filter(|line| line.starts_with("id=")).count() == 201, "{list}");
    let field = |text: &str, name: &str| {
        let line = list.lines().find(|line| line.contains(text)).expect("its line");
        line.split(' ').find_map(|field| field.strip_prefix(name)).expect("that field").to_owned()
    };
    client.check(&words(&format!("CLIENT KILL {}", field("name=seven", "addr="))), b"+OK\r\n");
    others[7].expect_end();
    client.check(&words(&format!("CLIENT KILL ID {}", field("lib-name=lib", "id="))), b":1\r\n");
    others[8].expect_end();
    client.check(&words("CLIENT KILL 1.2.3.4:5"), b"-ERR No such client\r\n");
    client.check(&words("CLIENT KILL ID one"), b"-ERR value is not an integer or out of range\r\n");
    client.check(&words("CLIENT KILL ID 1000000 SKIPME no"), b":0\r\n");
    for wrong in ["CLIENT KILL ID 1 SKIPME", "CLIENT KILL NOSUCH x", "CLIENT KILL SKIPME maybe"] {
        client.check(&words(wrong), b"-ERR syntax error\r\n");
    }
    client.check(&words("CLIENT KILL TYPE PubSub"), b":0\r\n");
    let (first, tenth) = (field("id=1 ", "id="), field("name=ten", "id="));
    client.check(&words(&format!("CLIENT KILL ID {first} SKIPME no SKIPME YES")), b":0\r\n");
    let ten = field("name=ten", "addr=");
    client.check(&words(&format!("CLIENT KILL ADDR 1.2.3.4:5 ID {tenth}")), b":0\r\n");
    client.check(&words(&format!("CLIENT KILL ADDR {ten} ID {tenth}")), b":1\r\n");
    others[10].expect_end();
    wait_until("a second", || {
        client.send(&words("CLIENT LIST"));
        let list = read_text(&mut client);
        let [own, silent] = ["id=1 ", "id=100 "].map(|text| list.lines().find(|line| line.contains(text)));
        let [own, silent] = [own, silent].map(|line| line.expect("its line"));
        number(own, "age=") > 0 && number(own, "idle=") == 0 && number(silent, "idle=") > 0
    });
    client.check(&words("CLIENT KILL TYPE normal"), b":197\r\n");
    others[9].expect_end();
    client.check(&words("CLIENT KILL TYPE normal SKIPME no"), b":1\r\n");
    client.expect_end();
}

/// A client may stay connected when it has been sent its last reply. What its transaction has left takes neither time nor
/// memory then.
#[test]
fn a_transaction_ends_with_its_client() {
    let server = Server::start(&[]);
    let mut client = Client::tcp(&server);
    let commands = ["MULTI", "CLIENT KILL TYPE normal SKIPME no", "SET a 1", "EXEC"];
    client.check(&commands.map(words).concat(), b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n");
    client.expect_end();
    let share = cpu_share(&server);
    assert!(share < 0.1, "{share} of a core");
    let mut other = Client::tcp(&server);
    other.check(&words("GET a"), b"$-1\r\n");
    let set = |bytes| ask(&[b"SET".as_slice(), b"a", &vec![b'v'; bytes]]);
    let held = |other: &mut Client| {
        other.send(&words("INFO memory"));
        number(&read_text(other), "mem_clients_normal:")
    };
    for (bytes, count) in [(5_000_000, 1), (1_000, 5_000)] {
        let queued = [b"+OK\r\n".to_vec(), b"+QUEUED\r\n".repeat(count)].concat();
        let queue = [words("MULTI"), set(bytes).repeat(count)].concat();
        for end in ["QUIT", "DISCARD", "EXEC", "NOSUCH", "", "CLIENT KILL TYPE normal"] {
            let mut client = Client::tcp(&server);
            client.check_beside(&queue, false, &queued);
            let bytes = held(&mut other);
            assert!((5_000_000..6_000_000).contains(&bytes), "{bytes} bytes for a queue");
            match end {
                "" => client.send(b"!"), // breaks the frame
                end if end.contains("KILL") => other.check(&words(end), b":1\r\n"),
                end => client.send(&words(end)),
            }
            wait_until(&format!("memory to be given back after {end}"), || held(&mut other) < 100_000);
        }
        let mut client = Client::tcp(&server);
        client.check_beside(&queue, false, &queued);
        client.reset();
        wait_until("memory to be given back after a reset", || held(&mut other) < 100_000);
    }
}

#[test]
fn settings_are_shown_and_take_effect() {
    let server = Server::start(&["--max-memory", "64mb"]);
    let mut client = Client::tcp(&server);
    client.check(&words("CONFIG GET maxmemor?"), &ask(&["maxmemory", "67108864"]));
    client.check(&words("CONFIG GET save appendonly"), &ask(&["appendonly", "no", "save", ""]));
    client.check(&words("CONFIG GET nosuch"), b"*0\r\n");
    let endless = format!("*[{}]", "~".repeat(253));
    client.check(&words(&["CONFIG GET", &vec![endless; 14].join(" ")].join(" ")), b"-ERR syntax error\r\n");
    let wrong = "-ERR CONFIG SET failed (possibly related to argument 'maxclients'): expected a number from 1 to ";
    let wrong_memory = "-ERR CONFIG SET failed (possibly related to argument 'maxmemory'): expected a size from 8mb up, or auto, got \"7mb\"";
    client.send(&words("CONFIG SET maxmemory 16mb maxclients 0"));
    assert!(read_line(&mut client).starts_with(wrong));
    client.send(&words("CONFIG SET timeout 1 maxmemory 7mb"));
    assert_eq!(read_line(&mut client), wrong_memory);
    client.check(&words("CONFIG GET maxmemory timeout"), &ask(&["maxmemory", "67108864", "timeout", "0"]));
    let arity = b"-ERR wrong number of arguments for 'config|set' command\r\n";
    client.check(&words("CONFIG SET maxmemory 16mb maxclients"), arity);
    client
        .check(&words("CONFIG SET port 1"), b"-ERR Unknown option or number of arguments for CONFIG SET - 'port'\r\n");
    // Memory: what is too much goes, in time.
    let value = vec![b'v'; 10_000];
    let sets: Vec<u8> = (0..4000).flat_map(|key| ask(&[b"SET", format!("{key}").as_bytes(), &value])).collect();
    client.check_beside(&sets, false, &b"+OK\r\n".repeat(4000));
    client.check(&words("CONFIG GET proto-max-bulk-len"), &ask(&["proto-max-bulk-len", "8388608"]));
    client.check(&words("CONFIG SET maxmemory 16mb"), b"+OK\r\n");
    client.check(&words("CONFIG GET proto-max-bulk-len"), &ask(&["proto-max-bulk-len", "2097152"]));
    wait_until("the store to shrink", || used_memory(&mut client) <= 16 << 20);
    // Clients, and for how long.
    client.check(&words("CONFIG SET maxclients 2 timeout 1"), b"+OK\r\n");
    let mut second = Client::tcp(&server);
    second.check(&words("PING"), b"+PONG\r\n");
    let mut third = Client::tcp(&server);
    third.expect(b"ERR\r\n");
    third.expect_end();
    second.expect_end();
}

#[test]
fn what_was_asked_for_at_the_start_is_shown_and_in_force() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket").display().to_string();
    let options = ["--eviction", "none", "--default-ttl", "70", "--idle-timeout", "90", "--unix-socket", &path];
    let server = Server::start(&options);
    let mut client = Client::tcp(&server);
    let shown = ask(&["maxmemory-policy", "noeviction", "timeout", "90", "unixsocket", &path]);
    client.check(&words("CONFIG GET maxmemory-policy timeout unixsocket"), &shown);
    client.check(&words("SET a 1"), b"+OK\r\n");
    client.check(&words("TTL a"), b":70\r\n");
    client.send(&words("MEMORY USAGE a"));
    let bytes = read_line(&mut client)[1..].parse::<usize>().expect("a number");
    // The only item is not told to take the index that waits for others, too.
    assert!((9..64).contains(&bytes), "{bytes}");
}

#[test]
fn info_is_true() {
    let server = Server::start(&["--max-clients", "100", "--max-memory", "1gb"]);
    let mut client = Client::tcp(&server);
    client.check(&words("SET a 1 EX 100"), b"+OK\r\n");
    client.check(&words("MGET a b c"), b"*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n");
    client.send(&words("INFO"));
    let info = read_text(&mut client);
    for line in [
        "# Server",
        "redis_version:7.2.0",
        "connected_clients:1",
        "maxclients:100",
        "maxmemory_human:1024.00M",
        "keyspace_hits:1",
        "keyspace_misses:2",
        "cmdstat_info:calls=1,usec=0,usec_per_call=0.00",
        "cmdstat_set:calls=1,usec=0,usec_per_call=0.00",
        "cmdstat_mget:calls=1,usec=0,usec_per_call=0.00",
        "db0:keys=1,expires=1,avg_ttl=0",
        "role:master",
        "cluster_enabled:0",
        "loading:0",
        "# Loop",
        &format!("tcp_port:{}", server.addr().port()),
        &format!("process_id:{}", server.pid().as_raw_nonzero()),
    ] {
        assert!(info.lines().any(|other| other == line), "no line {line} in {info}");
    }
    client.send(&words("INFO keyspace Loop"));
    let info = read_text(&mut client);
    let sections: Vec<_> = info.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(sections, ["# Keyspace", "# Loop"]);
    // CPU time is what the kernel says; some is to be there.
    wait_until("both kinds of CPU time", || {
        client.check(&words("GET a").repeat(1000), &b"$1\r\n1\r\n".repeat(1000));
        cpu_ticks(&server).into_iter().all(|ticks| ticks > 0)
    });
    let before = cpu_ticks(&server);
    client.send(&words("INFO cpu"));
    let info = read_text(&mut client);
    let after = cpu_ticks(&server);
    for (at, name) in ["used_cpu_user:", "used_cpu_sys:"].into_iter().enumerate() {
        let seconds = info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        let ticks = (seconds.unwrap_or(-1.0) * 100.0).round() as i64;
        assert!((before[at]..=after[at]).contains(&ticks), "not from {before:?} to {after:?}: {info}");
    }
    client.check(&words("INFO nosuch"), b"$0\r\n\r\n");
}

/// What nobody asks for every day is counted, too, and each of it once.
#[test]
fn info_counts_what_is_refused_removed_and_received() {
    let server = Server::start(&["--password", "secret", "--max-clients", "2", "--max-memory", "8mb"]);
    let mut sent = 0;
    let mut check = |client: &mut Client, ask: &[u8], reply: &[u8]| {
        sent += ask.len();
        client.check(ask, reply);
    };
    let mut client = Client::tcp(&server);
    check(&mut client, &words("AUTH secret"), b"+OK\r\n");
    // Errors: of a client that cannot bring the password, in a broken frame, and in commands of each kind.
    let mut frames = Client::tcp(&server);
    check(&mut frames, &crate::client::get(b"a"), b"ERR\r\n");
    let mut broken = Client::tcp(&server);
    check(&mut broken, b"*1\r\n$x\r\n", b"-ERR Protocol error: invalid bulk length\r\n");
    check(&mut client, &words("GET"), b"-ERR wrong number of arguments for 'get' command\r\n");
    check(&mut client, &words("MULTI"), b"+OK\r\n");
    check(&mut client, &words("MULTI"), b"-ERR MULTI calls can not be nested\r\n");
    check(&mut client, &words("DISCARD"), b"+OK\r\n");
    let unknown = b"-ERR Unknown option or number of arguments for CONFIG SET - 'port'\r\n";
    check(&mut client, &words("CONFIG SET port 1"), unknown);
    // One that finds no place.
    let _second = Client::tcp(&server);
    Client::tcp(&server).expect(b"ERR\r\n");
    // Items that expire, and those that have to leave.
    check(&mut client, &words("SET brief 1 PX 1"), b"+OK\r\n");
    std::thread::sleep(std::time::Duration::from_millis(20));
    check(&mut client, &words("GET brief"), b"$-1\r\n");
    let value = vec![b'v'; 900_000];
    for key in 0..12 {
        check(&mut client, &ask(&[b"SET".as_slice(), format!("{key}").as_bytes(), &value]), b"+OK\r\n");
    }
    client.send(&words("INFO"));
    sent += words("INFO").len();
    let info = read_text(&mut client);
    let keys = number(&info.replace(',', " "), "db0:keys=");
    for (field, count) in [
        ("total_connections_received:", 4),
        ("rejected_connections:", 1),
        ("total_commands_processed:", 20),
        ("total_error_replies:", 5),
        ("total_net_input_bytes:", sent),
        ("expired_keys:", 1),
        ("evicted_keys:", 12 - keys),
    ] {
        assert_eq!(number(&info, field), count, "{field} in {info}");
    }
    assert!(number(&info, "evicted_keys:") > 0);
    // Rates are those of the second before.
    wait_until("a second with commands in it", || {
        client.send(&words("INFO stats"));
        let stats = read_text(&mut client);
        number(&stats, "instantaneous_ops_per_sec:") > 0 && !stats.contains("put_kbps:0.00")
    });
}

/// What MULTI has queued cannot be evicted, so long values there may together be as long as one.
#[test]
fn a_transaction_s_long_values_are_bounded_together() {
    let server = Server::start(&["--max-memory", "8mb"]);
    let mut client = Client::tcp(&server);
    client.check(&words("MULTI"), b"+OK\r\n");
    let set = ask(&[b"SET".as_slice(), b"key", &vec![b'v'; 400_000]]);
    client.check(&set.repeat(2), &b"+QUEUED\r\n".repeat(2));
    client.check(&set, b"-OOM command not allowed when MULTI has queued as much as it may.\r\n");
    client.check(&words("EXEC"), b"-EXECABORT Transaction discarded because of previous errors.\r\n");
    client.check(&words("EXISTS key"), b":0\r\n");
}

/// What INFO says is in use, in bytes.
fn used_memory(client: &mut Client) -> usize {
    client.send(&words("INFO memory"));
    number(&read_text(client), "used_memory:")
}

/// The number behind `field`.
fn number(text: &str, field: &str) -> usize {
    let number = text.split_ascii_whitespace().find_map(|word| word.strip_prefix(field)?.parse().ok());
    number.unwrap_or_else(|| panic!("no {field} and number in {text}"))
}

#[test]
fn the_commands_are_told_and_the_time() {
    let server = Server::start(&[]);
    let mut client = Client::tcp(&server);
    client.send(&words("COMMAND"));
    assert_eq!(read_line(&mut client), "*50");
    let names: Vec<_> = (0..50)
        .map(|_| {
            assert_eq!(read_line(&mut client), "*10");
            let name = read_text(&mut client);
            assert!(read_line(&mut client).starts_with(':'), "the arity of {name}");
            let flags = read_line(&mut client)[1..].parse().expect("a count");
            (0..flags).for_each(|_| assert!(read_line(&mut client).starts_with('+'), "the flags of {name}"));
            (0..3).for_each(|_| assert!(read_line(&mut client).starts_with(':'), "the keys of {name}"));
            (0..4).for_each(|_| assert_eq!(read_line(&mut client), "*0"));
            name
        })
        .collect();
    assert!(
        names.iter().any(|name| name == "get\r\n") && names.iter().collect::<HashSet<_>>().len() == 50,
        "{names:?}"
    );
    let now_millis = || UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    // Each turn has a time of its own, at which its milliseconds may be about to change.
    for _ in 0..200 {
        let before = now_millis();
        client.send(&words("TIME"));
        assert_eq!(read_line(&mut client), "*2");
        let number = |()| read_text(&mut client).trim().parse::<u64>().expect("a number");
        let [seconds, micros] = [(); 2].map(number);
        let (told, after) = (seconds * 1000 + micros / 1000, now_millis());
        assert!(before <= told && told <= after && micros < 1_000_000, "{told}, not {before} to {after}");
    }
}

/// What a full store refuses is said in Redis's words, whatever it is, and the connection goes on.
#[test]
fn a_full_store_that_may_not_evict_says_so_to_everybody() {
    let server = Server::start(&["--max-memory", "8mb", "--eviction", "none"]);
    let mut client = Client::tcp(&server);
    let oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".as_slice();
    let (large, small) = (vec![b'v'; 900_000], vec![b'v'; 1_000]);
    let fill = |client: &mut Client, value: &[u8]| {
        let full = (0..100_000).find(|number| {
            client.send(&ask(&[b"SET".as_slice(), format!("{} {number}", value.len()).as_bytes(), value]));
            client.read_line() == oom
        });
        assert!(full.is_some_and(|count| count > 1), "{full:?} of {} bytes", value.len());
    };
    fill(&mut client, &large);
    // In the place of one that is large, there is room for many that are small.
    client.check(&ask(&["DEL", "900000 0"]), b":1\r\n");
    fill(&mut client, &small);
    let mset = ask(&[b"MSET".as_slice(), b"a", &small, b"b", &small]);
    let append = ask(&[b"APPEND".as_slice(), b"1000 0", &small]);
    let set = ask(&[b"SET".as_slice(), b"a", &large]);
    for refused in [&mset, &append, &set, &ask(&[b"APPEND".as_slice(), b"1000 0", &large])] {
        client.check(refused, oom);
    }
    client.check(&ask(&[b"ECHO".as_slice(), &large]), oom);
    client.check(
        &[words("MULTI"), set, words("EXEC")].concat(),
        &[b"+OK\r\n", oom, b"-EXECABORT Transaction discarded because of previous errors.\r\n"].concat(),
    );
    // A long queue takes memory that is not there. A short one takes none of the store's.
    let queued = |count| [&b"+OK\r\n"[..], &b"+QUEUED\r\n".repeat(count)].concat();
    client.send(&[words("MULTI"), ask(&[b"ECHO".as_slice(), &[b'v'; 20_000]]).repeat(20), words("EXEC")].concat());
    let lines: Vec<_> = (0..22).map(|_| client.read_line()).collect();
    assert!(lines.iter().any(|line| line == oom), "nothing was refused for want of memory");
    assert!(lines[21].starts_with(b"-EXECABORT "), "{}", lines[21].escape_ascii());
    client.check(&[words("MULTI"), words("PING").repeat(1_000)].concat(), &queued(1_000));
    client.check(&words("EXEC"), &[&b"*1000\r\n"[..], &b"+PONG\r\n".repeat(1_000)].concat());
    client.check(&words("EXISTS a b"), b":0\r\n");
    client.check(&ask(&["STRLEN", "1000 0"]), b":1000\r\n");
    client.check(&words("FLUSHALL"), b"+OK\r\n");
    let mut frames = Client::tcp(&server);
    wait_until("room again", || {
        frames.send(&crate::client::set(b"a", &large));
        frames.read_line() == b"OK\r\n"
    });
}

#[test]
fn a_value_on_its_way_in_is_in_use_once() {
    let server = Server::start(&["--max-memory", "64mb"]);
    let mut client = Client::tcp(&server);
    let before = used_memory(&mut client);
    let mut other = Client::tcp(&server);
    other.send(&ask(&[b"SET".as_slice(), b"key", &vec![b'v'; 5_000_000]])[..4_000_000]);
    wait_until("what was sent to be in use", || used_memory(&mut client) > before + 3_900_000);
    assert!(used_memory(&mut client) < before + 5_000_000);
    // It is the clients', and in particular that client's.
    for (question, start, field) in
        [("INFO memory", "mem_cl", "mem_clients_normal:"), ("CLIENT LIST", "id=2 ", "tot-mem=")]
    {
        client.send(&words(question));
        let text = read_text(&mut client);
        let line = text.lines().find(|line| line.starts_with(start));
        let bytes = number(line.expect("its line"), field);
        assert!((3_900_000..5_000_000).contains(&bytes), "{question}: {bytes}");
    }
}

#[test]
fn a_client_library_gets_along() -> redis::RedisResult<()> {
    use redis::Commands;
    let server = Server::start(&[]);
    let long = vec![b'x'; 1_000_000];
    for protocol in ["resp2", "resp3"] {
        let mut client =
            redis::Client::open(format!("redis://{}/?protocol={protocol}", server.addr()))?.get_connection()?;
        let _: () = client.flushall()?;
        let _: () = client.set_ex("a", b"\0\r\n", 100)?;
        assert_eq!(client.get::<_, Vec<u8>>("a")?, b"\0\r\n");
        assert_eq!(client.ttl::<_, i64>("a")?, 100);
        let _: () = client.set("long", &long)?;
        assert_eq!(client.get::<_, Vec<u8>>("long")?, long);
        assert_eq!(client.get::<_, Option<String>>("none")?, None);
        assert!(client.incr::<_, _, i64>("a", 1).is_err());
        let mut pipe = redis::pipe();
        for number in 0..1000 {
            pipe.set(number, number).ignore().get(number);
        }
        assert_eq!(pipe.query::<Vec<i64>>(&mut client)?, (0..1000).collect::<Vec<_>>());
        let sums: (i64, i64) = redis::pipe().atomic().incr("n", 1).incr("n", 2).query(&mut client)?;
        assert_eq!(sums, (1, 3));
        let mut keys = client.scan_match::<_, String>("n*")?.collect::<Result<Vec<_>, _>>()?;
        keys.sort();
        assert_eq!(keys, ["n"]);
        assert_eq!(client.del::<_, i64>(&["n", "a", "none"])?, 2);
    }
    Ok(())
}
