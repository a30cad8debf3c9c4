//! The Redis protocol over a socket: the rows, and what needs a server or several clients.

use std::collections::HashSet;
use std::time::{Instant, UNIX_EPOCH};

use gostash::limits::{BATCH_COMMANDS, EXEC_COMMANDS};
use gostash::protocol::verbs::{COMMANDS, VERBS};

use crate::client::{Client, ask, bulk, get, number, queued, set, start, words};
use crate::process::{at_once, cpu_share, cpu_ticks, wait_until_quiet};
use crate::resp_rows::{SHORT_BYTES, rows};
use crate::rows::Row;
use crate::server::{FREE_PORT, Server, command, socket_dir, wait_until};
use crate::wire::Bench;

#[test]
fn socket_rows_cut() {
    let mut shared = Bench::resp(Server::start(&["--max-memory", "1gb"]));
    for (number, Row { name, send, .. }) in rows(0).enumerate() {
        let len = send.len();
        let mut cuts = vec![vec![len]];
        // Over a socket time passes between pieces. What arrives at once is executed in one turn, which has one time,
        // unless its writes have flushed memory to give back: a new server has none.
        let mut own = name.contains("TTL").then(|| Bench::resp(Server::start(&[])));
        if own.is_none() {
            cuts.push(vec![len / 2, len]);
            if len < SHORT_BYTES {
                cuts.push((1..=len).collect());
            }
        }
        let bench = own.as_mut().unwrap_or(&mut shared);
        for ends in cuts {
            let row = rows(bench.clients + 1).nth(number).expect("the same rows");
            bench.run(&row, &ends);
        }
    }
}

#[test]
fn nothing_is_done_before_the_password() {
    let server = Server::start_by(command().args(FREE_PORT).env("GOSTASH_PASSWORD", "open sesame"));
    let no_auth = b"-NOAUTH Authentication required.\r\n";
    let wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let mut client = Client::tcp(&server);
    for line in ["GET a", "SET a 1", "MGET a b", "PING", "INFO", "CONFIG GET *", "MULTI", "CLIENT LIST"] {
        client.check(&words(line), no_auth);
    }
    for guess in ["", "o", "open", "open sesam", "open sesame!", "OPEN SESAME", "open sesameopen sesame", "open sesams"]
    {
        client.check(&ask(&["AUTH", guess]), wrong);
    }
    client.check(&ask(&["AUTH", "nobody", "open sesame"]), wrong);
    client.check(&ask(&["HELLO", "3", "AUTH", "default", "open"]), wrong);
    client.check(&ask(&["AUTH", &"o".repeat(16_384)]), wrong);
    client.check(&words("HELLO 3 SETNAME early\nGET a"), &no_auth.repeat(2));
    client.check(&ask(&["AUTH", "open sesame"]), b"+OK\r\n");
    // A failure changes nothing: neither what was allowed before nor the name or the protocol.
    client.check(&ask(&["AUTH", "open"]), wrong);
    client.check_words(
        "HELLO 2 SETNAME wrong NOSUCH\nCLIENT GETNAME\nGET a",
        "-ERR Syntax error in HELLO option 'NOSUCH'\n$-1\n$-1\n",
    );
    client.send(&words("CONFIG GET *\nECHO end"));
    let config: Vec<_> = std::iter::from_fn(|| Some(client.read_text()).filter(|text| text != "end")).collect();
    assert!(
        config.len() > 10 && !config.iter().any(|text| text.contains("sesame") || text.contains("pass")),
        "{config:?}"
    );

    let mut client = Client::tcp(&server);
    let bad_name =
        b"-ERR Client names cannot contain spaces, newlines or special characters, or be longer than 128 bytes.\r\n";
    client.check(&ask(&["HELLO", "3", "SETNAME", "m e"]), bad_name);
    client.check(&ask(&["HELLO", "3", "AUTH", "default", "open sesame", "SETNAME", "me"]), b"%7\r\n");
    // Before it, nobody may make the server remember much, nor send what has no password. To go is allowed.
    for (send, answer) in [
        (b"*11\r\n".as_slice(), b"-ERR Protocol error: unauthenticated multibulk length\r\n".as_slice()),
        (b"*2\r\n$16385\r\n", b"-ERR Protocol error: unauthenticated bulk length\r\n"),
        (b"GET\x001\0a\r\n", b"ERR\r\n"),
        (b"*1\r\n$4\r\nQUIT\r\n", b"+OK\r\n"),
    ] {
        let mut client = Client::tcp(&server);
        client.check(send, answer);
        client.expect_end();
    }
    assert!(!server.stderr().contains("sesame"), "the log has the password");
}

