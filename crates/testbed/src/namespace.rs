//! The Linux namespaces around a cluster: net, mount, pid, uts, ipc. The kernel ends all that is in them when their
//! first process ends, and that one ends when this process does: nothing outlives a cluster.

use std::fs;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::{At as _, TestbedError};

/// Prepares the namespaces, and lives as long as its standard input is open. It reaps what is orphaned.
const INIT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns
ip link set lo up
ip link add br0 type bridge
ip addr add 10.88.0.1/24 dev br0
ip addr add 10.88.0.2/24 dev br0
ip link set br0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo ready
exec > /dev/null
cat
"#;

/// The network namespace that a process runs in.
#[derive(Clone, Debug)]
pub(crate) enum Net {
    Control,
    Node(String),
}

#[derive(Debug)]
pub(crate) struct Namespace {
    outer: Child,
    // Held, not read: when it closes, the cluster ends.
    _alive: ChildStdin,
    init: u32,
}

impl Namespace {
    pub(crate) fn new(log: &Path) -> Result<Self, TestbedError> {
        let errors = File::create(log).at("make", log)?;
        let mut outer = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--uts", "--ipc", "--kill-child"])
            .args(["bash", "-c", INIT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|source| TestbedError::Spawn { program: "unshare".to_owned(), source })?;
        let (Some(alive), Some(output)) = (outer.stdin.take(), outer.stdout.take()) else {
            return Err(TestbedError::Unavailable("unshare has no pipes".to_owned()));
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).at("read", log)?;
        let init = children_of(outer.id()).first().copied();
        let (Some(init), "ready") = (init, line.trim()) else {
            let _ = outer.kill();
            let _ = outer.wait();
            let why = fs::read_to_string(log).unwrap_or_default();
            return Err(TestbedError::Unavailable(format!("namespaces cannot be made: {why}")));
        };
        Ok(Self { outer, _alive: alive, init })
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, net: &Net, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--uts", "--ipc"]);
        match net {
            Net::Control => command.arg("--net"),
            // Not `ip netns exec`: that mounts /sys anew and hides the cgroups.
            Net::Node(node) => command.arg(format!("--net=/proc/{}/root/run/netns/{node}", self.init)),
        };
        command.arg("--").arg(program);
        command
    }

    pub(crate) fn init(&self) -> u32 {
        self.init
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel kills everything in the pid namespace with its first process, and that one with `unshare`.
        signal(self.init, rustix::process::Signal::KILL);
        let _ = self.outer.wait();
    }
}

/// Runs a command to its end. Returns what it printed on standard output.
pub(crate) fn output_of(mut command: Command) -> Result<String, TestbedError> {
    let line = describe(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| TestbedError::Spawn { program: line.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let output_text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(TestbedError::Command { command: line, status: output.status.to_string(), output: output_text })
}

/// The command line without its way into the namespaces.
fn describe(command: &Command) -> String {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let start = words.iter().position(|word| word == "--").map_or(0, |place| place + 1);
    words[start..].join(" ")
}

/// The processes that a process has started and not yet reaped.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // pid (command) state parent …: the command may hold anything, a parenthesis too.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        if after.split(' ').nth(1) == Some(parent.to_string().as_str()) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// Sends a signal; a process that is gone already needs none.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
