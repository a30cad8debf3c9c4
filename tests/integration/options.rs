//! What the command line, the configuration file and the environment may say, through the one call that reads them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use gostash::config::{Config, EXAMPLE, Invocation, OPTIONS, default, size};
use gostash::memory::{self, MemoryLimit};
use gostash::password::Password;
use gostash::store::Eviction;
use log::LevelFilter;

/// Reads a file of this text, and these flags.
fn read(text: &str, flags: &[&str], password: Option<&str>) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, text).unwrap();
    let args = flags.iter().map(OsString::from).chain(["--config".into(), path.clone().into_os_string()]);
    match Config::from_args(args, password.map(OsString::from)) {
        Ok(Invocation::Serve(config)) => Ok(*config),
        Ok(Invocation::Print(text)) => panic!("{text}"),
        Err(problem) => Err(problem.to_string().replace(path.to_str().unwrap(), "f")),
    }
}

#[test]
fn the_example_file_is_every_option_at_its_default() {
    let lines = EXAMPLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let expected: Vec<_> = OPTIONS.iter().map(|(name, _)| format!("{name}={}", default(name).unwrap())).collect();
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    read(EXAMPLE, &[], None).expect("it is a file of options");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = Config::default();
    assert_eq!((config.host.as_str(), config.port), ("localhost", 19201));
    assert_eq!((config.max_clients, config.max_value_size), (10_000, 16 << 20));
    assert_eq!(config.max_memory, MemoryLimit::auto(memory::read));
    assert_eq!(config.eviction, Eviction::S3Fifo);
    assert_eq!((config.unix_socket, config.cpu), (None, None));
    assert!(config.password.is_none());
    assert_eq!(config.spin, Duration::ZERO);
    assert_eq!((config.default_ttl, config.idle_timeout, config.stall_timeout), (0, 0, 60));
    assert_eq!(config.log_level, LevelFilter::Info);
}

#[test]
fn every_option_can_be_set() {
    let values = [
        ("host", "::1"),
        ("port", "0"),
        ("unix-socket", "/run/a b=c#d"),
        ("max-clients", "1"),
        ("max-value-size", "1KB"),
        ("max-memory", "16Mb"),
        ("eviction", "none"),
        ("default-ttl", "1"),
        ("idle-timeout", "2"),
        ("stall-timeout", "0"),
        ("password", "a=b c"),
        ("cpu", "0"),
        ("spin", "50"),
        ("log-level", "TRACE"),
    ];
    let names: Vec<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(values.map(|(name, _)| name).as_slice(), names, "`values` of this test: one for each option, in order");
    let lines = values.map(|(name, value)| format!(" {name} = {value} \r\n")).concat();
    let flags = values.map(|(name, value)| format!("--{name}={value}"));
    for config in [read(&lines, &[], None), read("", &flags.each_ref().map(String::as_str), None)] {
        let config = config.expect("good values");
        assert_eq!((config.host.as_str(), config.port), ("::1", 0));
        assert_eq!(config.unix_socket, Some("/run/a b=c#d".into()));
        assert_eq!((config.max_clients, config.max_value_size), (1, 1024));
        assert_eq!(config.max_memory, MemoryLimit::chosen(16 << 20));
        assert_eq!(config.eviction, Eviction::None);
        assert_eq!((config.default_ttl, config.idle_timeout, config.stall_timeout), (1, 2, 0));
        assert!(config.password == Some(Password::new("a=b c")));
        assert_eq!((config.cpu, config.log_level), (Some(0), LevelFilter::Trace));
        assert_eq!(config.spin, Duration::from_micros(50));
    }
}

#[test]
fn a_password_comes_from_flag_environment_or_file_and_is_never_shown() {
    for (text, variable, flags, expected) in [
        ("", "environment", &[][..], "environment"),
        // As in the example, where the line is there and empty.
        ("password=", "environment", &[], "environment"),
        ("password=file", "environment", &[], "environment"),
        ("password=file", "environment", &["--password", "flag"], "flag"),
        ("password=file", "", &[], "file"),
    ] {
        let config = read(text, flags, Some(variable)).expect("passwords");
        assert!(config.password == Some(Password::new(expected)), "{text} {variable} {flags:?}");
    }
    let long = "secret".repeat(100);
    let error = read("", &[], Some(&long)).err().expect("it is too long");
    assert!(error.starts_with("GOSTASH_PASSWORD: expected a password") && !error.contains("secret"), "{error}");
    let unreadable = OsString::from_vec(b"secret\xff".into());
    let from_environment = Config::from_args([], Some(unreadable.clone())).err().expect("not UTF-8");
    assert_eq!(from_environment, "GOSTASH_PASSWORD: expected UTF-8, got 7 bytes");
    let from_flag = Config::from_args(["--password".into(), unreadable], None).err().expect("not UTF-8");
    assert_eq!(from_flag, "--password: expected UTF-8, got 7 bytes");
}