#[test]
fn a_transaction_of_any_length_is_answered_in_order() {
    let (_server, mut client) = start(&[]);
    let commands = 30_000;
    let send = [words("MULTI"), words("INCR a").repeat(commands), words("EXEC"), words("GET a")].concat();
    let numbers: String = (1..=commands).map(|number| format!(":{number}\r\n")).collect();
    let text = format!("+OK\r\n{}*{commands}\r\n{numbers}$5\r\n30000\r\n", "+QUEUED\r\n".repeat(commands));
    client.check_beside(&send, false, text.as_bytes());
}

/// What is queued lies in chunks, and commands go on from one into the next. Over a socket they are cut anywhere, too.
#[test]
fn a_transaction_may_be_as_long_as_the_longest_value() {
    let server = Server::start(&[]);
    for version in ["2", "3"] {
        let mut client = Client::tcp(&server);
        client.send(&words(&format!("HELLO {version}\nECHO ready")));
        while client.read_text() != "ready" {}
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
            client.check_words("FLUSHALL", "+OK\n");
        }
    }
}

/// Long transactions of many clients at once do not add up to a turn that keeps all others waiting.
#[test]
fn transactions_of_many_clients_share_a_turn() {
    let server = Server::start(&[]);
    let mut clients = Client::many(&server, 32);
    let commands = 4 * EXEC_COMMANDS;
    for client in &mut clients {
        client.check_beside(&[words("MULTI"), words("GET a").repeat(commands)].concat(), false, &queued(commands));
    }
    clients.iter_mut().for_each(|client| client.send(&words("EXEC")));
    let replies = [format!("*{commands}\r\n").as_bytes(), &b"$-1\r\n".repeat(commands)].concat();
    clients.iter_mut().for_each(|client| client.expect(&replies));
    let info = clients[0].text("INFO loop");
    let turns = info.split("commands=").skip(1).map(|text| text.split(' ').next().expect("a count"));
    let most = turns.map(|count| count.parse::<usize>().expect("a number")).max().expect("a turn");
    assert!(most <= EXEC_COMMANDS + 32 * 2 * BATCH_COMMANDS, "{most} commands in one turn: {info}");
}

/// All that SCAN finds while other keys come and go in between.
#[test]
fn a_scan_finds_what_is_there_throughout() {
    let (_server, mut client) = start(&[]);
    let each = |client: &mut Client, command: &str, keys: std::ops::Range<usize>, reply: &[u8]| {
        let commands: Vec<u8> = keys.clone().flat_map(|key| words(&command.replace('#', &key.to_string()))).collect();
        client.check_beside(&commands, false, &reply.repeat(keys.len()));
    };
    each(&mut client, "SET stays# v", 0..3000, b"+OK\r\n");
    each(&mut client, "SET goes# v", 0..3000, b"+OK\r\n");
    let mut found = HashSet::new();
    let (mut cursor, mut steps) = ("0".to_owned(), 0);
    while cursor != "0" || steps == 0 {
        assert_eq!(client.text(&format!("SCAN {cursor} COUNT 100 MATCH stays*")), "*2");
        cursor = client.read_text();
        let count: usize = client.read_text()[1..].parse().expect("a count");
        found.extend((0..count).map(|_| client.read_text()));
        assert!(steps > 0 || (20..90).contains(&count), "of some 100 keys looked at, {count} match");
        // The table shrinks and grows by much more than it had.
        if steps < 60 {
            each(&mut client, "DEL goes#", steps * 50..steps * 50 + 50, b":1\r\n");
        }
        each(&mut client, "SET comes# v", steps * 500..steps * 500 + 500, b"+OK\r\n");
        steps += 1;
    }
    assert!(steps > 20, "{steps} steps");
    let missing = (0..3000).filter(|key| !found.contains(&format!("stays{key}"))).count();
    assert_eq!((missing, found.len()), (0, 3000));
}

