//! What this kernel lets us do, found out at start by trying it, and named when it is missing.

use super::socket::{self, Socket};
use super::uring::stamps::StampRing;
use super::uring::{self, Ring};
use super::{Limits, SocketSpec, TransmitStamps, message};
use crate::time::{Clock, SystemClock};
use io_uring::{Probe, opcode};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Which network the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where it works, else `sendmmsg`/`recvmmsg`.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// `sendmmsg`/`recvmmsg`.
    Mmsg,
}

/// Which network is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring.
    Uring,
    /// `sendmmsg`/`recvmmsg`.
    Mmsg,
}

/// How transmit stamps come to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampPath {
    /// In completions of `SOCKET_URING_OP_TX_TIMESTAMP`: no system call per stamp.
    UringCommand,
    /// By reading the socket's error queue.
    ErrorQueue,
    /// Not at all: T1 is taken in user space.
    User,
}

/// What was found, with the reason for everything that is not the best.
#[derive(Clone, Debug)]
pub struct Features {
    /// The network.
    pub io: Io,
    /// Why not io_uring.
    pub io_reason: Option<String>,
    /// Transmit stamps.
    pub stamps: StampPath,
    /// Why not the better way.
    pub stamps_reason: Option<String>,
    /// `SCM_TS_OPT_ID` works.
    pub key_per_message: bool,
    /// The ring waits until an instant (else for a duration).
    pub absolute_timer: bool,
}

impl Features {
    /// Tries everything once, on loopback.
    ///
    /// # Errors
    /// io_uring was demanded and is not to be had, with the reason.
    pub fn detect(choice: IoChoice) -> io::Result<Features> {
        let limits = Limits { batch: 8, buffers: 8, datagram: 64 };
        let ring = match choice {
            IoChoice::Mmsg => Err("--io mmsg".to_string()),
            _ => usable_ring(&limits),
        };
        let (key_per_message, stamps_at_all) = stamp_options();
        let (io, io_reason, absolute_timer, mut stamps, mut stamps_reason) = match ring {
            Ok(ring) => {
                let absolute = absolute_timer(&ring);
                match uring_stamps(&limits, key_per_message) {
                    Ok(()) => (Io::Uring, None, absolute, StampPath::UringCommand, None),
                    Err(reason) => (Io::Uring, None, absolute, StampPath::ErrorQueue, Some(reason)),
                }
            }
            Err(reason) if choice == IoChoice::Uring => {
                return Err(io::Error::other(format!("--io uring: {reason}; use --io mmsg")));
            }
            Err(reason) => {
                let stamps_reason = Some("stamps in completions need io_uring".to_string());
                (Io::Mmsg, Some(reason), false, StampPath::ErrorQueue, stamps_reason)
            }
        };
        if let Err(error) = stamps_at_all {
            stamps = StampPath::User;
            stamps_reason = Some(format!("SO_TIMESTAMPING: {error}"));
        }
        Ok(Features { io, io_reason, stamps, stamps_reason, key_per_message, absolute_timer })
    }
}

impl std::fmt::Display for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let because = |reason: &Option<String>| reason.as_ref().map_or(String::new(), |r| format!(" ({r})"));
        let io = match self.io {
            Io::Uring => "io_uring",
            Io::Mmsg => "sendmmsg/recvmmsg",
        };
        let stamps = match self.stamps {
            StampPath::UringCommand => "kernel, in completions",
            StampPath::ErrorQueue => "kernel, by the error queue",
            StampPath::User => "user space",
        };
        write!(f, "{io}{}, transmit stamps: {stamps}{}", because(&self.io_reason), because(&self.stamps_reason))
    }
}

