//! Transmit stamps without a system call each: a ring of their own on which
//! `SOCKET_URING_OP_TX_TIMESTAMP` stays armed for every socket.
//!
//! Why a ring of their own, when one with 32-byte completions could carry receives too: Linux 6.18
//! mistakes such a ring for one of mixed sizes when a stamp is due at its last slot. It then counts
//! that slot as filled without writing it, and writes 16 bytes into the middle of the queue. In a
//! shared ring the slot's former content comes back as a second receive of a buffer the kernel owns,
//! and datagrams overwrite each other. Here the worst is an old stamp seen again, which the probe's
//! first stamp outranks, and a stamp of zero seconds, which is dropped. (`docs/decisions/0003-two-rings.md`)

use super::{CLOSING_ROUNDS, Entry32Ring, cancel, enter_ring};
use crate::net::socket::Socket;
use crate::net::{SocketId, TransmitStamps};
use crate::time::{StampSource, Timestamp, Wall};
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::os::fd::AsRawFd;

/// `SOCKET_URING_OP_TX_TIMESTAMP` (Linux 6.17).
pub const TX_TIMESTAMP: u32 = 4;
/// Completion flag: the stamp is the hardware's.
const HARDWARE: u32 = 1 << 16;
/// Completion flags 17 and up: the stamp's type, 0 = sent.
const TYPE_SHIFT: u32 = 17;
/// Entries of the submission queue; arming more sockets takes more calls.
const SUBMISSIONS: u32 = 64;
/// User data of what is about no socket.
const NO_SOCKET: u64 = u64::MAX;

/// A stamp as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which socket sent the datagram.
    pub socket: SocketId,
    /// The kernel's or our number of the datagram.
    pub key: u32,
    /// When it left.
    pub at: Timestamp,
}

/// The ring and what is armed on it.
pub struct StampRing {
    ring: Entry32Ring,
    /// By socket; they stay open while the ring lives.
    fds: Vec<i32>,
    /// Commands that are armed.
    armed: usize,
    /// Sockets whose command has ended and must be armed again.
    ended: Vec<SocketId>,
    /// Times a command was armed again.
    pub rearmed: u64,
    /// Commands the kernel refused; their sockets' stamps are missing from then on.
    pub refused: u64,
}

impl StampRing {
    /// Arms the command for all sockets that stamp; `completions` may wait.
    ///
    /// # Errors
    /// The ring or an entry refused.
    pub fn new(sockets: &[Socket], completions: u32) -> io::Result<StampRing> {
        let ring = open(completions)?;
        let mut stamps = StampRing {
            ring,
            fds: sockets.iter().map(|s| s.fd.as_raw_fd()).collect(),
            armed: 0,
            ended: Vec::with_capacity(sockets.len()),
            rearmed: 0,
            refused: 0,
        };
        for (position, socket) in sockets.iter().enumerate() {
            if socket.transmit_stamps != TransmitStamps::None {
                stamps.ended.push(SocketId(position as u16));
            }
        }
        stamps.arm()?;
        Ok(stamps)
    }

    /// Arms again what has ended.
    fn arm(&mut self) -> io::Result<()> {
        while let Some(id) = self.ended.pop() {
            let Some(fd) = self.fds.get(usize::from(id.0)) else { continue };
            let entry = opcode::UringCmd16::new(Fd(*fd), TX_TIMESTAMP).build();
            let full = self.ring.submission().is_full();
            if full {
                self.ring.submit()?;
            }
            push(&mut self.ring, &entry.user_data(u64::from(id.0)))?;
            self.armed += 1;
        }
        self.ring.submit().map(drop)
    }

    /// Calls `on` for every stamp that is there.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn drain(&mut self, on: impl FnMut(Stamp)) -> io::Result<()> {
        self.take(on)?;
        if self.ended.is_empty() {
            return Ok(());
        }
        self.rearmed += self.ended.len() as u64;
        self.arm()
    }

    /// Ends what is armed and calls `on` for every stamp that came before. Later ones wait in the sockets.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn close(&mut self, mut on: impl FnMut(Stamp)) -> io::Result<()> {
        for socket in 0..self.fds.len() as u64 {
            if self.ring.submission().is_full() {
                self.ring.submit()?;
            }
            // of the cancellation itself nothing is heard: its own user data stands for no socket
            push(&mut self.ring, &cancel(socket).user_data(NO_SOCKET))?;
        }
        self.ring.submit()?;
        // the kernel runs some twenty completions per call
        for _ in 0..self.fds.len() + CLOSING_ROUNDS {
            self.take(&mut on)?;
            if self.armed == 0 {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, mut on: impl FnMut(Stamp)) -> io::Result<()> {
        enter_ring(&self.ring.submitter(), 0, 0, None, false)?;
        for completion in self.ring.completion() {
            if completion.user_data() == NO_SOCKET {
                continue;
            }
            let socket = SocketId(completion.user_data() as u16);
            let flags = completion.flags();
            if !cqueue::more(flags) {
                self.armed = self.armed.saturating_sub(1);
                match completion.result() {
                    result if result < 0 && result != -libc::ECANCELED => self.refused += 1,
                    _ => self.ended.push(socket),
                }
                continue;
            }
            let [seconds, ns] = *completion.big_cqe();
            // of another type (scheduled, acknowledged), or overwritten by the kernel (see the module's head)
            if flags >> TYPE_SHIFT != 0 || seconds == 0 || ns >= 1_000_000_000 {
                continue;
            }
            let source = if flags & HARDWARE != 0 { StampSource::Hardware } else { StampSource::Kernel };
            let wall = Wall(seconds.wrapping_mul(1_000_000_000).wrapping_add(ns));
            on(Stamp { socket, key: completion.result() as u32, at: Timestamp { wall, source } });
        }
        Ok(())
    }
}

impl Drop for StampRing {
    fn drop(&mut self) {
        if self.armed == 0 {
            return;
        }
        // an armed command holds its socket, and so its port
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let _ = enter_ring(&self.ring.submitter(), 0, 0, None, false);
    }
}

fn open(completions: u32) -> io::Result<Entry32Ring> {
    IoUring::<squeue::Entry, cqueue::Entry32>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(completions.max(SUBMISSIONS))
        .build(SUBMISSIONS)
}

fn push(ring: &mut Entry32Ring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: the entry points to no memory of ours; its descriptor stays open while the ring lives (`sockets`
    // are dropped after it).
    #[expect(unsafe_code, reason = "the ring's contract")]
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.map_err(io::Error::other)
}
