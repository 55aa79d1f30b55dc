//! [`Network`] over `sendmmsg`/`recvmmsg` and epoll: for kernels and containers without io_uring.
//!
//! Same stamps, same events; a system call per batch and socket, and one per transmit stamp.

use super::error_queue::{self, ErrorQueues};
use super::features::Features;
use super::message::{self, DropMeter, RECEIVE_CONTROL, Reports, SendQueue, empty_header};
use super::socket::Socket;
use super::stamp_keys::StampKeys;
use super::{Event, Limits, NetCounters, Network, Outbox, Outgoing, SocketId, Wait, address, quotes};
use crate::time::{Clock, Monotonic, SystemClock};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Datagrams per `recvmmsg`.
const RECEIVE_BATCH: usize = 64;
/// Batches read from one socket before the next has its turn.
const BATCHES_PER_SOCKET: usize = 8;

/// A send that the kernel refused, told at the next drain.
#[derive(Clone, Copy, Debug)]
struct Failure {
    socket: SocketId,
    key: u32,
    errno: i32,
}

/// The sending half.
#[derive(Debug)]
pub struct MmsgOutbox {
    queue: SendQueue,
    headers: Box<[libc::mmsghdr]>,
    sockets: Vec<Socket>,
    keys: StampKeys,
    errors: ErrorQueues,
    /// At most one batch: full, further failures of the same tick are told as failures of their batch's flush.
    failures: Vec<Failure>,
}

/// All of it.
#[derive(Debug)]
pub struct MmsgNetwork {
    outbox: MmsgOutbox,
    epoll: Epoll,
    ready: Vec<EpollEvent>,
    inbox: Inbox,
    errors: error_queue::Reader,
    drops: DropMeter,
    counters: NetCounters,
    locals: Vec<SocketAddr>,
}

/// Memory of one `recvmmsg`.
#[derive(Debug)]
struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    names: Box<[[u8; address::MAX_LEN]]>,
    controls: Box<[Control]>,
    payloads: Box<[u8]>,
    datagram: usize,
    /// Headers the last call wrote into, to be made ready again.
    used: usize,
}

#[repr(C, align(8))]
#[derive(Clone, Debug)]
struct Control([u8; RECEIVE_CONTROL]);

fn empty_mmsg() -> libc::mmsghdr {
    libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 }
}

impl Outbox for MmsgOutbox {
    fn send(&mut self, datagram: &Outgoing, write: impl FnOnce(&mut [u8]) -> usize) {
        if self.queue.is_full() {
            self.flush();
        }
        let Some(socket) = self.sockets.get(usize::from(datagram.socket.0)) else { return };
        self.queue.push(datagram, socket, write);
        if socket.transmit_stamps.covers(datagram) {
            self.keys.sent(datagram.socket, datagram.key);
            self.errors.expect_stamp(datagram.socket);
        }
    }
}

impl MmsgOutbox {
    /// Hands everything queued to the kernel, one call per run of datagrams of one socket.
    fn flush(&mut self) {
        let mut position = 0;
        while position < self.queue.len() {
            let (socket, _) = self.queue.identity(position);
            let mut end = position;
            while end < self.queue.len() && self.queue.identity(end).0 == socket {
                self.headers[end].msg_hdr = *self.queue.header(end);
                end += 1;
            }
            position += self.send_run(socket, position, end);
        }
        self.queue.clear();
    }

    /// Sends a run and returns how many of it are done with: sent, or failed and noted.
    fn send_run(&mut self, socket: SocketId, start: usize, end: usize) -> usize {
        let Some(open) = self.sockets.get(usize::from(socket.0)) else { return end - start };
        // SAFETY: sendmmsg(2) reads `end - start` headers and what they point to: slots of the queue,
        // which do not move and are not written during the call.
        #[expect(unsafe_code, reason = "nix's sendmmsg encodes control messages anew for each call")]
        let sent = unsafe {
            libc::sendmmsg(
                open.fd.as_raw_fd(),
                self.headers[start..end].as_mut_ptr(),
                (end - start) as u32,
                libc::MSG_DONTWAIT,
            )
        };
        if sent > 0 {
            return sent as usize;
        }
        // nothing went: the error is the first datagram's own, or an earlier one's ICMP error
        let mut errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        if open.icmp_errors && message::may_be_icmp(errno) {
            self.errors.flag(socket);
            match message::send_now(&open.fd, &self.headers[start].msg_hdr) {
                Ok(()) => return 1,
                Err(again) => errno = again,
            }
        }
        let key = self.queue.identity(start).1;
        if self.failures.len() < self.failures.capacity() {
            self.failures.push(Failure { socket, key, errno });
        }
        1
    }
}