/// A ring with all the features the network uses, or which one is missing.
fn usable_ring(limits: &Limits) -> Result<Ring, String> {
    let ring = uring::open_ring(limits).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => "io_uring is not in this kernel".to_string(),
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here (sysctl kernel.io_uring_disabled, or the container's seccomp profile)"
                .to_string()
        }
        Some(libc::EINVAL) => "this kernel's io_uring lacks DEFER_TASKRUN (Linux 6.1)".to_string(),
        Some(libc::ENOMEM) => "io_uring may not lock memory (raise RLIMIT_MEMLOCK)".to_string(),
        _ => format!("io_uring: {error}"),
    })?;
    let parameters = ring.params();
    let features = [
        (parameters.is_feature_nodrop(), "NODROP"),
        (parameters.is_feature_ext_arg(), "EXT_ARG"),
        (parameters.is_feature_skip_cqe_on_success(), "CQE_SKIP"),
    ];
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("io_uring probe: {error}"))?;
    let operations = [
        (probe.is_supported(opcode::RecvMsgMulti::CODE), "RECVMSG"),
        (probe.is_supported(opcode::SendMsg::CODE), "SENDMSG"),
        (probe.is_supported(opcode::Send::CODE), "SEND"),
    ];
    match features.iter().chain(&operations).find(|(there, _)| !there) {
        Some((_, name)) => Err(format!("this kernel's io_uring lacks {name}")),
        None => Ok(ring),
    }
}

/// Whether `io_uring_enter` takes an instant (Linux 6.12).
fn absolute_timer(ring: &Ring) -> bool {
    uring::enter_once(&ring.submitter(), SystemClock.monotonic()).is_ok()
}

fn loopback(transmit_stamps: TransmitStamps) -> io::Result<Socket> {
    socket::open(&SocketSpec { transmit_stamps, ..SocketSpec::new((Ipv4Addr::LOCALHOST, 0).into()) })
}

/// Sends one stamped datagram from the socket to itself.
fn send_stamped(socket: &Socket, key: Option<u32>) -> Result<(), i32> {
    let mut queue = message::SendQueue::new(1, 64, key.is_some());
    let datagram = super::Outgoing {
        socket: super::SocketId(0),
        to: socket.local,
        key: key.unwrap_or(0),
        stamp: true,
        traffic_class: None,
        from: None,
        flow_label: 0,
    };
    let slot = queue.push(&datagram, socket, |_| 0);
    message::send_now(&socket.fd, queue.header(slot))
}

/// Whether a key can travel with a datagram, and whether there are transmit stamps at all.
fn stamp_options() -> (bool, io::Result<()>) {
    match loopback(TransmitStamps::All) {
        Ok(socket) => (send_stamped(&socket, Some(1)).is_ok(), Ok(())),
        Err(error) => (false, Err(error)),
    }
}

/// Whether the ring delivers transmit stamps, by sending one datagram on loopback.
fn uring_stamps(limits: &Limits, key_per_message: bool) -> Result<(), String> {
    let say = |error: io::Error| error.to_string();
    let socket = loopback(TransmitStamps::All).map_err(say)?;
    let sockets = [socket];
    let mut ring = StampRing::new(&sockets, limits.completions()).map_err(say)?;
    let sent = send_stamped(&sockets[0], key_per_message.then_some(7));
    sent.map_err(|errno| io::Error::from_raw_os_error(errno).to_string())?;
    let end = SystemClock.monotonic().after(Duration::from_millis(100));
    let mut stamped = false;
    while !stamped && ring.refused == 0 && SystemClock.monotonic() < end {
        ring.drain(|_| stamped = true).map_err(say)?;
    }
    match (stamped, ring.refused) {
        (true, _) => Ok(()),
        (false, 0) => Err("no transmit stamp came within 100 ms on loopback".to_string()),
        (false, _) => Err("SOCKET_URING_OP_TX_TIMESTAMP needs Linux 6.17".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mmsg_on_demand_says_so() {
        let features = Features::detect(IoChoice::Mmsg).expect("always works");
        assert_eq!(features.io, Io::Mmsg);
        assert!(features.to_string().contains("--io mmsg"), "{features}");
    }

    #[test]
    fn detection_names_a_reason_for_all_that_is_not_the_best() {
        let features = Features::detect(IoChoice::Auto).expect("always works");
        assert_eq!(features.io == Io::Mmsg, features.io_reason.is_some());
        assert_eq!(features.stamps != StampPath::UringCommand, features.stamps_reason.is_some());
    }
}
