//! What the figures were measured on: processor, kernel, cores, compiler, commit, and the day. It measures nothing.

use std::fs;
use std::process::Command;

/// The machine, the build and the time.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// When the comparison began, in UTC, as a file name.
    pub(crate) stamp: String,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// The cores that this process may use.
    pub(crate) cores: Vec<usize>,
    pub(crate) memory: String,
    pub(crate) compiler: String,
    pub(crate) commit: String,
    /// Of each contender.
    pub(crate) versions: Vec<String>,
}

impl Machine {
    pub(crate) fn look() -> Machine {
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
            stamp: output("date", &["-u", "+%Y-%m-%dT%H-%M-%S"]),
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

    /// The date alone.
    pub(crate) fn day(&self) -> &str {
        self.stamp.split('T').next().unwrap_or_default()
    }

    /// The core that the load generator has: the last one.
    pub(crate) fn client_cores(&self) -> &[usize] {
        &self.cores[self.cores.len().saturating_sub(1)..]
    }

    /// A sentence about who runs on which core.
    pub(crate) fn placement(&self) -> String {
        match self.cores.as_slice() {
            [] => "Nothing is pinned: this system cannot.".to_owned(),
            [_] => {
                "Server and client share the only core, so rates and latencies are those of both together.".to_owned()
            }
            [first, last] => format!("Each server has core {first}, the load generator core {last}."),
            [first, .., last] => format!(
                "The load generator has core {last}. Each server has core {first} or, if its name says so, all but {last}."
            ),
        }
    }
}

/// The output of a command; empty if it cannot be run.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The numbers in a list such as `0-2,5`.
fn cores(list: &str) -> Vec<usize> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(cores("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cores("7"), [7]);
        assert_eq!(cores(""), [0; 0]);
    }
}
