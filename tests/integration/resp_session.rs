//! The Redis protocol through a session without a socket: the rows cut in every way, and what needs a clock of its own
//! or a look at the store.

use gostash::batch::{Visit, process};
use gostash::limits::*;
use gostash::session::Session;

use crate::client::{ask, get, queued, set, words};
use crate::random::{Random, SEED_VARIABLE, seed};
use crate::resp_rows::{ROWS, SHORT_BYTES, rows};
use crate::session::{self, Driver, Reader};

#[test]
fn session_rows_cut() {
    for row in rows(0) {
        let len = row.send.len();
        for reader in [Reader::Eager, Reader::Lazy, Reader::Crowded] {
            session::run(&row, &[len], reader);
        }
        if len < 4_000 {
            session::run(&row, &(1..=len).collect::<Vec<_>>(), Reader::Eager);
        }
        for split in splits(len) {
            session::run(&row, &[split, len], Reader::Eager);
        }
    }
}

#[test]
fn time_passes_as_it_is_told() {
    let mut driver = driver(0);
    // The wall clock is set back and forth: what it says counts for what is given and told as Unix time, at that
    // moment, and nothing expires sooner or later for it.
    for (now, offset, line, expect) in [
        (1000, 5_000_000, "SET a 1 PX 500", "+OK\n"),
        (1499, 5_000_000, "PTTL a", ":1\n"),
        (1499, 9_000_000, "PTTL a", ":1\n"),
        // The clock counts whole milliseconds, so the last of them is given in full: nothing expires early.
        (1500, 0, "PTTL a", ":0\n"),
        (1501, 0, "GET a", "$-1\n"),
        (2000, 5_000_000, "SET a 1 PXAT 5003000", "+OK\n"),
        (2000, 7_000_000, "PTTL a", ":1000\n"),
        (2000, 7_000_000, "PEXPIRETIME a", ":7003000\n"),
        (2999, 0, "GETEX a PX 10", "$1\n1\n"),
        (3009, 0, "GETEX a PERSIST", "$1\n1\n"),
        (9999, 0, "TTL a", ":-1\n"),
        (9999, 0, "EXPIRE a 100", ":1\n"),
        (109_999, 0, "EXISTS a", ":1\n"),
        (110_000, 0, "EXISTS a", ":0\n"),
        // What would have expired is gone at once, where it may be written.
        (110_000, 0, "SET a 1", "+OK\n"),
        (110_000, 0, "SET a 2 NX EXAT 1", "$-1\n"),
        (110_000, 0, "DBSIZE", ":1\n"),
        (110_000, 0, "SET a 2 EXAT 1", "+OK\n"),
        (110_000, 0, "DBSIZE", ":0\n"),
        (110_000, 0, "SET b 2 GET EXAT 1", "$-1\n"),
        (110_000, 0, "DBSIZE", ":0\n"),
        // So is what lives no longer than until now.
        (110_000, 0, "MSET a 1 b 2 c 3", "+OK\n"),
        (110_000, 0, "PEXPIRE a 9\nPEXPIRE b 9\nPEXPIRE c 9", ":1\n:1\n:1\n"),
        (110_000, 0, "PEXPIRE a 0\nGETDEL b\nDBSIZE", ":1\n$1\n2\n:1\n"),
        // Nobody has noticed yet that it has expired.
        (110_010, 0, "EXPIRE c 9", ":0\n"),
        (110_010, 0, "EXPIRE a 9 GT\nSET a 1 EX 9\nEXPIRE a 9 GT\nEXPIRE a 9 LT", ":0\n+OK\n:0\n:0\n"),
        (110_010, 0, "SET c 4 PX 9", "+OK\n"),
        (110_020, 0, "SETNX c 5", ":1\n"),
    ] {
        driver.executor.clock.unix_offset_millis = offset;
        check(&mut driver, now, line, expect);
    }
}

