//! What the figures were measured on: processor, kernel, cores, compiler, commit, and the day. It measures nothing.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where and when.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// The time it began, in UTC, fit to be a file's name.
    pub(crate) stamp: String,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// The cores that we may use.
    pub(crate) cores: Vec<usize>,
    pub(crate) memory: String,
    pub(crate) compiler: String,
    pub(crate) commit: String,
    /// Of each contender.
    pub(crate) versions: Vec<String>,
}

impl Machine {
    pub(crate) fn look() -> Machine {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let line = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
            line.split_once(':').map_or(String::new(), |(_, rest)| rest.trim().to_owned())
        };
        let kilobytes = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<f64>();
        let virtual_machine = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"));
        let unsaved = !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        let uname = rustix::system::uname();
        Machine {
            stamp: stamp(now),
            processor: match line("/proc/cpuinfo", "model name") {
                model if virtual_machine => format!("{model} (a virtual machine)"),
                model => model,
            },
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            cores: cores(&line("/proc/self/status", "Cpus_allowed_list")),
            memory: kilobytes.map_or(String::new(), |kilobytes| format!("{:.0} GB", kilobytes / 1024.0 / 1024.0)),
            compiler: output("rustc", &["--version"]),
            commit: output("git", &["rev-parse", "--short=10", "HEAD"]) + if unsaved { ", changed" } else { "" },
            versions: Vec::new(),
        }
    }

    /// The day alone.
    pub(crate) fn day(&self) -> &str {
        &self.stamp[..10]
    }

    /// The core that the load generator has: the last one.
    pub(crate) fn client_cores(&self) -> &[usize] {
        &self.cores[self.cores.len().saturating_sub(1)..]
    }

    /// Who runs where, in a sentence.
    pub(crate) fn placement(&self) -> String {
        match self.cores.as_slice() {
            [] => "Nothing is pinned: this system cannot.".to_owned(),
            [_] => {
                "Server and client share the only core, so rates and latencies are those of both together.".to_owned()
            }
            [first, .., last] => format!("Each server has core {first}, the load generator core {last}."),
        }
    }
}

/// What a command prints; nothing if it cannot be run.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The numbers in a list such as `0-2,5`.
fn cores(list: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// Seconds since 1970 as `2026-11-23T10-12-30`. The date is Howard Hinnant's `civil_from_days` ("chrono-Compatible
/// Low-Level Date Algorithms").
fn stamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_right() {
        assert_eq!(stamp(0), "1970-01-01T00-00-00");
        assert_eq!(stamp(951_782_399), "2000-02-28T23-59-59");
        assert_eq!(stamp(951_782_400), "2000-02-29T00-00-00");
        assert_eq!(stamp(1_795_429_950), "2026-11-23T10-32-30");
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(cores("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cores("7"), [7]);
        assert_eq!(cores(""), [0; 0]);
    }
}
