//! An operator process beside the API server. It is restarted when it ends, as by a Deployment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How an operator is started.
pub(crate) struct OperatorOptions {
    /// Where it looks for builds, and has its Lease.
    pub namespace: String,
    /// The image that executors run.
    pub image: String,
    /// What it falsifies of its observations.
    pub switches: Option<Value>,
    /// The port of its probes.
    pub port: u16,
    /// The CSI driver whose detach it takes for proof.
    pub detaching_driver: Option<String>,
}

impl OperatorOptions {
    /// An operator for one namespace.
    pub(crate) fn of(namespace: &str, port: u16) -> Self {
        let (namespace, image) = (namespace.to_owned(), super::IMAGE.to_owned());
        Self { namespace, image, switches: None, port, detaching_driver: None }
    }

    /// One that takes the detach of this driver for proof.
    pub(crate) fn believing(self, driver: &str) -> Self {
        Self { detaching_driver: Some(driver.to_owned()), ..self }
    }

    /// One that misbehaves on purpose.
    pub(crate) fn with(self, switches: Value) -> Self {
        Self { switches: Some(switches), ..self }
    }
}

/// A running operator. Dropped, it is told to stop, and waited for.
pub(crate) struct Operator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    log: PathBuf,
}

impl Operator {
    /// Starts it, by the command that runs the program inside.
    pub(crate) fn start(program: Command, options: OperatorOptions, log: PathBuf) -> Self {
        let OperatorOptions { namespace, image, switches, port, detaching_driver } = options;
        // Executors have theirs from it: a build cannot ask for them by itself.
        let mut switches = switches.unwrap_or_else(|| serde_json::json!({}));
        switches["handOver"] = serde_json::json!(true);
        let mut arguments = vec![
            "--log-format=json",
            "operator",
            "--executor-image",
            &image,
            "--executor-image-pull-policy",
            "Never",
            "--bind",
            &format!("127.0.0.1:{port}"),
            "--lease-namespace",
            &namespace,
            "--watch-namespace",
            &namespace,
        ]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
        arguments.extend(detaching_driver.map(|driver| format!("--detaching-driver={driver}")));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let output = log.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let log = std::fs::OpenOptions::new().create(true).append(true).open(&output).unwrap();
                let mut command = again(&program);
                command.env("INDEXBUILD_LOG", "info,indexbuild_operator=debug").args(&arguments);
                command.env("INDEXBUILD_TEST_SWITCHES", switches.to_string());
                let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
                attend(child, &stopped);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        Self { stop, thread: Some(thread), log }
    }

    /// The last lines of its log.
    pub(crate) fn log_end(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Adds its log to a file that outlives the test.
    pub(crate) fn keep_log(&self, file: &Path) {
        use std::io::Write as _;
        let text = std::fs::read(&self.log).unwrap_or_default();
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
            let _ = file.write_all(&text);
        }
        eprintln!("log of the operator: {}", file.display());
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn again(program: &Command) -> Command {
    let mut command = Command::new(program.get_program());
    command.args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Waits until the process ends; told to stop, it gets SIGTERM, and SIGKILL if that does not help.
fn attend(mut child: Child, stopped: &AtomicBool) {
    let mut told: Option<Instant> = None;
    while matches!(child.try_wait(), Ok(None)) {
        if stopped.load(Ordering::Relaxed) {
            let since = *told.get_or_insert_with(|| {
                signal(&child, "-TERM");
                Instant::now()
            });
            if since.elapsed() > Duration::from_secs(20) {
                signal(&child, "-KILL");
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The process is the child of the one that enters the namespaces.
fn signal(child: &Child, what: &str) {
    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    for process in children.split_whitespace() {
        let _ = Command::new("kill").args([what, process]).status();
    }
}