#[test]
fn a_write_lives_as_long_as_the_default_says_unless_it_says_more() {
    let mut driver = driver(10_000);
    for (now, line, expect) in [
        (0, "SETNX a 1", ":1\n"),
        (0, "INCR number", ":1\n"),
        (0, "APPEND text x", ":1\n"),
        (0, "MSET b 1 c 2", "+OK\n"),
        (0, "SET own 1 EX 99", "+OK\n"),
        (0, "SET new 1 KEEPTTL", "+OK\n"),
        (4000, "PTTL a", ":6000\n"),
        // Who adds to what is there leaves its time alone, who writes anew begins it anew.
        (4000, "INCR number", ":2\n"),
        (4000, "PTTL number", ":6000\n"),
        (4000, "APPEND text y", ":2\n"),
        (4000, "PTTL text", ":6000\n"),
        (4000, "SET b 2 KEEPTTL", "+OK\n"),
        (4000, "PTTL b", ":6000\n"),
        (4000, "SET c 3", "+OK\n"),
        (4000, "PTTL c", ":10000\n"),
        (4000, "GETSET a 2", "$1\n1\n"),
        (4000, "PTTL a", ":10000\n"),
        (4000, "PTTL own", ":95000\n"),
        (4000, "PTTL new", ":6000\n"),
        (4000, "PERSIST new", ":1\n"),
        (10_000, "EXISTS a number text b c own new", ":7\n"),
        (10_001, "EXISTS a number text b c own new", ":4\n"),
        (14_001, "MGET a c own new", "*4\n$-1\n$-1\n$1\n1\n$1\n1\n"),
    ] {
        check(&mut driver, now, line, expect);
    }
}

#[test]
fn a_command_s_arguments_have_a_bound_together() {
    let (long, short) = (vec![b'v'; 700_000], vec![b'v'; 30_000]);
    let too_much = "-ERR Protocol error: invalid bulk length\r\n";
    // One too long is refused as soon as it is announced.
    for (values, unsent, expect) in [
        (vec![&long], 0, "+OK\r\n"),
        (vec![&long; 2], long.len() + 2, too_much),
        (vec![&short; 30], 0, "+OK\r\n"),
        (vec![&short; 60], 0, too_much),
    ] {
        let mut driver = driver(0);
        let pairs = values.into_iter().flat_map(|value| [b"key".as_slice(), value]);
        let frame = ask(&std::iter::once(b"MSET".as_slice()).chain(pairs).collect::<Vec<_>>());
        driver.feed(&frame[..frame.len() - unsent]);
        assert_eq!(String::from_utf8(driver.received()).expect("text"), expect);
    }
    // A turn ends within a command on many keys, and what is left of it may still be as long as any value.
    let mut session = Driver::new(Reader::Eager, 0, VALUE_BYTES_MAX_MAX);
    let pairs = (0..200).flat_map(|number| [format!("key {number}").into_bytes(), b"v".to_vec()]);
    let frame = ask(&std::iter::once(b"MSET".to_vec()).chain(pairs).collect::<Vec<_>>());
    let body = frame.strip_prefix(b"*401").expect("its head");
    session.feed(&[b"*403", body, format!("$4\r\nlong\r\n${VALUE_BYTES_MAX_MAX}\r\n").as_bytes()].concat());
    assert_eq!((session.received(), session.is_closing()), (Vec::new(), false));
    // The same where a command takes one step, and no value may be long.
    let mut session = Driver::new(Reader::Eager, 0, 1000);
    session.feed(&[b"*3\r\n$4\r\nECHO\r\n$60000\r\n", &[b'v'; 60_000][..], b"\r\n$60000\r\n"].concat());
    assert_eq!(String::from_utf8(session.received()).expect("text"), too_much);
    // A pattern may be as long as a key.
    let pattern = "x".repeat(KEY_BYTES_MAX);
    check(&mut driver(0), 0, &format!("SCAN 0 COUNT 1000 MATCH {pattern}"), "*2\n$1\n0\n*0\n");
}