#[test]
fn clients_are_listed_and_killed() {
    let since = Instant::now();
    let (server, mut client) = start(&[]);
    let mut others = Client::many(&server, 200);
    others[7].check_words("CLIENT SETNAME seven", "+OK\n");
    let names = "CLIENT SETNAME eight\nCLIENT SETINFO LIB-VER 1.0\nCLIENT SETINFO LIB-NAME lib";
    others[8].check_words(names, "+OK\n+OK\n+OK\n");
    others[10].check_words("CLIENT SETNAME ten", "+OK\n");
    others[11].send(&words("HELLO 3 SETNAME eleven\nGET none"));
    while others[11].read_text() != "_" {}
    others[12].check_words("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \n");
    // The last is in when it is answered, and so are all before it.
    others[199].check_words("PING", "+PONG\n");
    // One that was sent its last reply is there no longer, even if it stays.
    let mut lingering = Client::tcp(&server);
    lingering.check_words("QUIT", "+OK\n");
    let list = client.text("CLIENT LIST");
    assert!(list.lines().filter(|line| line.starts_with("id=")).count() == 201, "{list}");
    let field = |text: &str, name: &str| {
        let line = list.lines().find(|line| line.contains(text)).expect("its line");
        line.split(' ').find_map(|field| field.strip_prefix(name)).expect("that field")
    };
    assert_eq!([" name=seven ", " name=eleven "].map(|name| field(name, "cmd=")), ["client|setname", "get"]);
    // No command of theirs was executed. The second has sent nothing at all.
    assert_eq!(["id=14 ", "id=15 "].map(|id| field(id, "cmd=")), ["NULL"; 2]);
    assert_eq!([" name=seven ", " name=eleven "].map(|name| field(name, "resp=")), ["2", "3"]);
    let told = ["name=", "lib-ver=", "laddr="].map(|name| field(" lib-name=lib ", name));
    assert_eq!(told, ["eight", "1.0", &server.addr().to_string()]);
    client.check_words(&format!("CLIENT KILL {}", field(" name=seven ", "addr=")), "+OK\n");
    others[7].expect_end();
    client.check_words(&format!("CLIENT KILL ID {}", field(" lib-name=lib ", "id=")), ":1\n");
    others[8].expect_end();
    let (ten, tenth) = (field("name=ten", "addr="), field("name=ten", "id="));
    for (filter, answer) in [
        ("1.2.3.4:5", "-ERR No such client\n"),
        ("ID one", "-ERR value is not an integer or out of range\n"),
        ("ID 1000000 SKIPME no", ":0\n"),
        ("ID 1 SKIPME", "-ERR syntax error\n"),
        ("NOSUCH x", "-ERR syntax error\n"),
        ("SKIPME maybe", "-ERR syntax error\n"),
        ("TYPE PubSub", ":0\n"),
        ("ID 1 SKIPME no SKIPME YES", ":0\n"),
        (&format!("ADDR 1.2.3.4:5 ID {tenth}"), ":0\n"),
        (&format!("ADDR {ten} ID {tenth}"), ":1\n"),
    ] {
        client.check_words(&format!("CLIENT KILL {filter}"), answer);
    }
    others[10].expect_end();
    wait_until("a second", || {
        let list = client.text("CLIENT LIST");
        let [own, silent] = ["id=1 ", "id=100 "].map(|text| list.lines().find(|line| line.contains(text)));
        let [own, silent] = [own, silent].map(|line| line.expect("its line"));
        let seconds = 1..=since.elapsed().as_secs() as usize;
        seconds.contains(&number(own, "age="))
            && number(own, "idle=") == 0
            && seconds.contains(&number(silent, "idle="))
            && seconds.contains(&client.info("uptime_in_seconds:"))
    });
    client.check_words("CLIENT KILL TYPE normal", ":197\n");
    others[9].expect_end();
    client.check_words("CLIENT KILL TYPE normal SKIPME no", ":1\n");
    client.expect_end();
    // By its address alone, a client may end itself.
    let mut last = Client::tcp(&server);
    let own = last.text("CLIENT LIST").split(' ').find_map(|field| field.strip_prefix("addr=")).expect("it").to_owned();
    last.check_words(&format!("CLIENT KILL {own}"), "+OK\n");
    last.expect_end();
}

/// It does neither by CLIENT LIST nor by `idle-timeout`.
#[test]
fn who_takes_a_reply_does_not_idle() {
    let (server, mut client) = start(&[]);
    client.check(&ask(&[b"SET".as_slice(), b"long", &vec![b'v'; 16 << 20]]), b"+OK\r\n");
    let mut reader = Client::tcp(&server);
    reader.send(&words("GET long"));
    // The kernel tells the server of room now and then.
    wait_until("it to take some of a reply after two seconds", || {
        reader.read(&mut [0; 16_384]).expect("some of the reply");
        let list = client.text("CLIENT LIST");
        let line = list.lines().find(|line| line.starts_with("id=2 ")).expect("its line");
        number(line, "age=") >= 2 && number(line, "idle=") == 0
    });
}

