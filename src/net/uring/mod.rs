//! [`Network`] over io_uring: a batch of sends and all that has come in with one `io_uring_enter` per
//! tick, and one more for transmit stamps while some are asked for.
//!
//! ```text
//! outbox: SendQueue ─ Send/SendMsg ──────┐                     ┌─ failed sends (success is silent)
//! armed once: RecvMsgMulti per socket ───┴─► io_uring_enter ─►─┴─ received datagrams, in provided buffers
//! armed once: TX_TIMESTAMP per socket ─────► io_uring_enter ─►─── transmit stamps, in the completion itself
//! ```
//!
//! The ring is created on the thread that uses it ([`open_ring`], `SINGLE_ISSUER`), split once and
//! borrowed for the network's life, because the registered ring descriptor is remembered in the
//! `Submitter`. Not responsible for which kernel features exist: [`super::features`].

pub mod buffers;
pub mod stamps;

use super::error_queue::{self, ErrorQueues};
use super::features::{Features, StampPath};
use super::message::{self, DropMeter, RECEIVE_CONTROL, Reports, SendQueue, empty_header};
use super::socket::Socket;
use super::stamp_keys::StampKeys;
use super::{Event, Limits, NetCounters, Network, Outbox, Outgoing, SocketId, TransmitStamps, Wait, address, quotes};
use crate::time::{Clock, Monotonic, SystemClock, Wall};
use buffers::BufferRing;
use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use stamps::StampRing;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The ring of sends and receives.
pub type Ring = IoUring;
/// A ring whose 32-byte completions carry transmit stamps.
pub type Entry32Ring = IoUring<squeue::Entry, cqueue::Entry32>;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
/// The timeout is an instant (Linux 6.12).
const ENTER_ABS_TIMER: u32 = 1 << 5;

/// How long transmit stamps gather: the kernel then wakes a socket's command once for many of them. Far
/// below any loss threshold, so that no stamp is missed for it.
const STAMPS_GATHER: Duration = Duration::from_micros(300);

/// Calls beyond one per socket in which cancelled receives must end.
const CLOSING_ROUNDS: usize = 1024;

const BUFFER_GROUP: u16 = 0;
/// `io_uring_recvmsg_out`, in front of name, control messages and payload in each buffer.
const RECEIVE_HEADER: usize = 16;

/// `io_uring_getevents_arg`.
#[repr(C)]
#[derive(Debug)]
struct GetEvents {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// Creates a ring for a network with these limits, on the calling thread.
///
/// # Errors
/// The kernel's: see [`super::features`] for what they mean.
pub fn open_ring(limits: &Limits) -> io::Result<Ring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(limits.completions())
        .build(u32::from(limits.batch))
}

/// One `io_uring_enter`: submits, runs deferred work, waits for `want` completions until the instant.
/// A timeout is no error.
fn enter_ring(
    submitter: &Submitter<'_>,
    to_submit: u32,
    want: u32,
    until: Option<Monotonic>,
    absolute: bool,
) -> io::Result<()> {
    // a relative timeout drifts by the time between reading the clock and entering: kernels before 6.12 only
    let ns = match until {
        Some(until) if !absolute => until.since(SystemClock.monotonic()),
        Some(until) => until.0,
        None => 0,
    };
    let time = libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
    let argument = GetEvents {
        sigmask: 0,
        sigmask_size: 8,
        min_wait_us: 0,
        timeout: until.map_or(0, |_| std::ptr::from_ref(&time) as u64),
    };
    let timer = if absolute && until.is_some() { ENTER_ABS_TIMER } else { 0 };
    // SAFETY: `argument` is an io_uring_getevents_arg, as EXT_ARG promises; it and `time` outlive the call.
    #[expect(unsafe_code, reason = "Submitter has no form with an absolute timeout")]
    let result = unsafe { submitter.enter(to_submit, want, ENTER_GETEVENTS | ENTER_EXT_ARG | timer, Some(&argument)) };
    match result {
        Err(error) if error.raw_os_error() != Some(libc::ETIME) => Err(error),
        _ => Ok(()),
    }
}

/// Waits once with an absolute timeout, to see whether the kernel takes it.
///
/// # Errors
/// `EINVAL` before Linux 6.12.
pub fn enter_once(submitter: &Submitter<'_>, until: Monotonic) -> io::Result<()> {
    enter_ring(submitter, 0, 1, Some(until), true)
}