impl MmsgNetwork {
    /// A network over these sockets.
    ///
    /// # Errors
    /// epoll refused by the kernel.
    pub fn new(mut sockets: Vec<Socket>, limits: &Limits, features: &Features) -> io::Result<MmsgNetwork> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (position, socket) in sockets.iter().enumerate() {
            epoll.add(&socket.fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR, position as u64))?;
        }
        let count = sockets.len();
        let batch = usize::from(limits.batch);
        let locals = sockets.iter().map(|socket| socket.local).collect();
        let drops = DropMeter::new(&sockets);
        Ok(MmsgNetwork {
            outbox: MmsgOutbox {
                queue: SendQueue::new(batch, limits.datagram, features.key_per_message),
                headers: (0..batch).map(|_| empty_mmsg()).collect(),
                keys: StampKeys::new(features.key_per_message, &mut sockets),
                errors: ErrorQueues::new(count),
                failures: Vec::with_capacity(batch.max(4096)),
                sockets,
            },
            epoll,
            ready: vec![EpollEvent::empty(); count.clamp(1, 1024)],
            inbox: Inbox::new(limits.datagram),
            errors: error_queue::Reader::default(),
            drops,
            counters: NetCounters::default(),
            locals,
        })
    }

    /// Hands over what is queued, tells the sends that failed, and gives the sockets back for another network, with the counters. What
    /// they have received waits in them.
    pub fn close(mut self, mut on: impl FnMut(Event<'_>)) -> (Vec<Socket>, NetCounters) {
        self.outbox.flush();
        self.drain_failures(&mut |_, event| on(event));
        let mut sockets = self.outbox.sockets;
        self.outbox.keys.carry(&mut sockets);
        self.drops.carry(&mut sockets);
        (sockets, self.counters)
    }

    fn drain_failures(&mut self, on: &mut impl FnMut(&mut MmsgOutbox, Event<'_>)) {
        while let Some(failure) = self.outbox.failures.pop() {
            let Failure { socket, key, errno } = failure;
            on(&mut self.outbox, Event::SendFailed { socket, key, errno });
        }
    }
}

impl Inbox {
    fn new(datagram: usize) -> Inbox {
        Inbox {
            headers: (0..RECEIVE_BATCH).map(|_| empty_mmsg()).collect(),
            parts: (0..RECEIVE_BATCH).map(|_| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }).collect(),
            names: vec![[0; address::MAX_LEN]; RECEIVE_BATCH].into_boxed_slice(),
            controls: vec![Control([0; RECEIVE_CONTROL]); RECEIVE_BATCH].into_boxed_slice(),
            payloads: vec![0; RECEIVE_BATCH * datagram].into_boxed_slice(),
            datagram,
            used: RECEIVE_BATCH,
        }
    }

    /// Receives a batch without waiting; returns how many datagrams came, or the errno.
    fn receive(&mut self, socket: &Socket) -> Result<usize, i32> {
        for (position, payload) in self.payloads.chunks_exact_mut(self.datagram).enumerate().take(self.used) {
            self.parts[position] = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: self.datagram };
            let header = &mut self.headers[position].msg_hdr;
            header.msg_name = self.names[position].as_mut_ptr().cast();
            header.msg_namelen = address::MAX_LEN as libc::socklen_t;
            header.msg_iov = &raw mut self.parts[position];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[position].0.as_mut_ptr().cast();
            header.msg_controllen = RECEIVE_CONTROL;
            header.msg_flags = 0;
        }
        // SAFETY: recvmmsg(2) writes through the headers: each points to its own name, payload and control
        // memory of `self` with the true lengths set just above.
        #[expect(unsafe_code, reason = "nix's recvmmsg allocates control memory by message type")]
        let received = unsafe {
            libc::recvmmsg(
                socket.fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                RECEIVE_BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.used = usize::try_from(received).unwrap_or(0);
        usize::try_from(received).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

impl Network for MmsgNetwork {
    type Outbox = MmsgOutbox;

    fn outbox(&mut self) -> &mut MmsgOutbox {
        &mut self.outbox
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        self.outbox.flush();
        match wait {
            Wait::No => {}
            Wait::Until(until) => sleep_until(until),
            Wait::SpinUntil(until) => super::thread::spin_until(until),
            Wait::EventOrUntil(until) => {
                let left = Duration::from_nanos(until.since(SystemClock.monotonic()));
                let mut fds = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
                match ppoll(&mut fds, Some(TimeSpec::from(left)), None) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn drain(&mut self, mut on: impl FnMut(&mut MmsgOutbox, Event<'_>)) {
        self.drain_failures(&mut on);
        let ready = self.epoll.wait(&mut self.ready, EpollTimeout::ZERO).unwrap_or(0);
        for position in 0..ready {
            let event = self.ready[position];
            let id = SocketId(event.data() as u16);
            if event.events().contains(EpollFlags::EPOLLERR) {
                self.outbox.errors.flag(id);
            }
            self.receive(id, &mut on);
        }
        while let Some(taken) = self.outbox.errors.next(&mut self.errors, &self.outbox.sockets) {
            if let Some(event) = self.errors.event(taken, &self.outbox.keys) {
                on(&mut self.outbox, event);
            }
        }
    }

    fn local_addresses(&self) -> &[SocketAddr] {
        &self.locals
    }

    fn counters(&self) -> NetCounters {
        self.counters
    }
}

impl MmsgNetwork {
    /// Reads what waits on one socket, a bounded number of batches.
    fn receive(&mut self, id: SocketId, on: &mut impl FnMut(&mut MmsgOutbox, Event<'_>)) {
        let now = SystemClock.wall();
        for _ in 0..BATCHES_PER_SOCKET {
            let Some(socket) = self.outbox.sockets.get(usize::from(id.0)) else { return };
            let received = match self.inbox.receive(socket) {
                Ok(received) => received,
                Err(libc::EAGAIN | libc::EINTR) => return,
                Err(errno) if socket.icmp_errors && message::may_be_icmp(errno) => {
                    self.outbox.errors.flag(id);
                    continue; // the error is used up; datagrams may wait behind it
                }
                Err(_) => {
                    self.counters.receive_errors += 1;
                    return;
                }
            };
            for position in 0..received {
                let Some(socket) = self.outbox.sockets.get(usize::from(id.0)) else { return };
                let header = &self.inbox.headers[position];
                if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                    // an error that quotes one of our packets fits: this one is about another's
                    self.counters.truncated += u64::from(!socket.quotes);
                    continue;
                }
                let name = &self.inbox.names[position][..header.msg_hdr.msg_namelen as usize];
                let Some(from) = address::decode(name) else { continue };
                let mut reports = Reports::read(&self.inbox.controls[position].0[..header.msg_hdr.msg_controllen]);
                if let Some(total) = reports.dropped {
                    self.counters.local_drops += self.drops.update(id, total);
                }
                self.counters.unstamped += u64::from(reports.at.is_none());
                let start = position * self.inbox.datagram;
                let packet = &self.inbox.payloads[start..start + header.msg_len as usize];
                let Some(payload) = reports.strip(socket, packet) else {
                    self.counters.truncated += 1;
                    continue;
                };
                if let Some(event) = quotes::event(socket, id, from, &reports, payload, now) {
                    on(&mut self.outbox, event);
                }
            }
            if received < RECEIVE_BATCH {
                return;
            }
        }
    }
}

fn sleep_until(until: Monotonic) {
    let time = TimeSpec::from(Duration::from_nanos(until.0));
    // a signal ends the sleep early: the caller looks at the clock and its stop flag again
    let _ = nix::time::clock_nanosleep(
        nix::time::ClockId::CLOCK_MONOTONIC,
        nix::time::ClockNanosleepFlags::TIMER_ABSTIME,
        &time,
    );
}