/// A value may grow as long as the longest, and what was there before is held no longer than the reply.
#[test]
fn a_changed_value_has_a_bound() {
    let mut driver = driver(0);
    driver.feed(&ask(&[b"SET".as_slice(), b"a", &vec![b'v'; (1 << 20) - 3]]));
    assert_eq!(driver.received(), b"+OK\r\n");
    check(&mut driver, 0, "APPEND a xyz", ":1048576\n");
    check(&mut driver, 0, "APPEND a x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\n");
    driver.feed(&words("SET a 1 GET"));
    assert!(driver.received().ends_with(b"vxyz\r\n"));
    check(&mut driver, 0, "PING", "+PONG\n");
    (0..100).for_each(|_| _ = driver.executor.housekeep());
    assert_eq!(driver.executor.store.stray_chunk_bytes(), 0);
}

/// However bytes are cut, and whatever they are, they mean the same and break nothing.
#[test]
fn random_bytes_in_random_pieces() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let mut random = Random::new(seed);
    // Scans go by each store's own order.
    let rows: Vec<_> = ROWS.iter().filter(|(commands, _)| !commands.contains("SCAN")).collect();
    let long = vec![b'x'; 40_000];
    for _ in 0..3000 {
        let mut input = Vec::new();
        for _ in 0..1 + random.below(12) {
            let (commands, _) = rows[random.below(rows.len())];
            match random.below(12) {
                0 => input.extend(ask(&[b"SET".as_slice(), b"a", &long, b"PX", b"1000000"][..3 + 2 * random.below(2)])),
                1 => input.extend(ask(&[b"MSET".as_slice(), b"a", &long, b"b", &long])),
                2 => input.extend(words("MULTI")),
                3 => input.extend(words("EXEC")),
                _ => input.extend(words(commands)),
            }
        }
        if random.once_in(2) {
            let at = random.below(input.len());
            input[at] = b"*$0129-\r\nPa\xFF"[random.below(12)];
        }
        let mut whole = driver(0);
        whole.feed(&input);
        let reader = if random.once_in(2) { Reader::Crowded } else { Reader::Eager };
        let mut pieces = Driver::new(reader, 0, 1 << 20);
        let mut from = 0;
        while from < input.len() && !pieces.is_closing() {
            let longest = if random.once_in(3) { 20_000 } else { 30 };
            let count = 1 + random.below(longest);
            let to = input.len().min(from + count);
            pieces.feed(&input[from..to]);
            from = to;
        }
        let [whole, pieces] = [whole, pieces].map(|mut driver| driver.received().escape_ascii().to_string());
        assert!(whole == pieces, "{}\n{whole}\n{pieces}", input.escape_ascii());
    }
}

/// However much a transaction asks for, others wait no longer for it than for one of plain commands.
#[test]
fn a_transaction_does_not_take_a_turn_of_any_length() {
    let mut driver = driver(0);
    driver.feed(&(0..5000).flat_map(|key| words(&format!("SET {key} v"))).collect::<Vec<_>>());
    for (line, commands) in [("SCAN 0 COUNT 5000 MATCH none", 500), (&format!("APPEND a {}", "v".repeat(2000)), 500)] {
        driver.work_max = 0;
        driver.feed(&[words("MULTI"), words(line).repeat(commands), words("EXEC"), words("PING")].concat());
        assert!(driver.received().ends_with(b"+PONG\r\n"), "{line:.10}: it did not come to its end");
        assert!(driver.work_max <= EXEC_WORK_UNITS + 2 * SCAN_WORK_UNITS, "{line:.10}: {} units", driver.work_max);
    }
    // One of plain commands is executed in one go: each SET of a new key is three units of work.
    let sets: Vec<u8> = (0..EXEC_COMMANDS).flat_map(|key| words(&format!("SET new{key} v"))).collect();
    driver.feed(&[words("MULTI"), sets].concat());
    driver.work_max = 0;
    driver.feed(&words("EXEC"));
    assert!(driver.work_max >= 3 * EXEC_COMMANDS as u64, "{} units", driver.work_max);
    // So are as many of others, and no more, although they take less work.
    driver.commands_max = 0;
    driver.feed(&[words("MULTI"), words("PING").repeat(3 * EXEC_COMMANDS), words("EXEC")].concat());
    assert_eq!(driver.commands_max, 1 + EXEC_COMMANDS as u64);
    // So is one whose replies just fit, even if as many others wait to be sent.
    driver.feed(&words(&format!("SET a {}", "v".repeat(1000))));
    driver.commands_max = 0;
    let gets = words("GET a").repeat(OUTPUT_HIGH_BYTES / 1010);
    driver.feed(&[&gets, &words("MULTI")[..], &gets, &words("EXEC")].concat());
    assert!(driver.commands_max as usize >= 2 * OUTPUT_HIGH_BYTES / 1010, "{} commands", driver.commands_max);
}