#[test]
fn comments_and_blank_lines_are_skipped_and_the_later_line_wins() {
    let config = read("# port=1\n\n  // port=2\n\t\nport=3\nport=4\n#\n", &[], None);
    assert_eq!(config.map(|config| config.port), Ok(4));
    let config = read("port=1", &["--port", "2", "--port=3"], None);
    assert_eq!(config.map(|config| config.port), Ok(3));
    let config = read("port=1", &["--config", "/nosuch"], None);
    assert_eq!(config.map(|config| config.port), Ok(1));
}

#[test]
fn sizes_have_a_unit_or_are_bytes() {
    for (text, bytes) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("7b", Some(7)),
        ("2kb", Some(2048)),
        ("3Mb", Some(3 << 20)),
        ("1GB", Some(1 << 30)),
        ("007kb", Some(7 << 10)),
        ("", None),
        ("kb", None),
        ("1k", None),
        ("1 kb", None),
        ("1tb", None),
        ("-1", None),
        ("+1", None),
        ("1.5mb", None),
        ("1kbb", None),
        ("18446744073709551616", None),
        ("17179869184gb", None),
        ("1\u{e9}", None),
    ] {
        assert_eq!(size(text, 0..=usize::MAX), bytes, "{text:?}");
    }
    assert_eq!((size("1kb", 0..=1024), size("1025", 0..=1024)), (Some(1024), None));
}

#[test]
fn each_bad_value_is_named_with_its_place() {
    let error = |line: &str| read(line, &[], None).err().expect(line);
    let seconds = "expected seconds from 0 to 315360000";
    for (line, problem) in [
        ("host=", r#"expected a name or address of this machine, got """#),
        ("port=65536", r#"expected a port from 0 to 65535, got "65536""#),
        ("port=+1", r#"expected a port from 0 to 65535, got "+1""#),
        ("port=", r#"expected a port from 0 to 65535, got """#),
        ("max-clients=0", r#"expected a number from 1 to 1000000, got "0""#),
        ("max-clients=1000001", r#"expected a number from 1 to 1000000, got "1000001""#),
        ("max-value-size=0", r#"expected a size from 1b to 512mb, got "0""#),
        ("max-value-size=513mb", r#"expected a size from 1b to 512mb, got "513mb""#),
        ("max-memory=7mb", r#"expected a size from 8mb to 256gb, or auto, got "7mb""#),
        ("max-memory=257gb", r#"expected a size from 8mb to 256gb, or auto, got "257gb""#),
        ("eviction=lru", r#"expected s3-fifo or none, got "lru""#),
        ("default-ttl=1.5", &format!(r#"{seconds}, got "1.5""#)),
        ("idle-timeout=1s", &format!(r#"{seconds}, got "1s""#)),
        ("stall-timeout=315360001", &format!(r#"{seconds}, got "315360001""#)),
        ("cpu=1024", r#"expected a core from 0 to 1023, or any, got "1024""#),
        ("spin=100001", r#"expected microseconds from 0 to 100000, got "100001""#),
        ("log-level=loud", r#"expected off, error, warn, info, debug or trace, got "loud""#),
    ] {
        let name = line.split('=').next().unwrap_or_default();
        assert_eq!(error(&format!("\n{line}")), format!("f:2: {name}: {problem}"));
    }
    // Whatever a line of another form holds may be a password.
    for line in ["password secret", "password secret==", "password: secret=", "password:secret="] {
        let problem = error(&format!("port=1\n{line}"));
        assert!(problem.starts_with("f:2: ") && !problem.contains("secret"), "{problem}");
    }
    let names: Vec<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(error("prot=1"), format!(r#"f:1: prot: expected one of {}, got "prot""#, names.join(", ")));
}

#[test]
fn what_is_found_is_shown_on_one_short_line() {
    let got = |text: &str| {
        let error = read(&format!("port={text}"), &[], None).err().expect(text);
        error.split("got ").nth(1).unwrap().to_owned()
    };
    assert_eq!(got("a\tb\u{1b}"), r#""a\tb\u{1b}""#);
    assert_eq!(got(&"\u{e9}".repeat(80)), format!("{:?}", "\u{e9}".repeat(80)));
    assert_eq!(got(&"\u{e9}".repeat(81)), format!("{:?}...", "\u{e9}".repeat(80)));
    let long = read(&format!("{}=1", "x".repeat(10_000)), &[], None).err().expect("no such name");
    assert!(long.len() < 500, "{long}");
    let args = [OsString::from("--unix-socket"), OsString::from_vec(b"/tmp/\xff".into())];
    let problem = Config::from_args(args, None).err().expect("not UTF-8").to_string();
    assert_eq!(problem, "--unix-socket: expected UTF-8, got \"/tmp/\u{fffd}\"");
}

#[test]
fn a_late_error_names_the_place_of_the_setting() {
    let config = read("cpu=7\nport=1", &["--port", "2"], None).expect("good values");
    let late = |name| config.error(name, "x").to_string();
    assert!(late("cpu").ends_with("f:1: cpu: x"));
    assert_eq!(late("port"), "--port: x");
    assert_eq!(late("host"), "host: x");
}
