//! The bare echo: that its answers are right in every mode, since the server is measured against it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::server::socket_dir;
use crate::{at, command, ended, rows, run};

struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    fn start(args: &[&str]) -> Echo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gostash-echo"))
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the echo starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let address = line.split_whitespace().nth(2).and_then(|address| address.parse().ok());
        Echo { child, address: address.unwrap_or_else(|| panic!("an address in {line:?}")) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_echoes_every_byte() {
    for gather in [&[][..], &["--gather"]] {
        let echo = Echo::start(gather);
        for value_size in ["32", "0-300000", "1mb"] {
            let what = ["--protocol", "echo", "--value-size", value_size, "--keys", "200", "--verify"];
            let how = ["--pipeline", "1,16", "--clients", "20", "--requests", "1000", "--warmup", "0"];
            for row in rows(echo.address, &[&what[..], &how].concat()) {
                assert_eq!(row.number("requests"), 1000.0);
                assert_eq!(row.number("sent_bytes_per_second"), row.number("received_bytes_per_second"));
            }
        }
    }
}

#[test]
fn it_echoes_over_a_unix_socket() {
    let directory = socket_dir();
    let path = directory.path().join("socket");
    let path = path.to_str().expect("a name in UTF-8");
    for gather in [&[][..], &["--gather"]] {
        let _echo = Echo::start(&[&["--unix-socket", path], gather].concat());
        let args = ["--unix-socket", path, "--json", "--protocol", "echo", "--value-size", "0-300000", "--verify"];
        let how = ["--pipeline", "16", "--requests", "2000", "--keys", "200"];
        assert_eq!(run(command(&args).args(how))[0].number("requests"), 2000.0);
    }
}

#[test]
fn it_answers_in_another_shape() {
    for gather in [&[][..], &["--gather"]] {
        for (request, reply) in [("25", "34"), ("102400", "4"), ("25", "1048578"), ("1", "1")] {
            let echo = Echo::start(&[&["--request-bytes", request, "--reply-bytes", reply], gather].concat());
            let what = ["--protocol", "echo", "--request-bytes", request, "--reply-bytes", reply, "--warmup", "0"];
            for (depth, command) in [("1", "mix"), ("7", "mix"), ("7", "inc")] {
                let how = ["--requests", "500", "--pipeline", depth, "--command", command];
                let row = &rows(echo.address, &[&what[..], &how].concat())[0];
                assert_eq!(row.number("requests"), 500.0);
                let ratio = row.number("received_bytes_per_second") / row.number("sent_bytes_per_second");
                let expected = reply.parse::<f64>().expect("digits") / request.parse::<f64>().expect("digits");
                assert!((ratio / expected - 1.0).abs() < 0.01, "{}", row.0);
            }
            let table = ended(at(echo.address, &what).args(["--rate", "1.5", "--duration", "0.1"])).stdout;
            let table = String::from_utf8(table).expect("text");
            let head = format!("50 clients, 1.5/s due\nrequests of {request} b, replies of {reply} b\n");
            assert!(table.contains(&head), "{table}");
        }
    }
}