/// What a client asks for is not all in memory at once: beyond what may wait, there is at most one reply. As much as may
/// wait is executed in one turn, since a turn for each reply would take a third longer.
#[test]
fn replies_wait_for_the_reader() {
    let mut driver = driver(0);
    driver.feed(&words(&format!("SET long {}", "v".repeat(32_000))));
    for (line, count) in [("GET long", 100), ("MGET long long long", 30), ("HELLO", 2000)] {
        for frames in [words(line).repeat(count), [words("MULTI"), words(line).repeat(count), words("EXEC")].concat()] {
            let frames = [frames, words("PING")].concat();
            for bytes in [OUTPUT_HIGH_BYTES, VISIT_BYTES] {
                (driver.executor.output_bytes_max, driver.output_max) = (bytes, 0);
                driver.feed(&frames);
                assert!(driver.received().ends_with(b"+PONG\r\n"), "{line}: it did not come to its end");
                let least = if line == "HELLO" { 0 } else { bytes };
                let expected = least..bytes + CHUNK_BYTES;
                assert!(expected.contains(&driver.output_max), "{line}: {} of {expected:?} bytes", driver.output_max);
            }
        }
    }
}

/// A transaction may be as long as one command, to the byte.
#[test]
fn a_queue_has_a_bound() {
    const BOUND_BYTES: usize = (1 << 20) + FRAME_EXTRA_BYTES;
    let full = b"-OOM command not allowed when MULTI has queued as much as it may.\r\n";
    let aborted = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
    let set = |value_bytes| ask(&[b"SET".as_slice(), b"key", &vec![b'v'; value_bytes]]);
    let (long, short) = (set(CHUNK_BYTES + 1), set(1_000));
    // A long value counts by the chunks that it takes.
    let long_bytes = long.len() - (CHUNK_BYTES + 1) - 2 + 2 * CHUNK_BYTES + 2;
    for longs in [0, 1, 10] {
        for over in [0, 1] {
            let left = BOUND_BYTES - longs * long_bytes + over;
            let shorts = left / short.len() - 1;
            let rest = left - shorts * short.len();
            let last = set(rest - (set(1_000).len() - 1_000));
            let commands = longs + shorts + 1;
            let mut driver = driver(0);
            driver.feed(&[words("MULTI"), long.repeat(longs), short.repeat(shorts), last, words("EXEC")].concat());
            let expect = match over {
                0 => format!("+OK\r\n{}*{commands}\r\n{}", "+QUEUED\r\n".repeat(commands), "+OK\r\n".repeat(commands))
                    .into_bytes(),
                _ => [&queued(commands - 1)[..], full, aborted].concat(),
            };
            let received = driver.received();
            assert!(received == expect, "{longs} {over}: {}", received[received.len() - 100..].escape_ascii());
            assert_eq!(driver.executor.store.stray_chunk_bytes(), 0, "{longs} {over}: chunks that nobody gave back");
        }
    }
    // Within one command, which has been answered when it turns out, too.
    let mut session = driver(0);
    let mget = ask(&[&[b"MGET".to_vec()][..], &vec![vec![b'k'; 30_000]; 20]].concat());
    session.feed(&[words("MULTI"), mget.repeat(2), words("GET b\nEXEC")].concat());
    assert_eq!(session.received(), [&queued(3)[..], aborted].concat());
    // What will not fit is not kept while it comes in.
    let mut session = driver(0);
    let (megabyte, most) = (set(1 << 20), 1_000_000);
    session.feed(&[&words("MULTI")[..], &megabyte, &megabyte[..most]].concat());
    let held = session.executor.store.stray_chunk_bytes();
    assert!(held <= (1 << 20) + CHUNK_BYTES, "{held} bytes");
    session.feed(&[&megabyte[most..], &words("EXEC")].concat());
    assert_eq!(session.received(), [&queued(1)[..], full, aborted].concat());
    // The longest value has room, and so has the longest key.
    let mut driver = driver(0);
    let longest = ask(&[b"SET".as_slice(), &[b'k'; KEY_BYTES_MAX], &vec![b'v'; 1 << 20]]);
    driver.feed(&[words("MULTI"), longest].concat());
    // It is executed even if the limit has been lowered since.
    driver.executor.value_bytes_max = 1_000;
    driver.feed(&words("EXEC"));
    assert_eq!(String::from_utf8(driver.received()).expect("text"), "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
}

/// Wherever the chunks end, a transaction is answered as its commands are without it.
#[test]
fn a_queue_does_what_its_commands_do() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let mut random = Random::new(seed);
    for _ in 0..60 {
        let count = 1 + random.below(60);
        let mut commands = Vec::new();
        for _ in 0..count {
            let key_bytes = [1, 1 + random.below(200), KEY_BYTES_MAX - random.below(3)][random.below(3)];
            let value_bytes =
                [random.below(100), random.below(40_000), CHUNK_BYTES + 1 - random.below(3)][random.below(3)];
            let key = vec![b'a' + random.below(3) as u8; key_bytes];
            let value = vec![b'0' + random.below(10) as u8; value_bytes];
            commands.extend(match random.below(5) {
                0 => ask(&[b"GET".as_slice(), &key]),
                1 => ask(&[b"SET".as_slice(), &key, &value]),
                2 => ask(&[b"APPEND".as_slice(), &key, &value]),
                3 => ask(&[b"MSET".as_slice(), &key, &value, b"a", &value]),
                _ => ask(&[b"MGET".as_slice(), &key, b"a", &key]),
            });
        }
        let reader = if random.once_in(2) { Reader::Lazy } else { Reader::Eager };
        let [mut plain, mut queued] = [(); 2].map(|()| Driver::new(reader, 0, 16 << 20));
        plain.feed(&commands);
        queued.feed(&[words("MULTI"), commands, words("EXEC")].concat());
        let head = format!("+OK\r\n{}*{count}\r\n", "+QUEUED\r\n".repeat(count)).into_bytes();
        assert!(queued.received() == [head, plain.received()].concat(), "the replies to {count} commands differ");
        assert_eq!(queued.executor.store.stray_chunk_bytes(), 0);
    }
}