/// What a completion is about: travels through the kernel as user data.
///
/// Layout: kind 4 bits, slot 12, socket 16, key 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    kind: Kind,
    slot: u16,
    socket: SocketId,
    key: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Send = 1,
    Receive = 2,
}

impl Token {
    fn receive(socket: SocketId) -> Token {
        Token { kind: Kind::Receive, slot: 0, socket, key: 0 }
    }

    fn to_user_data(self) -> u64 {
        (self.kind as u64) << 60 | u64::from(self.slot) << 48 | u64::from(self.socket.0) << 32 | u64::from(self.key)
    }

    fn from_user_data(data: u64) -> Option<Token> {
        let kind = match data >> 60 {
            1 => Kind::Send,
            2 => Kind::Receive,
            _ => return None,
        };
        Some(Token { kind, slot: (data >> 48) as u16 & 0xfff, socket: SocketId((data >> 32) as u16), key: data as u32 })
    }
}

/// The sending half: the submission queue and the datagrams it points to.
pub struct UringOutbox<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r, squeue::Entry>,
    queue: SendQueue,
    sockets: Vec<Socket>,
    keys: StampKeys,
    errors: ErrorQueues,
    stamps_on_error_queue: bool,
    absolute_timer: bool,
    /// Stamps asked for that have not come.
    stamps_due: u64,
    /// What broke the ring inside `send`, told at the next `wait`.
    broken: Option<io::Error>,
}

/// All of it. Field order is drop order: the queues before the memory they point into.
pub struct UringNetwork<'r> {
    /// Before the outbox, which owns the sockets.
    stamps: Option<StampRing>,
    /// When stamps were last looked for.
    stamps_taken: Monotonic,
    outbox: UringOutbox<'r>,
    completions: CompletionQueue<'r, cqueue::Entry>,
    buffers: BufferRing,
    /// Lengths of name and control room in each buffer; the kernel copies it when a receive is armed.
    template: Box<libc::msghdr>,
    errors: error_queue::Reader,
    drops: DropMeter,
    counters: NetCounters,
    overflows_seen: bool,
    locals: Vec<SocketAddr>,
    /// Receives that are armed.
    armed: usize,
    /// What ends is not armed again.
    closing: bool,
}

impl Outbox for UringOutbox<'_> {
    #[inline]
    fn send(&mut self, datagram: &Outgoing, write: impl FnOnce(&mut [u8]) -> usize) {
        if self.queue.is_full() || self.submissions.is_full() {
            self.flush();
        }
        let Some(socket) = self.sockets.get(usize::from(datagram.socket.0)) else { return };
        if self.queue.is_full() {
            return; // the ring is broken: `broken` says why
        }
        let slot = self.queue.push(datagram, socket, write);
        if socket.transmit_stamps.covers(datagram) {
            self.keys.sent(datagram.socket, datagram.key);
            self.stamps_due += 1;
            if self.stamps_on_error_queue {
                self.errors.expect_stamp(datagram.socket);
            }
        }
        let fd = Fixed(u32::from(datagram.socket.0));
        let flags = libc::MSG_DONTWAIT;
        let entry = if self.queue.has_control(slot) {
            opcode::SendMsg::new(fd, self.queue.header(slot)).flags(flags as u32).build()
        } else {
            let (payload, name) = (self.queue.payload(slot), self.queue.name(slot));
            let send = opcode::Send::new(fd, payload.as_ptr(), payload.len() as u32).flags(flags);
            match name {
                [] => send.build(),
                _ => send.dest_addr(name.as_ptr().cast()).dest_addr_len(name.len() as libc::socklen_t).build(),
            }
        };
        let token = Token { kind: Kind::Send, slot: slot as u16, socket: datagram.socket, key: datagram.key };
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(token.to_user_data()));
    }
}

