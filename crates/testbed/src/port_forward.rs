//! A port of loopback that leads to the API server, for programs outside of the namespaces.

use std::fs::{self, File};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::control_plane::API;
use crate::error::{At as _, TestbedError};

/// An open port; dropping it closes it.
#[derive(Debug)]
pub struct PortForward {
    address: SocketAddr,
    kubeconfig: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PortForward {
    /// The port on loopback that leads to the API server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An administrator's kubeconfig for programs outside.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }
}

impl Cluster {
    /// Opens a port on 127.0.0.1 that leads to the API server. A cut of a node does not touch it.
    ///
    /// # Errors
    /// A namespace that cannot be entered; those of the file system.
    pub fn forward_api(&self) -> Result<PortForward, TestbedError> {
        let listener = TcpListener::bind("127.0.0.1:0").at("listen on", "127.0.0.1")?;
        let address = listener.local_addr().at("listen on", "127.0.0.1")?;
        let text = fs::read_to_string(self.kubeconfig()).at("read", self.kubeconfig())?;
        let kubeconfig = self.folder().join(format!("outside-{}.kubeconfig", address.port()));
        let text = text.replace(&format!("https://{API}:6443"), &format!("https://{address}"));
        fs::write(&kubeconfig, text).at("write", &kubeconfig)?;
        let place = format!("/proc/{}/ns/net", self.init_pid());
        let inside = File::open(&place).at("open", &place)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (entered, outcome) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // A socket stays in the network that it was made in; this thread, and those that it starts, connect
            // from inside to what arrives outside.
            let moved = enter(&inside);
            let ok = moved.is_ok();
            let _ = entered.send(moved);
            if !ok {
                return;
            }
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    std::thread::spawn(move || pass(&stream));
                }
            }
        });
        outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended"))).at("enter", place)?;
        Ok(PortForward { address, kubeconfig, stop, thread: Some(thread) })
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which waits for a connection.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves this thread into a network namespace.
#[cfg(target_os = "linux")]
fn enter(namespace: &File) -> io::Result<()> {
    use std::os::fd::AsFd as _;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}

/// Only Linux has namespaces; on other systems no cluster starts.
#[cfg(not(target_os = "linux"))]
fn enter(_: &File) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

fn pass(outside: &TcpStream) {
    let Ok(inside) = TcpStream::connect((API, 6443)) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| one_way(outside, &inside));
        one_way(&inside, outside);
    });
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    // Both ends, so that a connection that broke on one side does not hang on the other.
    let _ = to.shutdown(Shutdown::Write);
}