/// Others may have taken memory that the store has still to give up: what would take more of it waits for that.
#[test]
fn nothing_is_written_while_the_store_is_short() {
    let long = ask(&[b"SET".as_slice(), b"a", &[b'v'; 40_000]]);
    let (queued, queue) = (words("MULTI\nSET a 1"), words("EXEC"));
    for (before, after) in [(&b""[..], &words("SET a 1")[..]), (&long[..39_000], &long[39_000..]), (&queued, &queue)] {
        let mut driver = driver(0);
        driver.executor.store.set_memory_limit(8 << 20);
        driver.feed(&(0..20_000).flat_map(|key| words(&format!("SET {key} v"))).collect::<Vec<_>>());
        driver.feed(before);
        driver.outside_bytes = 8 << 20;
        driver.feed(after);
        assert!(driver.received().ends_with(b"+OK\r\n"));
        assert!(driver.short[0] > 1 && driver.short[1] == 0, "{:?}", driver.short);
    }
}

/// What is executed gives its chunks back as it goes. One command may be as long as many chunks.
#[test]
fn a_queue_shrinks_as_it_is_executed() {
    let mut driver = Driver::new(Reader::Lazy, 0, 1 << 20);
    let wide = vec![vec![b'w'; KEY_BYTES_MAX]; 14];
    let ping = ask(&[[b"PING".to_vec()].as_slice(), &wide].concat());
    driver.feed(&[words("MULTI"), words("SET a 1"), ping, words("GET a"), words("EXEC")].concat());
    let received = String::from_utf8(driver.received()).expect("text");
    let arity = "-ERR wrong number of arguments for 'ping' command";
    assert_eq!(received, format!("+OK\r\n{}*3\r\n+OK\r\n{arity}\r\n$1\r\n1\r\n", "+QUEUED\r\n".repeat(3)));
    let get = words("GET none");
    let count = (1 << 20) / get.len();
    driver.feed(&[words("MULTI"), get.repeat(count)].concat());
    let queued = driver.executor.store.stray_chunk_bytes();
    assert!(queued > 900_000, "{queued} bytes of chunks");
    driver.received();
    driver.feed(&words("EXEC"));
    let left = driver.executor.store.stray_chunk_bytes();
    assert!(left < queued && left > 0, "{left} of {queued} bytes are left");
    driver.received();
    assert_eq!(driver.executor.store.stray_chunk_bytes(), 0);
}

