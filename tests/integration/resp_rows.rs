//! What the Redis protocol says, as rows: commands and replies, then how the connection goes on. Data only, for a
//! session without a socket and for a real server.

use gostash::protocol::verbs::COMMANDS;

use crate::client::{ask, bulk, words};
use crate::rows::{Ending, Row};

/// Commands in words, one a line, and the answers, in which LF stands for CRLF.
pub(crate) const ROWS: &[(&str, &str)] = &[
    // What is wrong, first.
    ("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \n"),
    ("NOSUCH a b", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' \n"),
    ("GET", "-ERR wrong number of arguments for 'get' command\n"),
    ("get a b", "-ERR wrong number of arguments for 'get' command\n"),
    ("MGET", "-ERR wrong number of arguments for 'mget' command\n"),
    ("MSET a", "-ERR wrong number of arguments for 'mset' command\n"),
    ("MSET a 1 b\nGET a", "-ERR wrong number of arguments for 'mset' command\n$-1\n"),
    ("SET a b NX XX\nSET a b XX NX", "-ERR syntax error\n-ERR syntax error\n"),
    ("SET a b EX", "-ERR syntax error\n"),
    ("SET a b EX x", "-ERR value is not an integer or out of range\n"),
    ("SET a b EX 0", "-ERR invalid expire time in 'set' command\n"),
    ("SET a b EX 9223372036854775807", "-ERR invalid expire time in 'set' command\n"),
    ("SET a b EX 1 PX 1", "-ERR syntax error\n"),
    ("SET a b EX 1 KEEPTTL\nSET a b KEEPTTL EX 1", "-ERR syntax error\n-ERR syntax error\n"),
    ("SET a b 1 2 3 4 5 6 7 8 9 10 11 12 13 14\nGET a", "-ERR syntax error\n$-1\n"),
    ("PING 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nPING", "-ERR syntax error\n+PONG\n"),
    ("GET 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nPING", "-ERR wrong number of arguments for 'get' command\n+PONG\n"),
    ("EXPIRE a 1 GT LT", "-ERR GT and LT options at the same time are not compatible\n"),
    ("EXPIRE a 1 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible\n"),
    ("EXPIRE a 1 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible\n"),
    ("EXPIRE a 1 NX LT", "-ERR NX and XX, GT or LT options at the same time are not compatible\n"),
    ("EXPIRE a 1 FOO", "-ERR Unsupported option FOO\n"),
    (
        "EXPIRE a 9999999999999999\nEXPIREAT a 9223372036854775807\nPSETEX a 0 v",
        "-ERR invalid expire time in 'expire' command\n-ERR invalid expire time in 'expireat' command\n\
      -ERR invalid expire time in 'psetex' command\n",
    ),
    ("SELECT 1", "-ERR DB index is out of range: there is only DB 0\n"),
    ("SELECT x", "-ERR value is not an integer or out of range\n"),
    ("PING a b", "-ERR wrong number of arguments for 'ping' command\n"),
    ("GETEX a EX 1 2\nGETEX a NOSUCH", "-ERR syntax error\n-ERR syntax error\n"),
    ("KEYS *", "-ERR KEYS is not served, since all other clients would have to wait: use SCAN\n"),
    ("CLIENT NOSUCH\nCOMMAND NOSUCH", "-ERR unknown subcommand 'NOSUCH'\n-ERR unknown subcommand 'NOSUCH'\n"),
    ("COMMAND COUNT x", "-ERR wrong number of arguments for 'command|count' command\n"),
    ("client|list", "-ERR unknown command 'client|list', with args beginning with: \n"),
    ("SCAN x", "-ERR invalid cursor\n"),
    ("SCAN 0 COUNT 0\nSCAN 0 COUNT x", "-ERR syntax error\n-ERR value is not an integer or out of range\n"),
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
    ("SET a 1\nFLUSHALL NOW\nFLUSHDB SYNC ASYNC\nGET a", "+OK\n-ERR syntax error\n-ERR syntax error\n$1\n1\n"),
    // Connections.
    ("PING\nping\nPING hello", "+PONG\n+PONG\n$5\nhello\n"),
    ("ECHO hello", "$5\nhello\n"),
    ("SELECT 0", "+OK\n"),
    (
        "CLIENT GETNAME\nCLIENT SETNAME bob\nCLIENT GETNAME\nCLIENT SETNAME \nCLIENT GETNAME",
        "$-1\n+OK\n$3\nbob\n+OK\n$-1\n",
    ),
    ("CLIENT ID", ":{id}\n"),
    ("CLIENT SETINFO LIB-NAME x\nCLIENT SETINFO lib-ver 1", "+OK\n+OK\n"),
    ("COMMAND COUNT\nCOMMAND DOCS", ":{commands}\n*0\n"),
    ("COMMAND INFO get nosuch", "*2\n*10\n$3\nget\n:2\n*2\n+readonly\n+fast\n:1\n:1\n:1\n*0\n*0\n*0\n*0\n$-1\n"),
    ("COMMAND INFO mset", "*1\n*10\n$4\nmset\n:-3\n*2\n+write\n+denyoom\n:1\n:-1\n:2\n*0\n*0\n*0\n*0\n"),
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
    (
        "HELLO 3\nGET none\nCLIENT GETNAME\nCOMMAND DOCS\nCOMMAND INFO nosuch\nHELLO",
        "%7\n{hello 3}_\n_\n%0\n*1\n_\n%7\n{hello 3}",
    ),
    ("HELLO 3\nHELLO 2\nHELLO", "%7\n{hello 3}*14\n{hello 2}*14\n{hello 2}"),
    // Keys.
    ("SET a 1\nGET a\nget b", "+OK\n$1\n1\n$-1\n"),
    ("SET a 1 NX\nSET a 2 NX\nSET a 3 XX\nSET b 1 XX\nGET a", "+OK\n$-1\n+OK\n$-1\n$1\n3\n"),
    (
        "SET a 1 GET\nSET a 2 GET\nSET a 3 NX GET\nGET a\nSET b 1 XX GET\nEXISTS b",
        "$-1\n$1\n1\n$1\n2\n$1\n2\n$-1\n:0\n",
    ),
    (
        "SET a 1 EX 100\nTTL a\nPTTL a\nSET a 2 KEEPTTL\nTTL a\nSET a 3 XX\nTTL a\nTTL b",
        "+OK\n:100\n:100000\n+OK\n:100\n+OK\n:-1\n:-2\n",
    ),
    ("SET a 1 PX 1500\nTTL a\nPTTL a", "+OK\n:2\n:1500\n"),
    ("SETNX a 1\nSETNX a 2\nGET a", ":1\n:0\n$1\n1\n"),
    (
        "SETEX a 10 v\nTTL a\nPSETEX a 5000 w\nPTTL a\nSETEX a 1 v\nSETEX a 0 v\nSETEX a -1 v",
        "+OK\n:10\n+OK\n:5000\n+OK\n\
      -ERR invalid expire time in 'setex' command\n-ERR invalid expire time in 'setex' command\n",
    ),
    ("GETSET a 1\nGETSET a 2\nGETDEL a\nGETDEL a", "$-1\n$1\n1\n$1\n2\n$-1\n"),
    (
        "GETEX a\nSET a 1\nGETEX a EX 10\nTTL a\nGETEX a PERSIST\nTTL a\nGETEX a EX 1\nGETEX a EX 0",
        "$-1\n+OK\n$1\n1\n:10\n$1\n1\n:-1\n$1\n1\n\
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
    ("SET a 1 EX 9\nPEXPIRE a 5000\nPTTL a\nPEXPIRE b 5000", "+OK\n:1\n:5000\n:0\n"),
    ("SET a 1\nEXPIRE a -1\nGET a\nSET a 1\nPEXPIREAT a -9223372036854775807\nGET a", "+OK\n:1\n$-1\n+OK\n:1\n$-1\n"),
    (
        "SET a 1\nEXPIREAT a 99999999999\nEXPIRETIME a\nPEXPIRETIME a\nEXPIRETIME b",
        "+OK\n:1\n:99999999999\n:99999999999000\n:-2\n",
    ),
    ("SET a 1 PXAT 9223372036854775806\nEXPIRETIME a", "+OK\n:9223372036854776\n"),
    ("SET a 1\nPEXPIREAT a 9223372036854775807\nPEXPIRETIME a", "+OK\n:1\n:9223372036854775807\n"),
    (
        "SET a 1 PXAT 99999999999123\nPEXPIRETIME a\nSET a 1 EXAT 99999999998\nEXPIRETIME a\nPEXPIRETIME b",
        "+OK\n:99999999999123\n+OK\n:99999999998\n:-2\n",
    ),
    (
        "SET a 1\nGETEX a PXAT 99999999999123\nPEXPIRETIME a\nGETEX a EXAT 99999999998\nEXPIRETIME a",
        "+OK\n$1\n1\n:99999999999123\n$1\n1\n:99999999998\n",
    ),
    (
        "SET a 1\nEXPIRE a 10 XX LT\nEXPIRE a 10 LT\nEXPIRE a 20 XX LT\nEXPIRE a 20 XX GT\nTTL a",
        "+OK\n:0\n:1\n:0\n:1\n:20\n",
    ),
    ("SET a 1\nDBSIZE\nFLUSHALL\nDBSIZE\nGET a\nFLUSHDB ASYNC\nFLUSHALL sync", "+OK\n:1\n+OK\n:0\n$-1\n+OK\n+OK\n"),
    (
        "SET a 1\nSCAN 0 COUNT 1000\nSCAN 0 MATCH b* COUNT 1000\nSCAN 0 TYPE list COUNT 1000",
        "+OK\n*2\n$1\n0\n*1\n$1\na\n*2\n$1\n0\n*0\n*2\n$1\n0\n*0\n",
    ),
    // Words are known in either case.
    (
        "Set a 1 nx ex 9\nexpire a 10 gt\ngetex a persist\npersist a\n\
      SCAN 0 type STRING count 1000\nmemory usage b samples 5",
        "+OK\n:1\n$1\n1\n:0\n*2\n$1\n0\n*1\n$1\na\n$-1\n",
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
        "+OK\n-ERR unknown subcommand 'NOSUCH'\n\
      -EXECABORT Transaction discarded because of previous errors.\n",
    ),
    (
        "MULTI\nMSET a\nDEL a\nEXEC",
        "+OK\n-ERR wrong number of arguments for 'mset' command\n+QUEUED\n\
      -EXECABORT Transaction discarded because of previous errors.\n",
    ),
    ("MULTI\nSET a 1\nDISCARD\nGET a", "+OK\n+QUEUED\n+OK\n$-1\n"),
    (
        "MULTI\nGET\nDISCARD\nEXEC",
        "+OK\n-ERR wrong number of arguments for 'get' command\n+OK\n-ERR EXEC without MULTI\n",
    ),
    ("MULTI\nMSET a 1 b 2\nDEL a b c\nPING\nEXEC", "+OK\n+QUEUED\n+QUEUED\n+QUEUED\n*3\n+OK\n:2\n+PONG\n"),
];

/// What HELLO says, after its head.
const HELLO: &str = "$6\nserver\n$5\nredis\n$7\nversion\n$5\n7.2.0\n$4\nmode\n$10\nstandalone\n$4\nrole\n$6\nmaster\n\
      $5\nproto\n:{version}\n$2\nid\n:{id}\n$7\nmodules\n*0\n";

/// Bytes and answers that words cannot say, and whether the connection goes on.
const RAW_ROWS: &[(&[u8], &[u8], Ending)] = &[
    (b"*1\r\n!", b"-ERR Protocol error: expected '$', got '!'\r\n", Ending::Broken),
    (
        b"*3\r\n$6\r\nEXISTS\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        b"-ERR Protocol error: expected '$', got '*'\r\n",
        Ending::Broken,
    ),
    (b"*x", b"-ERR Protocol error: invalid multibulk length\r\n", Ending::Broken),
    (b"*65537\r\n", b"-ERR Protocol error: invalid multibulk length: too many arguments\r\n", Ending::Broken),
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
    (b"*65536\r\n$6\r\nEXISTS\r\n", b"", Ending::Unfinished),
];

/// The rows for a connection with this number. Those that are long are made last, and only if they are asked for.
pub(crate) fn rows(id: u64) -> impl Iterator<Item = Row> {
    let hello = |version| HELLO.replace("{version}", version);
    let worded = ROWS.iter().map(move |(commands, expect)| Row {
        name: commands.to_string(),
        send: words(commands),
        expect: expect
            .replace("{hello 2}", &hello("2"))
            .replace("{hello 3}", &hello("3"))
            .replace("{id}", &id.to_string())
            .replace("{commands}", &COMMANDS.to_string())
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
    worded.chain(raw).chain(std::iter::once_with(large_rows).flatten())
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
    let append = |bytes| ask(&[b"APPEND".as_slice(), b"a", &vec![b'x'; bytes]]);
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
            "appending more than one command moves, which limits no first value",
            &[append(524_289), append(524_289), words("STRLEN a"), append(524_288)],
            &[
                b":524289\r\n-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
                b":524289\r\n:1048577\r\n",
            ],
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
            "an unknown command, of whose arguments not all is given back",
            &[ask(&[b"NOSUCH".as_slice(), &[b'x'; 100], &[b'y'; 150], b"z"])],
            &[
                b"-ERR unknown command 'NOSUCH', with args beginning with: '",
                &[b'x'; 100],
                b"' '",
                &[b'y'; 128],
                b"' 'z' \r\n",
            ],
        ),
        row(
            "the longest name of a client, and one that is longer",
            &[ask(&[&b"CLIENT"[..], b"SETNAME", &[b'n'; 128]]), ask(&[&b"CLIENT"[..], b"SETNAME", &[b'n'; 129]])],
            &[
                b"+OK\r\n-ERR Client names cannot contain spaces, newlines or special characters, or be longer than \
                  128 bytes.\r\n",
            ],
        ),
        row(
            "unknown options, of which not all is given back",
            &[
                ask(&[b"HELLO".as_slice(), b"3", &[b'y'; 129]]),
                ask(&[b"CLIENT".as_slice(), b"SETINFO", &[b'y'; 129], b"x"]),
            ],
            &[
                b"-ERR Syntax error in HELLO option '",
                &[b'y'; 128],
                b"'\r\n-ERR Unrecognized option '",
                &[b'y'; 128],
                b"'\r\n",
            ],
        ),
        row(
            "an unknown option of EXPIRE, likewise",
            &[ask(&[b"EXPIRE".as_slice(), b"a", b"1", &[b'y'; 129]])],
            &[b"-ERR Unsupported option ", &[b'y'; 128], b"\r\n"],
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

/// A row that is longer than this many bytes is not cut at each of them.
pub(crate) const SHORT_BYTES: usize = 400;
