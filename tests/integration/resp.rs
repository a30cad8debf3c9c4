//! The Redis protocol: rows cut in every way, over a socket and through a session without one; then what needs a
//! server, a clock or several clients.

use std::collections::HashSet;
use std::io::IoSlice;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gostash::batch::{Visit, process};
use gostash::execute::Executor;
use gostash::limits::{EXEC_COMMANDS, EXEC_WORK_UNITS, READ_BYTES, SCAN_PATTERN_BYTES_MAX, SCAN_WORK_UNITS};
use gostash::session::Session;
use gostash::store::{Eviction, Settings, Store};

use crate::client::Client;
use crate::random::{Random, SEED_VARIABLE, seed};
use crate::rows::{Ending, Row};
use crate::server::{Server, command};
use crate::session::{self, Reader};

/// Commands in words, one a line, and the answers, in which LF stands for CRLF.
const ROWS: &[(&str, &str)] = &[
    // What is wrong, first.
    ("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \n"),
    ("NOSUCH a b", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' \n"),
    ("GET", "-ERR wrong number of arguments for 'get' command\n"),
    ("get a b", "-ERR wrong number of arguments for 'get' command\n"),
    ("MGET", "-ERR wrong number of arguments for 'mget' command\n"),
    ("MSET a", "-ERR wrong number of arguments for 'mset' command\n"),
    ("MSET a 1 b\nGET a", "-ERR wrong number of arguments for 'mset' command\n$-1\n"),
    ("SET a b NX XX", "-ERR syntax error\n"),
    ("SET a b EX", "-ERR syntax error\n"),
    ("SET a b EX x", "-ERR value is not an integer or out of range\n"),
    ("SET a b EX 0", "-ERR invalid expire time in 'set' command\n"),
    ("SET a b EX 9223372036854775807", "-ERR invalid expire time in 'set' command\n"),
    ("SET a b EX 1 PX 1", "-ERR syntax error\n"),
    ("SET a b EX 1 KEEPTTL", "-ERR syntax error\n"),
    ("SET a b 1 2 3 4 5 6 7 8 9 10 11 12 13 14\nGET a", "-ERR syntax error\n$-1\n"),
    ("GET 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nPING", "-ERR wrong number of arguments for 'get' command\n+PONG\n"),
    ("EXPIRE a 1 GT LT", "-ERR GT and LT options at the same time are not compatible\n"),
    ("EXPIRE a 1 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible\n"),
    ("EXPIRE a 1 FOO", "-ERR Unsupported option FOO\n"),
    ("EXPIRE a 9999999999999999", "-ERR invalid expire time in 'expire' command\n"),
    ("SELECT 1", "-ERR DB index is out of range\n"),
    ("PING a b", "-ERR wrong number of arguments for 'ping' command\n"),
    ("GETEX a EX 1 2", "-ERR syntax error\n"),
    ("KEYS *", "-ERR KEYS is not served, since all other clients would have to wait: use SCAN\n"),
    ("CLIENT NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.\n"),
    ("COMMAND COUNT x", "-ERR wrong number of arguments for 'command|count' command\n"),
    ("client|list", "-ERR unknown command 'client|list', with args beginning with: \n"),
    ("SCAN x", "-ERR invalid cursor\n"),
    ("SCAN 0 COUNT 0", "-ERR syntax error\n"),
    ("HELLO 4", "-NOPROTO unsupported protocol version\n"),
    ("HELLO x", "-ERR Protocol version is not an integer or out of range\n"),
    ("HELLO 3 NOSUCH", "-ERR Syntax error in HELLO option 'NOSUCH'\n"),
    ("AUTH a b c", "-ERR syntax error\n"),
    (
        "AUTH a\nAUTH default a\nAUTH nobody a",
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
      configuration is correct?\n+OK\n-WRONGPASS invalid username-password pair or user is disabled.\n",
    ),
    ("CLIENT SETINFO nosuch x", "-ERR Unrecognized option 'nosuch'\n"),
    ("SCAN 0 NOSUCH 1\nSCAN 0 COUNT", "-ERR syntax error\n-ERR syntax error\n"),
    (
        "MEMORY USAGE a NOSUCH 1\nMEMORY USAGE a SAMPLES x",
        "-ERR syntax error\n-ERR value is not an integer or out of range\n",
    ),
    ("FLUSHALL NOW", "-ERR syntax error\n"),
    // Connections.
    ("PING\nping\nPING hello", "+PONG\n+PONG\n$5\nhello\n"),
    ("ECHO hello", "$5\nhello\n"),
    ("SELECT 0", "+OK\n"),
    ("CLIENT GETNAME\nCLIENT SETNAME bob\nCLIENT GETNAME", "$-1\n+OK\n$3\nbob\n"),
    ("CLIENT ID", ":{id}\n"),
    ("CLIENT SETINFO LIB-NAME x\nCLIENT SETINFO lib-ver 1", "+OK\n+OK\n"),
    ("COMMAND COUNT\nCOMMAND DOCS", ":50\n*0\n"),
    ("COMMAND INFO get nosuch", "*2\n*10\n$3\nget\n:2\n*2\n+readonly\n+fast\n:1\n:1\n:1\n*0\n*0\n*0\n*0\n$-1\n"),
    (
        "COMMAND INFO Client|ID",
        "*1\n*10\n$9\nclient|id\n:2\n*3\n+noscript\n+loading\n+stale\n:0\n:0\n:0\n*0\n*0\n*0\n*0\n",
    ),
    (
        "INCRBY a -0\nSELECT 00",
        "-ERR value is not an integer or out of range\n-ERR value is not an integer or out of range\n",
    ),
    ("SET a 1\nEXPIRE a -01\nGET a", "+OK\n-ERR value is not an integer or out of range\n$1\n1\n"),
    ("QUIT\nPING", "+OK\n"),
    ("HELLO 3\nGET none", "%7\n{hello 3}_\n"),
    ("HELLO 3\nHELLO 2\nHELLO", "%7\n{hello 3}*14\n{hello 2}*14\n{hello 2}"),
    // Keys.
    ("SET a 1\nGET a\nget b", "+OK\n$1\n1\n$-1\n"),
    ("SET a 1 NX\nSET a 2 NX\nSET a 3 XX\nSET b 1 XX\nGET a", "+OK\n$-1\n+OK\n$-1\n$1\n3\n"),
    (
        "SET a 1 GET\nSET a 2 GET\nSET a 3 NX GET\nGET a\nSET b 1 XX GET\nEXISTS b",
        "$-1\n$1\n1\n$1\n2\n$1\n2\n$-1\n:0\n",
    ),
    (
        "SET a 1 EX 100\nTTL a\nPTTL a\nSET a 2 KEEPTTL\nTTL a\nSET a 3\nTTL a\nTTL b",
        "+OK\n:100\n:100000\n+OK\n:100\n+OK\n:-1\n:-2\n",
    ),
    ("SET a 1 PX 1500\nTTL a\nPTTL a", "+OK\n:2\n:1500\n"),
    ("SETNX a 1\nSETNX a 2\nGET a", ":1\n:0\n$1\n1\n"),
    (
        "SETEX a 10 v\nTTL a\nPSETEX a 5000 w\nPTTL a\nSETEX a 0 v\nSETEX a -1 v",
        "+OK\n:10\n+OK\n:5000\n\
      -ERR invalid expire time in 'setex' command\n-ERR invalid expire time in 'setex' command\n",
    ),
    ("GETSET a 1\nGETSET a 2\nGETDEL a\nGETDEL a", "$-1\n$1\n1\n$1\n2\n$-1\n"),
    (
        "GETEX a\nSET a 1\nGETEX a EX 10\nTTL a\nGETEX a PERSIST\nTTL a\nGETEX a EX 0",
        "$-1\n+OK\n$1\n1\n:10\n$1\n1\n:-1\n\
      -ERR invalid expire time in 'getex' command\n",
    ),
    ("MSET a 1 b 2 c 3\nMGET a none c", "+OK\n*3\n$1\n1\n$-1\n$1\n3\n"),
    ("MSET a 1 b 2\nDEL a b c\nDEL a\nUNLINK a", "+OK\n:2\n:0\n:0\n"),
    ("SET a 1\nEXISTS a a b\nTOUCH a b\nTYPE a\nTYPE b", "+OK\n:2\n:1\n+string\n+none\n"),
    ("STRLEN a\nAPPEND a abc\nAPPEND a def\nSTRLEN a\nGET a", ":0\n:3\n:6\n:6\n$6\nabcdef\n"),
    ("SET a 1 EX 100\nAPPEND a 2\nTTL a", "+OK\n:2\n:100\n"),
    ("INCR a\nINCRBY a 10\nDECR a\nDECRBY a 20\nGET a", ":1\n:11\n:10\n:-10\n$3\n-10\n"),
    (
        "SET a x\nINCR a\nINCRBY a x\nSET a 9223372036854775807\nINCR a\nGET a",
        "+OK\n\
      -ERR value is not an integer or out of range\n-ERR value is not an integer or out of range\n+OK\n\
      -ERR increment or decrement would overflow\n$19\n9223372036854775807\n",
    ),
    ("DECRBY a -9223372036854775808", "-ERR decrement would overflow\n"),
    (
        "EXPIRE a 10\nSET a 1\nEXPIRE a 10\nEXPIRE a 5 GT\nEXPIRE a 20 LT\nEXPIRE a 20 NX\nEXPIRE a 20 XX\nTTL a",
        ":0\n+OK\n:1\n:0\n:0\n:0\n:1\n:20\n",
    ),
    (
        "SET a 1\nEXPIRE a 10 GT\nEXPIRE a 10 XX\nEXPIRE a 10 LT\nPERSIST a\nPERSIST a\nPERSIST b",
        "+OK\n:0\n:0\n:1\n:1\n:0\n:0\n",
    ),
    ("SET a 1\nPEXPIRE a 5000\nPTTL a\nPEXPIRE b 5000", "+OK\n:1\n:5000\n:0\n"),
    ("SET a 1\nEXPIRE a -1\nGET a\nSET a 1\nPEXPIREAT a -1\nGET a", "+OK\n:1\n$-1\n+OK\n:1\n$-1\n"),
    (
        "SET a 1\nEXPIREAT a 99999999999\nEXPIRETIME a\nPEXPIRETIME a\nEXPIRETIME b",
        "+OK\n:1\n:99999999999\n:99999999999000\n:-2\n",
    ),
    ("SET a 1 PXAT 9223372036854775806\nEXPIRETIME a", "+OK\n:9223372036854776\n"),
    ("SET a 1\nPEXPIREAT a 9223372036854775807\nPEXPIRETIME a", "+OK\n:1\n:9223372036854775807\n"),
    ("SET a 1 PXAT 99999999999123\nPEXPIRETIME a\nPEXPIRETIME b", "+OK\n:99999999999123\n:-2\n"),
    (
        "SET a 1\nEXPIRE a 10 XX LT\nEXPIRE a 10 LT\nEXPIRE a 20 XX LT\nEXPIRE a 20 XX GT\nTTL a",
        "+OK\n:0\n:1\n:0\n:1\n:20\n",
    ),
    ("SET a 1\nDBSIZE\nFLUSHALL\nDBSIZE\nGET a\nFLUSHDB ASYNC\nFLUSHALL sync", "+OK\n:1\n+OK\n:0\n$-1\n+OK\n+OK\n"),
    (
        "SET a 1\nSCAN 0 COUNT 1000\nSCAN 0 MATCH b* COUNT 1000\nSCAN 0 TYPE list COUNT 1000",
        "+OK\n*2\n$1\n0\n*1\n$1\na\n*2\n$1\n0\n*0\n*2\n$1\n0\n*0\n",
    ),
    ("MEMORY USAGE none SAMPLES 5\nMEMORY USAGE", "$-1\n-ERR wrong number of arguments for 'memory|usage' command\n"),
    // Transactions.
    ("EXEC\nDISCARD", "-ERR EXEC without MULTI\n-ERR DISCARD without MULTI\n"),
    ("MULTI\nEXEC", "+OK\n*0\n"),
    ("MULTI\nMULTI\nSET a 1\nEXEC", "+OK\n-ERR MULTI calls can not be nested\n+QUEUED\n*1\n+OK\n"),
    (
        "MULTI\nSET a 1\nINCR a\nMGET a b\nGET a\nEXEC\nGET a",
        "+OK\n+QUEUED\n+QUEUED\n+QUEUED\n+QUEUED\n\
      *4\n+OK\n:2\n*2\n$1\n2\n$-1\n$1\n2\n$1\n2\n",
    ),
    (
        "MULTI\nSET a x\nINCR a\nSET a y\nEXEC\nGET a",
        "+OK\n+QUEUED\n+QUEUED\n+QUEUED\n\
      *3\n+OK\n-ERR value is not an integer or out of range\n+OK\n$1\ny\n",
    ),
    (
        "MULTI\nSET a 1\nNOSUCH\nSET b 1\nEXEC\nGET a\nGET b",
        "+OK\n+QUEUED\n\
      -ERR unknown command 'NOSUCH', with args beginning with: \n+QUEUED\n\
      -EXECABORT Transaction discarded because of previous errors.\n$-1\n$-1\n",
    ),
    (
        "MULTI\nCONFIG NOSUCH\nEXEC",
        "+OK\n-ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP.\n\
      -EXECABORT Transaction discarded because of previous errors.\n",
    ),
    (
        "MULTI\nMSET a\nDEL a\nEXEC",
        "+OK\n-ERR wrong number of arguments for 'mset' command\n+QUEUED\n\
      -EXECABORT Transaction discarded because of previous errors.\n",
    ),
    ("MULTI\nSET a 1\nDISCARD\nGET a", "+OK\n+QUEUED\n+OK\n$-1\n"),
    ("MULTI\nMSET a 1 b 2\nDEL a b c\nPING\nEXEC", "+OK\n+QUEUED\n+QUEUED\n+QUEUED\n*3\n+OK\n:2\n+PONG\n"),
];

/// What HELLO says, after its head.
const HELLO: &str = "$6\nserver\n$5\nredis\n$7\nversion\n$5\n7.2.0\n$4\nmode\n$10\nstandalone\n$4\nrole\n$6\nmaster\n\
      $5\nproto\n:{version}\n$2\nid\n:{id}\n$7\nmodules\n*0\n";

/// Bytes and answers that words cannot say, and whether the connection goes on.
const RAW_ROWS: &[(&[u8], &[u8], Ending)] = &[
    (b"*1\r\n!", b"-ERR Protocol error: expected '$', got '!'\r\n", Ending::Broken),
    (b"*x", b"-ERR Protocol error: invalid multibulk length\r\n", Ending::Broken),
    (b"*1000001\r\n", b"-ERR Protocol error: invalid multibulk length\r\n", Ending::Broken),
    (b"*999999999999999999999", b"-ERR Protocol error: invalid multibulk length\r\n", Ending::Broken),
    (b"*1\r\n$-1\r\n", b"-ERR Protocol error: invalid bulk length\r\n", Ending::Broken),
    (b"*1\r\n$99999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n", Ending::Broken),
    (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$16777217\r\n", b"-ERR Protocol error: invalid bulk length\r\n", Ending::Broken),
    (b"*2\r\n$3\r\nGET\r\n$1\r\nabc", b"-ERR Protocol error: expected CRLF after an argument\r\n", Ending::Closed),
    (b"POST", b"-ERR Protocol error: expected '*', got 'P'\r\n", Ending::Closed),
    (b"*1\r\n$4\r\nPING\r\nGET", b"+PONG\r\n-ERR Protocol error: expected '*', got 'G'\r\n", Ending::Closed),
    (b"PING\r\nping\r\n", b"+PONG\r\n+PONG\r\n", Ending::Open),
    (b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", Ending::Open),
    (b"*1\r\n$4\r\nPING\r\n\r\n*1\r\n$4\r\nPING\r\n", b"+PONG\r\n+PONG\r\n", Ending::Open),
    (b"*1\r\n$4\r\nPING\r\n\rX", b"+PONG\r\n-ERR Protocol error: expected '*', got '\\r'\r\n", Ending::Closed),
    (
        b"*3\r\n$3\r\nSET\r\n$5\r\na\0\r\nb\r\n$3\r\n\r\n\0\r\n*2\r\n$3\r\nGET\r\n$5\r\na\0\r\nb\r\n",
        b"+OK\r\n$3\r\n\r\n\0\r\n",
        Ending::Open,
    ),
    (b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n", b"+OK\r\n$0\r\n\r\n", Ending::Open),
    (b"*2\r\n$3\r\nGET\r\n$1\r\n", b"", Ending::Unfinished),
];

/// A command as a client sends it.
fn ask<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut frame = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        frame.extend(bulk(word.as_ref()));
    }
    frame
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

pub(crate) fn words(line: &str) -> Vec<u8> {
    ask(&line.split(' ').collect::<Vec<_>>())
}

/// The rows for a connection with this number.
fn rows(id: u64) -> Vec<Row> {
    let hello = |version| HELLO.replace("{version}", version);
    let worded = ROWS.iter().map(|(commands, expect)| Row {
        name: commands.to_string(),
        send: commands.lines().flat_map(words).collect(),
        expect: expect
            .replace("{hello 2}", &hello("2"))
            .replace("{hello 3}", &hello("3"))
            .replace("{id}", &id.to_string())
            .replace('\n', "\r\n")
            .into_bytes(),
        ending: if commands.starts_with("QUIT") { Ending::Closed } else { Ending::Open },
    });
    let raw = RAW_ROWS.iter().map(|&(send, expect, ending)| Row {
        name: send.escape_ascii().to_string(),
        send: send.to_vec(),
        expect: expect.to_vec(),
        ending,
    });
    worded.chain(raw).chain(large_rows()).collect()
}

/// Rows with values that come in chunks, which are too long to be cut at each of their bytes.
fn large_rows() -> Vec<Row> {
    let (long, other) = (vec![b'x'; 100_000], vec![b'y'; 40_000]);
    let row = |name: &str, commands: &[Vec<u8>], answers: &[&[u8]]| Row {
        name: name.to_owned(),
        send: commands.concat(),
        expect: answers.concat(),
        ending: Ending::Open,
    };
    let (ok, queued) = (b"+OK\r\n".as_slice(), b"+QUEUED\r\n".as_slice());
    let get = words("GET a");
    let many: Vec<_> = (0..5000).map(|number| format!("k{number}").into_bytes()).collect();
    let mget = ask(&[vec![b"MGET".to_vec()], many.clone()].concat());
    vec![
        row("a long value", &[ask(&[b"SET".as_slice(), b"a", &long]), get.clone()], &[ok, &bulk(&long)]),
        row(
            "options behind it",
            &[ask(&[b"SET".as_slice(), b"a", &long, b"EX", b"10"]), words("TTL a"), get.clone()],
            &[ok, b":10\r\n", &bulk(&long)],
        ),
        row(
            "a wrong option behind it",
            &[ask(&[b"SET".as_slice(), b"a", &long, b"E"]), get.clone()],
            &[b"-ERR syntax error\r\n$-1\r\n"],
        ),
        row(
            "two long values",
            &[ask(&[b"MSET".as_slice(), b"a", &long, b"b", &other, b"c", b"d"]), words("MGET a b c")],
            &[ok, b"*3\r\n", &bulk(&long), &bulk(&other), b"$1\r\nd\r\n"],
        ),
        row(
            "a transaction with long values",
            &[
                words("MULTI"),
                ask(&[b"MSET".as_slice(), b"a", &long, b"b", &other]),
                get.clone(),
                ask(&[b"SETEX".as_slice(), b"b", b"9", &long]),
                words("EXEC"),
                words("STRLEN b"),
            ],
            &[ok, queued, queued, queued, b"*3\r\n+OK\r\n", &bulk(&long), ok, b":100000\r\n"],
        ),
        row(
            "appending",
            &[
                ask(&[b"APPEND".as_slice(), b"a", &long]),
                ask(&[b"APPEND".as_slice(), b"a", b"-"]),
                ask(&[b"APPEND".as_slice(), b"a", &other]),
                get.clone(),
            ],
            &[b":100000\r\n:100001\r\n:140001\r\n", &bulk(&[&long[..], b"-", &other].concat())],
        ),
        row(
            "appending more than one command moves",
            &[words("SET a 1"), ask(&[b"APPEND".as_slice(), b"a", &vec![b'x'; 600_000]]), get.clone()],
            &[ok, b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n$1\r\n1\r\n"],
        ),
        row("an echo", &[ask(&[b"ECHO".as_slice(), &long])], &[&bulk(&long)]),
        row(
            "long arguments where none belong",
            &[
                ask(&[b"LPUSH".as_slice(), b"a", &long]),
                ask(&[b"CLIENT".as_slice(), b"SETNAME", &long]),
                ask(&[b"GET".as_slice(), &long]),
                words("PING"),
            ],
            &[
                b"-ERR unknown command 'LPUSH', with args beginning with: 'a' '' \r\n-ERR syntax error\r\n",
                b"-ERR a key can have 65535 bytes at most\r\n+PONG\r\n",
            ],
        ),
        row(
            "a long key that is not the first argument, and one that is too long",
            &[
                ask(&[b"MEMORY".as_slice(), b"USAGE", &other]),
                ask(&[b"MEMORY".as_slice(), b"USAGE", &long]),
                words("PING"),
            ],
            &[b"$-1\r\n-ERR a key can have 65535 bytes at most\r\n+PONG\r\n"],
        ),
        row(
            "an argument too long for a command, behind a long value or a long key",
            &[
                ask(&[b"SET".as_slice(), b"a", &long, &long, b"NX"]),
                ask(&[b"SET".as_slice(), &other, b"b", &long]),
                words("PING"),
            ],
            &[b"-ERR syntax error\r\n-ERR syntax error\r\n+PONG\r\n"],
        ),
        row(
            "a pattern that would take long",
            &[ask(&[b"SCAN".as_slice(), b"0", b"MATCH", &[b'x'; SCAN_PATTERN_BYTES_MAX + 1]])],
            &[b"-ERR pattern is too long\r\n"],
        ),
        row(
            "an unknown command, of whose arguments not all is given back",
            &[ask(&[b"NOSUCH".as_slice(), &[b'x'; 100], &[b'y'; 100], b"z"])],
            &[
                b"-ERR unknown command 'NOSUCH', with args beginning with: '",
                &[b'x'; 100],
                b"' '",
                &[b'y'; 25],
                b"' \r\n",
            ],
        ),
        row("many keys", &[mget], &[b"*5000\r\n", &b"$-1\r\n".repeat(5000)]),
        row(
            "many keys of an unknown command",
            &[ask(&[vec![b"NOSUCH".to_vec()], many].concat()), words("PING")],
            &[
                b"-ERR unknown command 'NOSUCH', with args beginning with: 'k0' 'k1' 'k2' 'k3' 'k4' 'k5' 'k6' 'k7' 'k8' 'k9' \
                  'k10' 'k11' 'k12' 'k13' 'k14' \r\n+PONG\r\n",
            ],
        ),
    ]
}

const SHORT: usize = 400;

fn splits(len: usize) -> Vec<usize> {
    if len < SHORT {
        return (1..len).collect();
    }
    (1..60).chain([len / 3, len / 2, len - 40_010, len.saturating_sub(100_020)]).chain(len - 50..len).collect()
}

#[test]
fn session_rows_cut() {
    for row in rows(0) {
        let len = row.send.len();
        for reader in [Reader::Eager, Reader::Lazy] {
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
fn socket_rows_cut() {
    let server = Server::start(&["--max-memory", "1gb"]);
    let mut control = Client::tcp(&server);
    let mut id = 1;
    for number in 0..rows(0).len() {
        let len = rows(0)[number].send.len();
        if rows(0)[number].name.contains("PTTL") {
            // Over a socket, milliseconds pass.
            continue;
        }
        let mut cuts = vec![vec![len], vec![len / 2, len]];
        if len < SHORT {
            cuts.push((1..=len).collect());
        }
        for ends in cuts {
            id += 1;
            let row = &rows(id)[number];
            control.check(&words("FLUSHALL"), b"+OK\r\n");
            let mut client = Client::tcp(&server);
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
    client.check(
        &words("HELLO 3"),
        b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
          option can be used to authenticate the client and select the RESP protocol version at the same time\r\n",
    );
    client.check(&words("GET a"), no_auth);
    client.check(&auth(&["AUTH", "open sesame"]), b"+OK\r\n");
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
        [words("MULTI"), ask(&[b"APPEND".as_slice(), b"b", &[b'x'; 30_000]]).repeat(200), words("EXEC")].concat();
    client.send(&send);
    let lines: Vec<_> = (0..202).map(|_| read_line(&mut client)).collect();
    assert!(lines[1..201].iter().any(|line| line.starts_with("-OOM")), "nothing was refused");
    assert!(lines[201].starts_with("-EXECABORT"), "{}", lines[201]);
    client.check(&words("EXISTS b"), b":0\r\n");
    // The same within one command, which has been answered when it turns out.
    let mget: Vec<_> = std::iter::once(b"MGET".to_vec()).chain(std::iter::repeat_n(vec![b'k'; 30_000], 200)).collect();
    let send = [words("MULTI"), ask(&mget), words("GET b"), words("EXEC")].concat();
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    client.check_beside(&send, false, format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n{aborted}").as_bytes());
}

/// However much a transaction asks for, others wait no longer for it than for one of plain commands.
#[test]
fn a_transaction_does_not_take_a_turn_of_any_length() {
    let mut driver = Driver::new(0);
    driver.turn(0, &(0..5000).flat_map(|key| words(&format!("SET {key} v"))).collect::<Vec<_>>());
    for (line, commands) in [("SCAN 0 COUNT 5000 MATCH none", 500), (&format!("APPEND a {}", "v".repeat(2000)), 500)] {
        (driver.work_max, driver.answer) = (0, Vec::new());
        driver.turn(0, &[words("MULTI"), words(line).repeat(commands), words("EXEC"), words("PING")].concat());
        assert!(driver.answer.ends_with(b"+PONG\r\n"), "{}", driver.answer.escape_ascii());
        assert!(driver.work_max <= EXEC_WORK_UNITS + 2 * SCAN_WORK_UNITS, "{line:.10}: {} units", driver.work_max);
    }
    // One of plain commands is executed in one go: each SET of a new key is three units of work.
    let sets: Vec<u8> = (0..EXEC_COMMANDS).flat_map(|key| words(&format!("SET new{key} v"))).collect();
    driver.turn(0, &[words("MULTI"), sets].concat());
    driver.work_max = 0;
    driver.turn(0, &words("EXEC"));
    assert!(driver.work_max >= 3 * EXEC_COMMANDS as u64, "{} units", driver.work_max);
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

/// A session and its store, driven by bytes and a clock of the test's own.
struct Driver {
    sessions: [Box<Session>; 1],
    executor: Executor,
    buffer: Vec<u8>,
    answer: Vec<u8>,
    /// The most work that the store did in one turn, in its units.
    work_max: u64,
}

impl Driver {
    fn new(default_ttl_millis: u64) -> Driver {
        let settings = Settings { memory_bytes: 1 << 26, eviction: Eviction::S3Fifo, default_ttl_millis };
        let executor = Executor::new(Store::new(settings), 1 << 20);
        let sessions = [Box::new(Session::new(0, 0))];
        Driver { sessions, executor, buffer: vec![0; 1 << 17], answer: Vec::new(), work_max: 0 }
    }

    /// Sends a command at this time, and compares the answer, in which LF stands for CRLF.
    fn check(&mut self, now: u64, line: &str, expect: &str) {
        self.turn(now, &words(line));
        let answer = String::from_utf8(std::mem::take(&mut self.answer)).expect("text");
        assert_eq!(answer, expect.replace('\n', "\r\n"), "{line} at {now}");
    }

    /// Lets bytes arrive at this time, and runs whatever they allow to run.
    fn turn(&mut self, now: u64, bytes: &[u8]) {
        let mut bytes = bytes;
        loop {
            let session = &mut self.sessions[0];
            let start = session.carry(&mut self.buffer);
            let taken = if session.wants_input() || start > 0 { bytes.len().min(READ_BYTES) } else { 0 };
            self.buffer[start..start + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.executor.begin_turn(now, 0);
            let visits = &mut [Visit::new(0, 0..start + taken)];
            let work = self.executor.store.work();
            process(visits, &self.buffer, &mut self.sessions, &mut self.executor);
            self.work_max = self.work_max.max(self.executor.store.work() - work);
            let session = &mut self.sessions[0];
            if session.take_question().is_some() {
                session.output.push(b"+asked\r\n");
            }
            while !session.output.is_empty() {
                let mut slices = [IoSlice::new(b""); 1];
                session.output.slices(&mut slices, usize::MAX);
                let count = slices[0].len();
                self.answer.extend_from_slice(&slices[0]);
                session.output.consume(count);
            }
            if session.is_broken() || bytes.is_empty() && !session.can_run() {
                return;
            }
        }
    }
}

#[test]
fn time_passes_as_it_is_told() {
    let mut driver = Driver::new(0);
    // The wall clock is set back and forth: what it says counts for what is given and told as Unix time, at that
    // moment, and nothing expires sooner or later for it.
    for (now, offset, line, expect) in [
        (1000, 5_000_000, "SET a 1 PX 500", "+OK\n"),
        (1499, 5_000_000, "PTTL a", ":1\n"),
        (1499, 9_000_000, "PTTL a", ":1\n"),
        (1500, 0, "GET a", "$-1\n"),
        (2000, 5_000_000, "SET a 1 PXAT 5003000", "+OK\n"),
        (2000, 7_000_000, "PTTL a", ":1000\n"),
        (2000, 7_000_000, "PEXPIRETIME a", ":7003000\n"),
        (2999, 0, "GETEX a PX 10", "$1\n1\n"),
        (3008, 0, "GETEX a PERSIST", "$1\n1\n"),
        (9999, 0, "TTL a", ":-1\n"),
        (9999, 0, "EXPIRE a 100", ":1\n"),
        (109_998, 0, "EXISTS a", ":1\n"),
        (109_999, 0, "EXISTS a", ":0\n"),
        // What would have expired is gone at once, where it may be written.
        (110_000, 0, "SET a 1", "+OK\n"),
        (110_000, 0, "SET a 2 NX EXAT 1", "$-1\n"),
        (110_000, 0, "DBSIZE", ":1\n"),
        (110_000, 0, "SET a 2 EXAT 1", "+OK\n"),
        (110_000, 0, "DBSIZE", ":0\n"),
        (110_000, 0, "SET b 2 GET EXAT 1", "$-1\n"),
        (110_000, 0, "DBSIZE", ":0\n"),
    ] {
        driver.executor.clock.unix_offset_millis = offset;
        driver.check(now, line, expect);
    }
}

#[test]
fn a_write_lives_as_long_as_the_default_says_unless_it_says_more() {
    let mut driver = Driver::new(10_000);
    for (now, line, expect) in [
        (0, "SET a 1", "+OK\n"),
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
        (4000, "PTTL own", ":95000\n"),
        (4000, "PTTL new", ":6000\n"),
        (4000, "PERSIST new", ":1\n"),
        (9_999, "EXISTS a number text b c own new", ":7\n"),
        (10_000, "EXISTS a number text b c own new", ":3\n"),
        (14_000, "MGET c own new", "*3\n$-1\n$1\n1\n$1\n1\n"),
    ] {
        driver.check(now, line, expect);
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
        let mut driver = Driver::new(0);
        let pairs = values.into_iter().flat_map(|value| [b"key".as_slice(), value]);
        let frame = ask(&std::iter::once(b"MSET".as_slice()).chain(pairs).collect::<Vec<_>>());
        driver.turn(0, &frame[..frame.len() - unsent]);
        assert_eq!(driver.answer.escape_ascii().to_string(), expect.as_bytes().escape_ascii().to_string());
    }
    // A pattern that is as long as one may be is none too long.
    let pattern = "x".repeat(SCAN_PATTERN_BYTES_MAX);
    Driver::new(0).check(0, &format!("SCAN 0 COUNT 1000 MATCH {pattern}"), "*2\n$1\n0\n*0\n");
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
                0 => input.extend(ask(&[b"SET".as_slice(), b"a", &long])),
                1 => input.extend(ask(&[b"MSET".as_slice(), b"a", &long, b"b", &long])),
                2 => input.extend(words("MULTI")),
                3 => input.extend(words("EXEC")),
                _ => commands.lines().for_each(|line| input.extend(words(line))),
            }
        }
        if random.once_in(2) {
            let at = random.below(input.len());
            input[at] = b"*$0129-\r\nPa\xFF"[random.below(12)];
        }
        let mut whole = Driver::new(0);
        whole.turn(0, &input);
        let mut pieces = Driver::new(0);
        let mut from = 0;
        while from < input.len() && !pieces.sessions[0].is_broken() {
            let longest = if random.once_in(3) { 20_000 } else { 30 };
            let count = 1 + random.below(longest);
            let to = input.len().min(from + count);
            pieces.turn(0, &input[from..to]);
            from = to;
        }
        let (whole, pieces) = (whole.answer.escape_ascii().to_string(), pieces.answer.escape_ascii().to_string());
        assert!(whole == pieces, "{}\n{whole}\n{pieces}", input.escape_ascii());
    }
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
    client.check(&words("CLIENT KILL ID 0"), b"-ERR client-id should be greater than 0\r\n");
    client.check(&words("CLIENT KILL ID 1000000 SKIPME no"), b":0\r\n");
    for wrong in
        ["CLIENT KILL ID 1 USER", "CLIENT KILL NOSUCH x", "CLIENT LIST USER default", "CLIENT LIST ADDR 1.2.3.4:5"]
    {
        client.check(&words(wrong), b"-ERR syntax error\r\n");
    }
    let (first, tenth) = (field("id=1 ", "id="), field("name=ten", "id="));
    client.send(&words(&format!("CLIENT LIST ID {first} {tenth}")));
    assert_eq!(read_text(&mut client).lines().filter(|line| line.starts_with("id=")).count(), 2);
    client.check(&words(&format!("CLIENT KILL LADDR {} ID {first} SKIPME yes", server.addr())), b":0\r\n");
    client.check(&words(&format!("CLIENT KILL LADDR 1.2.3.4:5 ID {tenth}")), b":0\r\n");
    let ten = field("name=ten", "addr=");
    client.check(&words(&format!("CLIENT KILL USER nobody ADDR {ten}")), b":0\r\n");
    client.check(&words(&format!("CLIENT KILL USER default ADDR {ten}")), b":1\r\n");
    others[10].expect_end();
    client.check(&words("CLIENT KILL TYPE normal"), b":197\r\n");
    others[9].expect_end();
    client.check(&words("CLIENT KILL TYPE normal SKIPME no"), b":1\r\n");
    client.expect_end();
}

#[test]
fn settings_are_shown_and_take_effect() {
    let server = Server::start(&["--max-memory", "64mb"]);
    let mut client = Client::tcp(&server);
    client.check(&words("CONFIG GET maxmemor?"), &ask(&["maxmemory", "67108864"]));
    client.check(&words("CONFIG GET save appendonly"), &ask(&["appendonly", "no", "save", ""]));
    client.check(&words("CONFIG GET nosuch"), b"*0\r\n");
    client.check(&ask(&["CONFIG", "GET", &"x".repeat(SCAN_PATTERN_BYTES_MAX + 1)]), b"-ERR syntax error\r\n");
    let wrong = "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument must be between 1 and ";
    client.send(&words("CONFIG SET maxmemory 16mb maxclients 0"));
    assert!(read_line(&mut client).starts_with(wrong));
    client.check(&words("CONFIG GET maxmemory"), &ask(&["maxmemory", "67108864"]));
    let arity = b"-ERR wrong number of arguments for 'config|set' command\r\n";
    client.check(&words("CONFIG SET maxmemory 16mb maxclients"), arity);
    client
        .check(&words("CONFIG SET port 1"), b"-ERR Unknown option or number of arguments for CONFIG SET - 'port'\r\n");
    // Memory: what is too much goes, in time.
    let value = vec![b'v'; 10_000];
    let sets: Vec<u8> = (0..4000).flat_map(|key| ask(&[b"SET", format!("{key}").as_bytes(), &value])).collect();
    client.check_beside(&sets, false, &b"+OK\r\n".repeat(4000));
    client.check(&words("CONFIG SET maxmemory 16mb"), b"+OK\r\n");
    crate::server::wait_until("the store to shrink", || used_memory(&mut client) <= 16 << 20);
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
    // An index that holds one item is as large as any may begin.
    assert!((9..1 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn info_is_true() {
    let server = Server::start(&[]);
    let mut client = Client::tcp(&server);
    client.check(&words("SET a 1 EX 100"), b"+OK\r\n");
    client.check(&words("MGET a b c"), b"*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n");
    client.send(&words("INFO"));
    let info = read_text(&mut client);
    for line in [
        "# Server",
        "redis_version:7.2.0",
        "connected_clients:1",
        "maxclients:10000",
        "keyspace_hits:1",
        "keyspace_misses:2",
        "cmdstat_info:calls=1,usec=0,usec_per_call=0.00",
        "cmdstat_set:calls=1,usec=0,usec_per_call=0.00",
        "cmdstat_mget:calls=1,usec=0,usec_per_call=0.00",
        "db0:keys=1,expires=1,avg_ttl=0",
        "role:master",
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
    client.check(&words("INFO nosuch"), b"$0\r\n\r\n");
}

/// What INFO says is in use, in bytes.
fn used_memory(client: &mut Client) -> usize {
    client.send(&words("INFO memory"));
    let info = read_text(client);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("that field");
    used.parse().expect("a number")
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
    client.send(&words("TIME"));
    assert_eq!(read_line(&mut client), "*2");
    let [seconds, micros] = [(); 2].map(|()| read_text(&mut client).trim().parse().expect("a number"));
    let told = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
    // It is the time at which the turn began, in whole milliseconds of two clocks.
    let is_near =
        told < SystemTime::now() + Duration::from_millis(10) && told > SystemTime::now() - Duration::from_secs(10);
    assert!(is_near && micros < 1_000_000, "{seconds} s and {micros} us");
}

/// What a full store refuses is said in Redis's words, whatever it is, and the connection goes on.
#[test]
fn a_full_store_that_may_not_evict_says_so_to_everybody() {
    let server = Server::start(&["--max-memory", "8mb", "--eviction", "none"]);
    let mut client = Client::tcp(&server);
    let oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".as_slice();
    let (large, small) = (vec![b'v'; 900_000], vec![b'v'; 1_000]);
    // First what is large, until there is no room for it, then what is small.
    let mut fill = |value: &[u8]| {
        let full = (0..100_000).find(|number| {
            client.send(&ask(&[b"SET".as_slice(), format!("{} {number}", value.len()).as_bytes(), value]));
            client.read_line() == oom
        });
        assert!(full.is_some_and(|count| count > 1), "{full:?} of {} bytes", value.len());
    };
    fill(&large);
    fill(&small);
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
    client.check(&words("EXISTS a b"), b":0\r\n");
    client.check(&ask(&["STRLEN", "1000 0"]), b":1000\r\n");
    client.check(&words("FLUSHALL"), b"+OK\r\n");
    let mut frames = Client::tcp(&server);
    crate::server::wait_until("room again", || {
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
    crate::server::wait_until("what was sent to be in use", || used_memory(&mut client) > before + 3_900_000);
    assert!(used_memory(&mut client) < before + 5_000_000);
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