/// What takes longer than a look-up counts as work, so that a pipeline of it takes many turns instead of a long one.
#[test]
fn work_is_counted() {
    let mut driver = driver(0);
    let [long, medium] = [32_000, 1_000].map(|length| "v".repeat(length));
    let values = [("zeros", "0".repeat(32_000) + "x"), ("long", long), ("medium", medium)];
    let large = ["large", "gone"].map(|key| (key, "v".repeat(1 << 20)));
    for (key, value) in values.into_iter().chain(large) {
        driver.feed(&words(&format!("SET {key} {value}")));
    }
    let (info, unknown) = ("COMMAND INFO".to_owned() + &" get".repeat(14), "NOSUCH".to_owned() + &" a".repeat(15));
    for (line, units) in [
        ("INCR zeros", 320),
        ("GET long", 31),
        ("GET medium", 1),
        ("GETEX long EX 9", 31),
        ("PERSIST long", 31),
        ("APPEND long v", 62),
        ("COMMAND", 100),
        (&info, 40),
        // It copies references to chunks, although the value stays where it is.
        ("GETEX large EX 9", 4),
        (&unknown, 8),
        ("PING", 1),
        // So does a reply. What is removed is dropped one by one.
        ("GET large", 4),
        ("GETDEL gone", 36),
    ] {
        let before = driver.executor.store.work;
        driver.feed(&words(line));
        let work = driver.executor.store.work - before;
        assert!(work >= units, "{line}: {work} units");
    }
    // The end of a long value's frame is parsed at once, not a CRLF or a digit at a time.
    let mut other = self::driver(0);
    other.feed(&words(&format!("SET a {} PX 1000000 NX GET", "v".repeat(40_000))));
    let work = other.executor.store.work;
    assert!(work <= 6, "SET of a long value: {work} units");
    // A deadline changes where it lies, however long the value is.
    driver.received();
    let before = driver.executor.store.work;
    driver.feed(&words("EXPIRE large 9\nPERSIST large"));
    assert_eq!((driver.executor.store.work - before, &*driver.received()), (0, &b":1\r\n:1\r\n"[..]), "EXPIRE");
    let before = driver.executor.store.work;
    driver.feed(&b"\r\n".repeat(1000));
    assert_eq!(driver.executor.store.work - before, 1000, "empty lines");
    // A long queue is copied, out of its chunks and into the store.
    driver.feed(&[words("MULTI"), words(&format!("SET a {}", "v".repeat(30_000))).repeat(30)].concat());
    let before = driver.executor.store.work;
    driver.feed(&words("EXEC"));
    let work = driver.executor.store.work - before;
    assert!(work >= 1_800, "EXEC: {work} units");
}