/// Who is connected before a client asks is listed, even if the server finds out about both at once and is nearly full.
#[test]
fn who_has_just_connected_is_listed() {
    for most in ["100", "3"] {
        let (server, mut client) = start(&["--max-clients", most]);
        client.check_words("PING", "+PONG\n");
        wait_until_quiet(&server);
        let mut others = Vec::new();
        at_once(&server, || {
            others = Client::many(&server, 2);
            client.send(&words("CLIENT LIST"));
        });
        let list = client.read_text();
        assert_eq!(list.lines().filter(|line| line.starts_with("id=")).count(), 3, "{list}");
    }
}

/// A client may stay connected when it has been sent its last reply. What its transaction has left takes neither time nor
/// memory then.
#[test]
fn a_transaction_ends_with_its_client() {
    let (server, mut client) = start(&[]);
    let commands = "MULTI\nCLIENT KILL TYPE normal SKIPME no\nSET a 1\nEXEC";
    client.check_words(commands, "+OK\n+QUEUED\n+QUEUED\n*2\n:1\n");
    client.expect_end();
    let share = cpu_share(&server);
    assert!(share < 0.1, "{share} of a core");
    let mut other = Client::tcp(&server);
    other.check_words("GET a", "$-1\n");
    let set = |bytes| ask(&[b"SET".as_slice(), b"a", &vec![b'v'; bytes]]);
    let held = |other: &mut Client| other.info("mem_clients_normal:");
    for (bytes, count) in [(5_000_000, 1), (1_000, 5_000)] {
        let queue = [words("MULTI"), set(bytes).repeat(count)].concat();
        for end in ["QUIT", "DISCARD", "EXEC", "NOSUCH", "", "CLIENT KILL TYPE normal"] {
            let mut client = Client::tcp(&server);
            client.check_beside(&queue, false, &queued(count));
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
        client.check_beside(&queue, false, &queued(count));
        client.reset();
        wait_until("memory to be given back after a reset", || held(&mut other) < 100_000);
    }
}

/// A client goes once its EXEC has begun, and with it the place for replies. Half of a transaction must not stay.
#[test]
fn what_exec_has_begun_is_done_although_the_client_is_gone() {
    let (server, mut other) = start(&[]);
    other.check(&ask(&[b"SET".as_slice(), b"value", &[b'v'; 30_000]]), b"+OK\r\n");
    let mut client = Client::tcp(&server);
    // The replies fill every buffer on the way, so that EXEC has to wait for the client to read.
    let commands = format!("MULTI\nINCR begun{}\nINCR done", "\nGET value".repeat(900));
    client.check_beside(&words(&commands), false, &queued(902));
    client.send(&words("EXEC"));
    wait_until("EXEC to begin", || other.text("EXISTS begun done") == ":1");
    client.reset();
    wait_until("EXEC to end", || other.text("EXISTS begun done") == ":2");
}

#[test]
fn settings_are_shown_and_take_effect() {
    let (server, mut client) = start(&["--max-memory", "64mb", "--max-value-size", "6mb"]);
    client.check(&words("CONFIG GET maxmemor?"), &ask(&["maxmemory", "67108864"]));
    let port = server.addr().port().to_string();
    let shown = ["bind", "127.0.0.1", "databases", "1", "port", &port, "tcp-keepalive", "60"];
    client.check(&words("CONFIG GET port bind databases tcp-keepalive"), &ask(&shown));
    client.check(&words("CONFIG GET save appendonly"), &ask(&["appendonly", "no", "save", ""]));
    client.check_words("CONFIG GET nosuch", "*0\n");
    let mut newer = Client::tcp(&server);
    newer.send(&words("HELLO 3\nCONFIG GET maxmemory-policy"));
    while newer.read_text() != "%1" {}
    assert_eq!([newer.read_text(), newer.read_text()], ["maxmemory-policy", "allkeys-lfu"]);
    drop(newer);
    let endless = format!("CONFIG GET{}", format!(" *{}~", "[^~]".repeat(15)).repeat(14));
    let failed = |option| format!("-ERR CONFIG SET failed (possibly related to argument '{option}'): expected a ");
    let unknown = "-ERR Unknown option or number of arguments for CONFIG SET - '".to_owned();
    for (command, answer) in [
        (&endless[..], "-ERR syntax error\n"),
        ("CONFIG SET maxmemory 16mb maxclients 0", &(failed("maxclients") + "number from 1 to 1000000, got \"0\"\n")),
        (
            "CONFIG SET timeout 1 maxmemory 7mb",
            &(failed("maxmemory") + "size from 8mb to 256gb, or auto, got \"7mb\"\n"),
        ),
        ("CONFIG SET maxmemory 16mb maxclients", "-ERR wrong number of arguments for 'config|set' command\n"),
        ("CONFIG SET port 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'port'\n"),
        (&format!("CONFIG SET {} 1", "Y".repeat(128)), &(unknown + &"y".repeat(128) + "'\n")),
    ] {
        client.check_words(command, answer);
    }
    // No name, pattern or address is longer than this, and who sends longer ones has none of them copied or compared.
    let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535";
    client.check_words(&format!("CLIENT KILL {address}"), "-ERR No such client\n");
    for question in ["INFO", "CONFIG GET", "CONFIG SET maxmemory", "CLIENT KILL"] {
        client.check_words(&format!("{question} {}", "x".repeat(129)), "-ERR syntax error\n");
    }
    client.check(&words("CONFIG GET maxmemory timeout"), &ask(&["maxmemory", "67108864", "timeout", "0"]));
    // Memory: what is too much goes, in time.
    Client::tcp(&server).fill(0..4000, &[b'v'; 10_000]);
    client.check(&words("CONFIG GET proto-max-bulk-len"), &ask(&["proto-max-bulk-len", "6291456"]));
    for (memory, longest) in [("56mb", "6291456"), ("16mb", "2097152")] {
        client.check_words(&format!("CONFIG SET maxmemory {memory}"), "+OK\n");
        client.check(&words("CONFIG GET proto-max-bulk-len"), &ask(&["proto-max-bulk-len", longest]));
    }
    wait_until("the store to shrink", || client.info("used_memory:") <= 16 << 20);
    // Clients, and for how long.
    client.check_words("CONFIG SET maxclients 2 timeout 1", "+OK\n");
    let mut second = Client::tcp(&server);
    second.check_words("PING", "+PONG\n");
    let mut third = Client::tcp(&server);
    third.expect(b"ERR\r\n");
    third.expect_end();
    second.expect_end();
}

#[test]
fn what_was_asked_for_at_the_start_is_shown_and_in_force() {
    let dir = socket_dir();
    let path = dir.path().join("socket").display().to_string();
    let options = ["--eviction", "none", "--default-ttl", "70", "--idle-timeout", "90", "--unix-socket", &path];
    let server = Server::start(&options);
    let mut client = Client::tcp(&server);
    let shown = ask(&["maxmemory-policy", "noeviction", "timeout", "90", "unixsocket", &path]);
    client.check(&words("CONFIG GET maxmemory-policy timeout unixsocket"), &shown);
    client.check_words("SET a 1\nTTL a", "+OK\n:70\n");
    let bytes = number(&client.text("MEMORY USAGE a"), ":");
    // Its record, and four entries of the index: not all of it, which waits for others, too.
    assert_eq!(bytes, 10 + 4 * 8);
}

#[test]
fn info_is_true() {
    let (server, mut client) = start(&["--max-clients", "100", "--max-memory", "1gb"]);
    client.check_words("INFO keyspace", "$12\n# Keyspace\n\n");
    client.check_words("SET a 1 EX 100", "+OK\n");
    client.check_words("MULTI\nSET a 1 EX 100\nMGET a b\nEXEC", "+OK\n+QUEUED\n+QUEUED\n*2\n+OK\n*2\n$1\n1\n$-1\n");
    client.check_words("SET a 1 NX XX\nMGET a b c", "-ERR syntax error\n*3\n$1\n1\n$-1\n$-1\n");
    client.check_words("GETEX a EX 100\nGETEX b EX 100\nEXPIRE a 100\nGETEX a EX 99", "$1\n1\n$-1\n:1\n$1\n1\n");
    // Only what reads a value, or touches it, hits or misses.
    client.check_words("TOUCH a b\nEXISTS a b\nTTL b\nSTRLEN a", ":1\n:1\n:-2\n:1\n");
    let info = client.text("INFO");
    for line in [
        "# Server",
        "redis_version:7.2.0",
        "connected_clients:1",
        "maxclients:100",
        "maxmemory_human:1024.00M",
        "keyspace_hits:5",
        "keyspace_misses:5",
        "cmdstat_info:calls=2,usec=0,usec_per_call=0.00",
        // One that is refused for its options is a call, too; one on several keys is one.
        "cmdstat_set:calls=3,usec=0,usec_per_call=0.00",
        "cmdstat_mget:calls=2,usec=0,usec_per_call=0.00",
        "cmdstat_exec:calls=1,usec=0,usec_per_call=0.00",
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
    assert!(!info.contains("calls=0"), "{info}");
    // Between two sections, there is an empty line.
    let sections = |info: &str| info.split("\r\n\r\n").map(|it| it.split("\r\n").next().unwrap().to_owned()).collect();
    let all: Vec<String> = sections(&info);
    assert!(all.len() > 2 && all.iter().all(|title| title.starts_with("# ")), "{all:?}");
    for (line, expected) in [
        ("INFO keyspace Loop", &["# Keyspace".to_owned(), "# Loop".to_owned()][..]),
        ("INFO all", &all),
        ("INFO default", &all),
        ("INFO cpu everything", &all),
    ] {
        assert_eq!(sections(&client.text(line)), expected, "{line}");
    }
    // CPU time is what the kernel says; some is to be there.
    wait_until("both kinds of CPU time", || {
        client.check(&words("GET a").repeat(1000), &b"$1\r\n1\r\n".repeat(1000));
        cpu_ticks(&server).into_iter().all(|ticks| ticks > 0)
    });
    let before = cpu_ticks(&server);
    let info = client.text("INFO cpu");
    let after = cpu_ticks(&server);
    for (at, name) in ["used_cpu_user:", "used_cpu_sys:"].into_iter().enumerate() {
        let seconds = info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        let ticks = (seconds.unwrap_or(-1.0) * 100.0).round() as i64;
        assert!((before[at]..=after[at]).contains(&ticks), "not from {before:?} to {after:?}: {info}");
    }
    client.check_words("INFO nosuch", "$0\n\n");
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
    check(&mut frames, &get(b"a"), b"ERR\r\n");
    let mut broken = Client::tcp(&server);
    check(&mut broken, b"*1\r\n$x\r\n", b"-ERR Protocol error: invalid bulk length\r\n");
    check(&mut client, &words("GET"), b"-ERR wrong number of arguments for 'get' command\r\n");
    check(&mut client, &words("MULTI"), b"+OK\r\n");
    check(&mut client, &words("MULTI"), b"-ERR MULTI calls can not be nested\r\n");
    check(&mut client, &words("DISCARD"), b"+OK\r\n");
    let unknown = b"-ERR Unknown option or number of arguments for CONFIG SET - 'port'\r\n";
    check(&mut client, &words("CONFIG SET port 1"), unknown);
    // One that finds no place.
    let mut second = Client::tcp(&server);
    Client::tcp(&server).expect(b"ERR\r\n");
    // What somebody sends who has been disconnected is not even read.
    check(&mut client, &words("CLIENT KILL ID 4"), b":1\r\n");
    second.expect_end();
    let _ = second.try_send(&[b'x'; 1_000]);
    // Items that expire, and those that have to leave.
    check(&mut client, &words("SET brief 1 PX 1"), b"+OK\r\n");
    std::thread::sleep(std::time::Duration::from_millis(20));
    check(&mut client, &words("GET brief"), b"$-1\r\n");
    let value = vec![b'v'; 900_000];
    for key in 0..12 {
        check(&mut client, &ask(&[b"SET".as_slice(), format!("{key}").as_bytes(), &value]), b"+OK\r\n");
    }
    sent += words("INFO").len();
    let info = client.text("INFO");
    let keys = number(&info.replace(',', " "), "db0:keys=");
    for (field, count) in [
        ("total_connections_received:", 4),
        ("rejected_connections:", 1),
        ("total_commands_processed:", 21),
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
        let stats = client.text("INFO stats");
        number(&stats, "instantaneous_ops_per_sec:") > 0 && !stats.contains("put_kbps:0.00")
    });
}

/// INFO has two counts of all commands, which agree where each is on one key: with a wrong option, and refused for want of
/// memory, however long the value is.
#[test]
fn a_command_that_is_refused_counts_like_any_other() {
    let (_server, mut client) = start(&["--max-memory", "8mb", "--eviction", "none"]);
    let not_a_number = "-ERR value is not an integer or out of range\n";
    let replies = format!("+OK\n{not_a_number}-ERR syntax error\n{not_a_number}");
    client.check_words("SET a x\nINCR a\nSET a 1 NOSUCH\nEXPIRE a soon", &replies);
    client.check_words("MULTI\nGETEX a NOSUCH\nEXEC", "+OK\n+QUEUED\n*1\n-ERR syntax error\n");
    for bytes in [900_000, 1_000] {
        let value = vec![b'v'; bytes];
        let is_refused = |number: u32| {
            client.send(&ask(&[b"SET".as_slice(), format!("{bytes} {number}").as_bytes(), &value]));
            client.read_line().starts_with(b"-OOM ")
        };
        assert!((0..16_384).any(is_refused), "more was stored than there is room for");
        client.send(&ask(&[b"ECHO".as_slice(), &value]));
        client.read_text();
    }
    let info = client.text("INFO");
    let calls = info.split([':', ',']).filter_map(|word| word.strip_prefix("calls=")?.parse::<usize>().ok());
    assert_eq!(calls.sum::<usize>(), number(&info, "total_commands_processed:"), "{info}");
}

/// Each row of the table, with as few arguments as it takes, is answered by the code that belongs to it.
#[test]
fn every_command_in_the_table_is_answered() {
    let (server, _client) = start(&[]);
    for verb in &VERBS {
        let name = verb.name.replace('|', " ");
        let arguments = verb.arity.unsigned_abs() as usize - name.split(' ').count();
        let mut client = Client::tcp(&server);
        client.send(&words(&(name + &" 1".repeat(arguments))));
        let answer = client.read_line().escape_ascii().to_string();
        let advice = "see \"Where a change goes\" in src/lib.rs";
        assert!(!answer.contains("nothing answers"), "{} has a row in VERBS, but {answer}: {advice}", verb.name);
    }
}

#[test]
fn the_commands_are_told_and_the_time() {
    let (_server, mut client) = start(&[]);
    let commands = VERBS.iter().map(|verb| verb.name.to_owned()).filter(|name| !name.contains('|'));
    let commands: HashSet<_> = commands.collect();
    assert_eq!(COMMANDS, commands.len(), "COMMANDS in src/protocol/verbs.rs, of rows that are no subcommands");
    assert_eq!(client.text("COMMAND"), format!("*{COMMANDS}"));
    let names: HashSet<_> = (0..COMMANDS)
        .map(|_| {
            assert_eq!(client.read_text(), "*10");
            let name = client.read_text();
            assert!(client.read_text().starts_with(':'), "the arity of {name}");
            let flags = client.read_text()[1..].parse().expect("a count");
            (0..flags).for_each(|_| assert!(client.read_text().starts_with('+'), "the flags of {name}"));
            (0..3).for_each(|_| assert!(client.read_text().starts_with(':'), "the keys of {name}"));
            (0..4).for_each(|_| assert_eq!(client.read_text(), "*0"));
            name
        })
        .collect();
    assert_eq!(names, commands, "the rows of commands, which come first");
    let now_millis = || UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    // Each turn has a time of its own, at which its milliseconds may be about to change.
    for _ in 0..200 {
        let before = now_millis();
        assert_eq!(client.text("TIME"), "*2");
        let [seconds, micros] = [(); 2].map(|()| client.read_text().parse::<u64>().expect("a number"));
        let (told, after) = (seconds * 1000 + micros / 1000, now_millis());
        assert!(before <= told && told <= after && micros < 1_000_000, "{told}, not {before} to {after}");
    }
}

/// What a full store refuses is said in Redis's words, whatever it is, and the connection goes on.
#[test]
fn a_full_store_that_may_not_evict_says_so_to_everybody() {
    let (server, mut client) = start(&["--max-memory", "8mb", "--eviction", "none"]);
    let oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".as_slice();
    let (large, small) = (vec![b'v'; 900_000], vec![b'v'; 1_000]);
    let fill = |client: &mut Client, value: &[u8]| {
        let full = (0..100_000).find(|number| {
            client.send(&ask(&[b"SET".as_slice(), format!("{} {number}", value.len()).as_bytes(), value]));
            client.read_line() == oom
        });
        full.expect("it is full at some time")
    };
    assert!(fill(&mut client, &large) > 1);
    // In the place of one that is large, there is room for many that are small.
    client.check(&ask(&["DEL", "900000 0"]), b":1\r\n");
    assert!(fill(&mut client, &small) > 1);
    let mset = ask(&[b"MSET".as_slice(), b"b", &small, b"c", &small]);
    let append = ask(&[b"APPEND".as_slice(), b"1000 1", &small]);
    let long_set = ask(&[b"SET".as_slice(), b"a", &large]);
    for refused in [&mset, &append, &long_set, &ask(&[b"APPEND".as_slice(), b"1000 0", &large])] {
        // With each tick, buffers that have become smaller may leave room for a small value or two.
        wait_until("it to be refused", || {
            fill(&mut client, &small);
            client.send(refused);
            client.read_line() == oom
        });
    }
    client.check(&ask(&[b"ECHO".as_slice(), &large]), oom);
    client.check(
        &[words("MULTI"), long_set, words("EXEC")].concat(),
        &[b"+OK\r\n", oom, b"-EXECABORT Transaction discarded because of previous errors.\r\n"].concat(),
    );
    // A long queue takes memory that is not there. A short one takes none of the store's.
    client.send(&[words("MULTI"), ask(&[b"ECHO".as_slice(), &[b'v'; 20_000]]).repeat(20), words("EXEC")].concat());
    let lines: Vec<_> = (0..22).map(|_| client.read_line()).collect();
    assert!(lines.iter().any(|line| line == oom), "nothing was refused for want of memory");
    assert!(lines[21].starts_with(b"-EXECABORT "), "{}", lines[21].escape_ascii());
    client.check(&[words("MULTI"), words("PING").repeat(1_000)].concat(), &queued(1_000));
    client.check(&words("EXEC"), &[&b"*1000\r\n"[..], &b"+PONG\r\n".repeat(1_000)].concat());
    client.check_words("EXISTS a", ":0\n");
    client.check(&ask(&["STRLEN", "1000 0"]), b":1000\r\n");
    client.check_words("FLUSHALL", "+OK\n");
    let mut frames = Client::tcp(&server);
    wait_until("room again", || {
        frames.send(&set(b"a", &large));
        frames.read_line() == b"OK\r\n"
    });
}

#[test]
fn what_is_on_its_way_in_is_in_use_once() {
    let (server, mut client) = start(&["--max-memory", "64mb"]);
    let value = ask(&[b"SET".as_slice(), b"key", &vec![b'v'; 5_000_000]])[..3_000_000].to_vec();
    let queue = [words("MULTI"), ask(&[b"ECHO".as_slice(), &[b'v'; 20_000]]).repeat(150)].concat();
    let mut others = Client::many(&server, 2);
    for (at, sent) in [value, queue].into_iter().enumerate() {
        let [used, held] = ["used_memory:", "mem_clients_normal:"].map(|field| client.info(field));
        others[at].send(&sent);
        let id = format!("id={} ", at + 2);
        let mut own = || number(client.text("CLIENT LIST").split(&id).nth(1).expect("its line"), "tot-mem=");
        wait_until("what was sent to be in use", || own() > 2_900_000);
        // It is all clients', and in particular that client's.
        let [own, used_now, held_now] = [own(), client.info("used_memory:"), client.info("mem_clients_normal:")];
        for bytes in [own, used_now - used, held_now - held] {
            assert!((2_900_000..4_000_000).contains(&bytes), "{bytes}");
        }
    }
}

#[test]
fn who_has_read_all_replies_holds_no_buffer() {
    let (server, mut client) = start(&[]);
    let value = vec![b'v'; 20_000];
    client.check(&ask(&[b"SET".as_slice(), b"key", &value]), b"+OK\r\n");
    let mut others = Client::many(&server, 50);
    others.iter_mut().for_each(|other| other.check(&words("GET key"), &bulk(&value)));
    let bytes = client.info("mem_clients_normal:");
    assert!(bytes < 100_000, "{bytes} bytes for clients that wait for nothing");
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
        // At once, because half a second later it would be one less.
        assert_eq!(redis::pipe().set_ex("a", b"\0\r\n", 100).ignore().ttl("a").query::<[i64; 1]>(&mut client)?, [100]);
        assert_eq!(client.get::<_, Vec<u8>>("a")?, b"\0\r\n");
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