impl UringOutbox<'_> {
    fn push(&mut self, entry: squeue::Entry) {
        if self.submissions.is_full() {
            self.flush();
        }
        // SAFETY: `push` wants the memory an entry points to to stay valid until the kernel is done with it.
        // Sends point into `queue`, which does not move and is written again only after the entry was
        // submitted; with MSG_DONTWAIT a send is complete when it is submitted. Armed entries point to
        // `template`, which the kernel copies when it takes the entry, and which lives as long.
        #[expect(unsafe_code, reason = "the ring's contract")]
        let pushed = unsafe { self.submissions.push(&entry) };
        if pushed.is_err() {
            self.broken.get_or_insert_with(|| io::Error::other("io_uring: the submission queue does not empty"));
        }
    }

    /// Hands everything queued to the kernel without waiting.
    fn flush(&mut self) {
        if let Err(error) = self.enter(0, None) {
            self.broken.get_or_insert(error);
        }
    }

    fn enter(&mut self, want: u32, until: Option<Monotonic>) -> io::Result<()> {
        self.submissions.sync();
        let to_submit = self.submissions.len() as u32;
        let result = enter_ring(&self.submitter, to_submit, want, until, self.absolute_timer);
        self.submissions.sync();
        if self.submissions.is_empty() {
            self.queue.clear();
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Sends again, by a plain call, a datagram whose send was answered by an earlier datagram's ICMP error.
    fn send_again(&mut self, token: Token) -> Result<(), i32> {
        let slot = usize::from(token.slot);
        let Some(socket) = self.sockets.get(usize::from(token.socket.0)) else { return Err(libc::EBADF) };
        // only while the slot still holds this very datagram
        if self.queue.identity(slot) != (token.socket, token.key) {
            return Err(libc::ECONNREFUSED);
        }
        message::send_now(&socket.fd, self.queue.header(slot))
    }
}

/// Ends what was submitted with this user data; says nothing unless it was not there.
fn cancel(user_data: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(user_data).build().flags(squeue::Flags::SKIP_SUCCESS)
}

impl<'r> UringNetwork<'r> {
    /// A network over `ring` (from [`open_ring`]) with all sockets armed.
    ///
    /// # Errors
    /// Registration or arming refused by the kernel.
    pub fn new(
        ring: &'r mut Ring,
        mut sockets: Vec<Socket>,
        limits: &Limits,
        features: &Features,
    ) -> io::Result<UringNetwork<'r>> {
        let (mut submitter, submissions, completions) = ring.split();
        // an optimisation (no descriptor lookup per enter); kernels before 5.18 lack it
        let _ = submitter.register_ring_fd();
        let fds: Vec<i32> = sockets.iter().map(|socket| socket.fd.as_raw_fd()).collect();
        if !fds.is_empty() {
            submitter.register_files(&fds)?;
        }
        let size = RECEIVE_HEADER + address::MAX_LEN + RECEIVE_CONTROL + limits.datagram;
        let buffers = BufferRing::new(limits.buffers, size.next_multiple_of(64))?;
        // SAFETY: `register_buf_ring` wants the ring's memory to stay valid until it is unregistered: `buffers`
        // is dropped with the network, whose `drop` unregisters it first.
        #[expect(unsafe_code, reason = "the ring's contract")]
        unsafe {
            submitter.register_buf_ring_with_flags(buffers.address(), buffers.count(), BUFFER_GROUP, 0)?;
        }
        let mut template = Box::new(empty_header());
        template.msg_namelen = address::MAX_LEN as libc::socklen_t;
        template.msg_controllen = RECEIVE_CONTROL;
        let count = sockets.len();
        let locals = sockets.iter().map(|socket| socket.local).collect();
        let stamped = sockets.iter().any(|socket| socket.transmit_stamps != TransmitStamps::None);
        let stamps = match features.stamps {
            StampPath::UringCommand if stamped => Some(StampRing::new(&sockets, limits.completions())?),
            _ => None,
        };
        let mut errors = ErrorQueues::new(count);
        let stamps_on_error_queue = features.stamps == StampPath::ErrorQueue;
        if stamps_on_error_queue {
            // of what another network sent over them
            let carrying = (0..).map(SocketId).zip(&sockets).filter(|(_, s)| s.transmit_stamps != TransmitStamps::None);
            carrying.for_each(|(id, _)| errors.expect_stamp(id));
        }
        let drops = DropMeter::new(&sockets);
        let mut network = UringNetwork {
            stamps,
            stamps_taken: Monotonic::default(),
            outbox: UringOutbox {
                submitter,
                submissions,
                queue: SendQueue::new(usize::from(limits.batch), limits.datagram, features.key_per_message),
                keys: StampKeys::new(features.key_per_message, &mut sockets),
                errors,
                stamps_on_error_queue,
                absolute_timer: features.absolute_timer,
                stamps_due: 0,
                sockets,
                broken: None,
            },
            completions,
            buffers,
            template,
            errors: error_queue::Reader::default(),
            drops,
            counters: NetCounters::default(),
            overflows_seen: false,
            locals,
            armed: 0,
            closing: false,
        };
        for position in 0..count {
            network.arm_receive(SocketId(position as u16));
        }
        network.outbox.flush();
        match network.outbox.broken.take() {
            Some(error) => Err(error),
            None => Ok(network),
        }
    }

    /// Hands over what is queued, tells what has come in, and gives the sockets back for another network, with the counters. What
    /// they receive from now on waits in them, with its stamps.
    ///
    /// # Errors
    /// The ring is broken, or does not end what is armed.
    pub fn close(mut self, mut on: impl FnMut(Event<'_>)) -> io::Result<(Vec<Socket>, NetCounters)> {
        self.outbox.enter(0, None)?;
        self.closing = true;
        // one by one, by name: to cancel all at once the kernel walks all of them for each
        for position in 0..self.locals.len() {
            let armed = Token::receive(SocketId(position as u16)).to_user_data();
            self.outbox.push(cancel(armed));
        }
        // the kernel runs some twenty completions per call
        for _ in 0..self.locals.len() + CLOSING_ROUNDS {
            self.outbox.enter(0, None)?;
            self.drain(|_, event| on(event));
            if self.armed == 0 {
                break;
            }
        }
        if self.armed > 0 {
            return Err(io::Error::other(format!("io_uring: {} receives did not end when cancelled", self.armed)));
        }
        if let Some(stamps) = &mut self.stamps {
            let outbox = &self.outbox;
            stamps.close(|stamp| {
                if let Some(key) = outbox.keys.key(stamp.socket, stamp.key) {
                    on(Event::Transmitted { socket: stamp.socket, key, at: stamp.at });
                }
            })?;
        }
        let mut sockets = std::mem::take(&mut self.outbox.sockets);
        self.outbox.keys.carry(&mut sockets);
        self.drops.carry(&mut sockets);
        // the ring lets go of the files before they can be closed
        self.stamps = None;
        let counters = self.counters;
        drop(self);
        Ok((sockets, counters))
    }

    fn arm_receive(&mut self, socket: SocketId) {
        self.armed += 1;
        let token = Token::receive(socket);
        let entry =
            opcode::RecvMsgMulti::new(Fixed(u32::from(socket.0)), std::ptr::from_ref(&*self.template), BUFFER_GROUP);
        self.outbox.push(entry.build().user_data(token.to_user_data()));
    }
}

impl<'r> Network for UringNetwork<'r> {
    type Outbox = UringOutbox<'r>;

    fn outbox(&mut self) -> &mut UringOutbox<'r> {
        &mut self.outbox
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        if let Some(error) = self.outbox.broken.take() {
            return Err(error);
        }
        let (want, until) = match wait {
            Wait::No => (0, None),
            // events do not end the wait, but a completion queue that fills up does
            Wait::Until(until) => (self.completions.capacity() as u32 / 2, Some(until)),
            Wait::EventOrUntil(until) => (1, Some(until)),
            Wait::SpinUntil(until) => {
                self.outbox.enter(0, None)?;
                super::thread::spin_until(until);
                return Ok(());
            }
        };
        self.outbox.enter(want, until)
    }

    fn drain(&mut self, mut on: impl FnMut(&mut UringOutbox<'r>, Event<'_>)) {
        let now = SystemClock.wall();
        self.completions.sync();
        // bounded by what is there now: what the callback causes is for the next tick
        for _ in 0..self.completions.len() {
            let Some(completion) = self.completions.next() else { break };
            let Some(token) = Token::from_user_data(completion.user_data()) else { continue };
            match token.kind {
                Kind::Receive => self.received(token.socket, &completion, now, &mut on),
                Kind::Send => self.send_failed(token, -completion.result(), &mut on),
            }
        }
        self.buffers.publish();
        self.take_stamps(&mut on);
        let overflowed = self.outbox.submissions.cq_overflow();
        // the end of many receives at once overflows it by design
        self.counters.ring_overflows += u64::from(overflowed && !self.overflows_seen && !self.closing);
        self.overflows_seen = overflowed;
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

impl<'r> UringNetwork<'r> {
    #[inline]
    fn received(
        &mut self,
        socket: SocketId,
        completion: &cqueue::Entry,
        now: Wall,
        on: &mut impl FnMut(&mut UringOutbox<'r>, Event<'_>),
    ) {
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            if let Some(message) =
                self.buffers.get(id).and_then(|buffer| RecvMsgOut::parse(buffer, &self.template).ok())
            {
                let opened = &self.outbox.sockets[usize::from(socket.0)];
                if message.is_payload_truncated() {
                    // an error that quotes one of our packets fits: this one is about another's
                    self.counters.truncated += u64::from(!opened.quotes);
                } else if let Some(from) = address::decode(message.name_data()) {
                    let mut reports = Reports::read(message.control_data());
                    if let Some(total) = reports.dropped {
                        self.counters.local_drops += self.drops.update(socket, total);
                    }
                    self.counters.unstamped += u64::from(reports.at.is_none());
                    if let Some(payload) = reports.strip(opened, message.payload_data()) {
                        if let Some(event) = quotes::event(opened, socket, from, &reports, payload, now) {
                            on(&mut self.outbox, event);
                        }
                    } else {
                        self.counters.truncated += 1;
                    }
                }
            }
            self.buffers.give_back(id);
        }
        let result = completion.result();
        if result < 0 && result != -libc::ENOBUFS {
            if self.outbox.sockets[usize::from(socket.0)].icmp_errors && message::may_be_icmp(-result) {
                self.outbox.errors.flag(socket);
            } else if result != -libc::ECANCELED {
                self.counters.receive_errors += 1;
            }
        }
        if !cqueue::more(completion.flags()) {
            self.armed = self.armed.saturating_sub(1);
            if self.closing {
                return;
            }
            self.counters.rearmed += 1;
            self.buffers.publish(); // before the kernel looks for one again
            self.arm_receive(socket);
        }
    }

    /// Takes the transmit stamps that are there, while some are due.
    fn take_stamps(&mut self, on: &mut impl FnMut(&mut UringOutbox<'r>, Event<'_>)) {
        let (outbox, Some(stamps)) = (&mut self.outbox, &mut self.stamps) else { return };
        if outbox.stamps_due == 0 {
            return;
        }
        let now = SystemClock.monotonic();
        if now < self.stamps_taken.after(STAMPS_GATHER) {
            return;
        }
        self.stamps_taken = now;
        let drained = stamps.drain(|stamp| {
            outbox.stamps_due = outbox.stamps_due.saturating_sub(1);
            if let Some(key) = outbox.keys.key(stamp.socket, stamp.key) {
                on(outbox, Event::Transmitted { socket: stamp.socket, key, at: stamp.at });
            }
        });
        if let Err(error) = drained {
            self.outbox.broken.get_or_insert(error);
        }
    }

    fn send_failed(&mut self, token: Token, errno: i32, on: &mut impl FnMut(&mut UringOutbox<'r>, Event<'_>)) {
        let mut outcome = Err(errno);
        let watched = self.outbox.sockets[usize::from(token.socket.0)].icmp_errors;
        if watched && message::may_be_icmp(errno) {
            self.outbox.errors.flag(token.socket);
            outcome = self.outbox.send_again(token);
        }
        if let Err(errno) = outcome {
            on(&mut self.outbox, Event::SendFailed { socket: token.socket, key: token.key, errno });
        }
    }
}

impl Drop for UringNetwork<'_> {
    fn drop(&mut self) {
        // cancel, then let go of the files: a ring torn down with receives armed keeps their ports
        // bound until the kernel's own clean-up ran. Errors leave just that.
        if self.armed > 0 {
            let _ = self.outbox.submitter.register_sync_cancel(None, CancelBuilder::any());
            let _ = self.outbox.enter(0, None);
        }
        let _ = self.outbox.submitter.unregister_buf_ring(BUFFER_GROUP);
        let _ = self.outbox.submitter.unregister_files();
        let _ = self.outbox.enter(0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let token = Token { kind: Kind::Send, slot: 0xfff, socket: SocketId(65535), key: u32::MAX };
        assert_eq!(Token::from_user_data(token.to_user_data()), Some(token));
        assert_eq!(Token::from_user_data(0), None);
    }
}