/// Commands may be so short that thousands arrive at once.
#[test]
fn a_turn_executes_no_more_than_some_batches() {
    let keys = ask(&[[b"EXISTS".as_slice()].as_slice(), &[b"".as_slice(); 5000]].concat());
    for (input, expect) in [(keys, ":0\r\n".to_owned()), (b"GET\x000\x00\r\n".repeat(5000), "ERR\r\n".repeat(5000))] {
        let mut driver = driver(0);
        driver.feed(&input);
        assert_eq!((driver.received(), driver.commands_max), (expect.into_bytes(), VISIT_COMMANDS as u64));
    }
    // The same where no batch is ever full, since something else stands between the keys.
    let mut driver = driver(0);
    driver.feed(
        &[ask(&[[b"EXISTS".as_slice()].as_slice(), &[b"".as_slice(); 31]].concat()), words("PING")]
            .concat()
            .repeat(100),
    );
    assert_eq!(driver.received(), b":0\r\n+PONG\r\n".repeat(100));
    let most = (VISIT_COMMANDS + BATCH_COMMANDS) as u64;
    assert!(driver.commands_max <= most, "{} commands", driver.commands_max);
}

/// Keys may be so long that a few of them make a long reply, and so alike that a pattern takes long to match them.
#[test]
fn long_keys_take_no_long_scan() {
    let mut driver = driver(0);
    for number in 100..200 {
        driver.feed(&words(&format!("SET {number}{} 1", "a".repeat(60_000))));
    }
    driver.received();
    driver.work_max = 0;
    driver.feed(&words("SCAN 0 COUNT 1000 MATCH 1*"));
    assert!(driver.received().len() < VISIT_BYTES);
    // What it found was copied, and what did not match has been looked at: that counts as work.
    assert!(driver.work_max >= OUTPUT_HIGH_BYTES as u64 / STEPS_PER_UNIT, "{} units", driver.work_max);
    for pattern in ["*".to_owned() + &"a".repeat(250) + "b", format!("*[{}]", "b".repeat(60_000))] {
        driver.work_max = 0;
        check(&mut driver, 0, &format!("SCAN 0 MATCH {pattern}"), "-ERR pattern takes too long to match\n");
        let least = SCAN_STEPS_MAX as u64 / STEPS_PER_UNIT;
        assert!((least..=least + 2 * SCAN_WORK_UNITS).contains(&driver.work_max), "{} units", driver.work_max);
    }
}

/// A turn has some two thousand look-ups, however many clients there are and however short their commands.
#[test]
fn short_commands_of_many_clients_take_many_turns() {
    let mut executor = driver(0).executor;
    let mut sessions: Vec<Box<Session>> = (0..20).map(|id| Box::new(Session::new(id, 0))).collect();
    let frames = b"GET\x000\x00\r\n".repeat(400);
    let input = frames.repeat(sessions.len());
    let visit = |slot| Visit::new(slot, slot * frames.len()..(slot + 1) * frames.len());
    let mut visits: Vec<Visit> = (0..sessions.len()).map(visit).collect();
    executor.begin_turn(0, 0);
    process(&mut visits, &input, &mut sessions, &mut executor);
    assert!((1_900..2_100).contains(&executor.stats.gets), "{}", executor.stats.gets);
}

