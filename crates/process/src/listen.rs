//! Where probes are answered: at the address that a kubelet asks, of whichever family the cluster's pods have.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// Listens, without blocking. At `[::]` both families are answered, whatever the machine's default is (`bindv6only`), and where
/// there is no IPv6 the one that there is: a process that listened at one of them alone would be killed by its probe on a
/// cluster of the other (rook#7494).
///
/// # Errors
/// An address that is in use, or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match address {
        SocketAddr::V6(all) if all.ip().is_unspecified() => or_ipv4(listen_at_both(all), all.port()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => listen_at(address),
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listen_at_both(address: SocketAddrV6) -> Result<TcpListener, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A kernel without IPv6 knows neither the family nor the address.
fn or_ipv4(both: Result<TcpListener, Errno>, port: u16) -> io::Result<TcpListener> {
    match both {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => listen_at((Ipv4Addr::UNSPECIFIED, port).into()),
        both => Ok(both?),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpStream};
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn answers(at: SocketAddr) -> bool {
        TcpStream::connect_timeout(&at, LIMIT).is_ok()
    }

    #[test]
    fn both_families_are_answered_at_one_address_and_one_alone_at_its_own() {
        let v4 = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = |port| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let both = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = both.local_addr().unwrap().port();
        assert!(answers(v4(port)), "IPv4");
        if listen(v6(0)).is_ok() {
            assert!(answers(v6(port)), "IPv6");
            assert_eq!(sockopt::ipv6_v6only(&both), Ok(false), "whatever the machine's default is");
            // The control: what executors listened at before.
            let one = listen((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
            let port = one.local_addr().unwrap().port();
            assert!(answers(v4(port)) && !answers(v6(port)));
        }
    }

    #[test]
    fn without_ipv6_the_other_family_is_answered_and_no_other_error_is_hidden() {
        for off in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let listener = or_ipv4(Err(off), 0).unwrap();
            let address = listener.local_addr().unwrap();
            assert!(address.is_ipv4() && answers((Ipv4Addr::LOCALHOST, address.port()).into()));
        }
        let error = or_ipv4(Err(Errno::ADDRINUSE), 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let first = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let taken = listen((Ipv6Addr::UNSPECIFIED, first.local_addr().unwrap().port()).into()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
