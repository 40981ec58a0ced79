//! The machine that the numbers are from: the properties that explain them, and nothing that identifies it.

use std::fmt;
use std::fs;
use std::process::Command;

use crate::process::processors;
use crate::seccomp;

pub(crate) struct Machine {
    processor: String,
    processors: usize,
    is_virtual: bool,
    kernel: String,
    libc: String,
    rustc: String,
    load: String,
    goes_first: bool,
    has_io_uring: bool,
}

impl Machine {
    /// Examines this machine. `goes_first`: whether this run has a higher priority than other processes.
    pub(crate) fn look(goes_first: bool) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let of_cpu = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // A distribution's suffix may identify the machine.
        let kernel = release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default().to_owned();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            // On ARM, the line has only the core's name, if any.
            processor: of_cpu("model name").or_else(|| of_cpu("Model")).unwrap_or_else(|| "unknown".to_owned()),
            processors: processors().len(),
            is_virtual: of_cpu("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel,
            libc: first_line("getconf", "GNU_LIBC_VERSION"),
            rustc: first_line("rustc", "--version"),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            goes_first,
            has_io_uring: seccomp::permits_io_uring(),
        }
    }
}

fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, libc, rustc, load, .. } = self;
        let kind = if self.is_virtual { "virtual machine" } else { "machine" };
        let priority = if self.goes_first { "nice -20" } else { "no priority" };
        let ring = if self.has_io_uring { "with" } else { "without" };
        let cores = if *processors == 1 { "1 core".to_owned() } else { format!("{processors} cores") };
        write!(
            f,
            "{processor}, {cores}, {kind}, {}, Linux {kernel} {ring} io_uring, {libc}, {rustc}; load average at the start {load}, {priority}.",
            std::env::consts::ARCH
        )
    }
}