/// Of clients that each send the last byte of a long frame, the first has used up the turn.
#[test]
fn long_frames_that_end_at_once_have_a_turn_each() {
    let frame = words(&format!("SET {} v", "k".repeat(KEY_BYTES_MAX)));
    let mut executor = driver(0).executor;
    let mut sessions: Vec<Box<Session>> = (0..4).map(|id| Box::new(Session::new(id, 0))).collect();
    let mut buffer = vec![0; sessions.len() * frame.len()];
    let (begun, last) = frame.split_at(frame.len() - 1);
    let sets = [begun, last, b"", b"", b""].map(|piece| {
        executor.begin_turn(0, 0);
        let mut end = 0;
        let mut visit = |(slot, session): (usize, &mut Box<Session>)| {
            let (start, carried) = (end, session.carry(&mut buffer[end..]));
            end += carried + piece.len();
            buffer[start + carried..end].copy_from_slice(piece);
            Visit::new(slot, start..end)
        };
        let mut visits: Vec<Visit> = sessions.iter_mut().enumerate().map(&mut visit).collect();
        process(&mut visits, &buffer, &mut sessions, &mut executor);
        executor.stats.sets
    });
    assert_eq!(sets, [0, 1, 2, 3, 4]);
}

/// By that, the loop knows who has waited longest. The first has used up the turn with what they have in one batch.
#[test]
fn who_is_not_served_has_not_had_a_command_executed() {
    let mut executor = driver(0).executor;
    executor.output_bytes_max = VISIT_BYTES;
    let mut sessions: Vec<Box<Session>> = (0..3).map(|id| Box::new(Session::new(id, 0))).collect();
    let mut buffer = vec![0; 256 * 1024];
    let mut turn = |now, pieces: [&[u8]; 3]| {
        executor.begin_turn(now, 0);
        let mut end = 0;
        let mut visit = |(slot, session): (usize, &mut Box<Session>)| {
            let (start, carried) = (end, session.carry(&mut buffer[end..]));
            end += carried + pieces[slot].len();
            buffer[start + carried..end].copy_from_slice(pieces[slot]);
            Visit::new(slot, start..end)
        };
        let mut visits: Vec<Visit> = sessions.iter_mut().enumerate().map(&mut visit).collect();
        process(&mut visits, &buffer, &mut sessions, &mut executor);
        sessions.iter().map(|session| session.last_command_millis).collect::<Vec<_>>()
    };
    let transaction = [words("MULTI"), words("GET b").repeat(3_000), words("EXEC")].concat();
    assert_eq!(turn(1, [&set(b"a", &[0; SMALL_VALUE_BYTES_MAX]), &get(b"b"), b""]), [1, 1, 0]);
    assert_eq!(turn(2, [&get(b"a").repeat(9), &get(b"a"), b""]), [2, 1, 0]);
    assert_eq!(turn(3, [b"", b"", b""]), [3, 3, 0]);
    (4..22).for_each(|now| assert_eq!(turn(now, [b"", b"", if now == 4 { &transaction } else { b"" }])[2], now));
}

/// The caller may take many turns to answer a question, and many clients may have one.
#[test]
fn what_a_question_is_about_is_held() {
    let held = [1, NAME_BYTES_MAX].map(|bytes| {
        let mut driver = driver(0);
        driver.feed(&words(&format!("CLIENT KILL TYPE {0} TYPE {0}", "x".repeat(bytes))));
        driver.asking_bytes
    });
    assert_eq!(held[1] - held[0], 2 * (NAME_BYTES_MAX - 1));
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    check(&mut driver(0), 0, &format!("CLIENT KILL TYPE {long}"), "-ERR syntax error\n");
}

fn splits(len: usize) -> Vec<usize> {
    if len < SHORT_BYTES {
        return (1..len).collect();
    }
    (1..60).chain([len / 3, len / 2, len - 40_010, len.saturating_sub(100_020)]).chain(len - 50..len).collect()
}

fn driver(default_ttl_millis: u64) -> Driver {
    Driver::new(Reader::Eager, default_ttl_millis, 1 << 20)
}

/// Sends a command at this time, and compares the answer, in which LF stands for CRLF.
fn check(driver: &mut Driver, now: u64, line: &str, expect: &str) {
    driver.now_millis = now;
    driver.feed(&words(line));
    let answer = String::from_utf8(driver.received()).expect("text");
    assert_eq!(answer, expect.replace('\n', "\r\n"), "{line} at {now}");
    assert_eq!(driver.last_command_millis(), now, "{line}: a client that sends commands is not idle");
}
