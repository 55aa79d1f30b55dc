//! What a reflector counts: [`Totals`], and [`Published`], through which others read them while it runs.

use crate::net::NetCounters;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a packet got no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// Shorter than any format.
    TooShort,
    /// Longer than the reflector sends.
    TooLong,
    /// Fits no format; also what a reply looks like.
    Unrecognised,
    /// A probe of upstream's Go generation in which a field goes on behind the end.
    FieldPastEnd,
    /// One in which a varint is longer than 64 bits.
    LongVarint,
    /// One in which a field is not what it can be.
    MalformedField,
    /// One whose signature is not of ten octets.
    WrongSignature,
    /// One without the traffic-class byte it wants, which ended upstream's reflector.
    EmptyTos,
    /// Begins as a probe of upstream's Python generation and is not 36 octets.
    WrongSize,
    /// An open packet, or one of upstream's, on a listener with a key.
    NotAuthenticated,
    /// The HMAC does not fit.
    Unauthentic,
    /// Its source port is a reflector's.
    OtherReflector,
    /// Its source, or the address it came to, is not one host's.
    NotUnicast,
    /// Above the limit of packets per second.
    RateLimit,
    /// Above the limit of packets per second of one source.
    SourceRateLimit,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [DropReason; 15] = [
        DropReason::TooShort,
        DropReason::TooLong,
        DropReason::Unrecognised,
        DropReason::FieldPastEnd,
        DropReason::LongVarint,
        DropReason::MalformedField,
        DropReason::WrongSignature,
        DropReason::EmptyTos,
        DropReason::WrongSize,
        DropReason::NotAuthenticated,
        DropReason::Unauthentic,
        DropReason::OtherReflector,
        DropReason::NotUnicast,
        DropReason::RateLimit,
        DropReason::SourceRateLimit,
    ];

    /// Its name in reports: `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::TooShort => "too_short",
            DropReason::TooLong => "too_long",
            DropReason::Unrecognised => "unrecognised",
            DropReason::FieldPastEnd => "field_past_end",
            DropReason::LongVarint => "long_varint",
            DropReason::MalformedField => "malformed_field",
            DropReason::WrongSignature => "wrong_signature",
            DropReason::EmptyTos => "empty_tos",
            DropReason::WrongSize => "wrong_size",
            DropReason::NotAuthenticated => "not_authenticated",
            DropReason::Unauthentic => "unauthentic",
            DropReason::OtherReflector => "other_reflector",
            DropReason::NotUnicast => "not_unicast",
            DropReason::RateLimit => "rate_limit",
            DropReason::SourceRateLimit => "source_rate_limit",
        }
    }
}

/// Counts by [`DropReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// Counts one.
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// How many for this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A format that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Answered {
    /// STAMP, also from TWAMP Light senders.
    Stamp,
    /// Upstream's Go generation.
    Llama,
    /// Upstream's Python generation.
    LlamaPython,
}

impl Answered {
    /// All of them, in the order of their numbers.
    pub const ALL: [Answered; 3] = [Answered::Stamp, Answered::Llama, Answered::LlamaPython];

    /// Its name in reports: `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Answered::Stamp => "replied_stamp",
            Answered::Llama => "replied_llama",
            Answered::LlamaPython => "replied_llama_python",
        }
    }
}

/// Replies by format. When one of upstream's no longer grows, its last collector is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replied([u64; Answered::ALL.len()]);

impl Replied {
    /// Counts one.
    #[inline]
    pub fn count(&mut self, format: Answered) {
        self.0[format as usize] += 1;
    }

    /// How many in this format.
    pub fn of(&self, format: Answered) -> u64 {
        self.0[format as usize]
    }
}

/// What a responder counts beside replies and drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Sessions begun (stateful only); one that comes back after its idle time counts again.
    pub sessions: u64,
    /// Packets answered as a stateless reflector does, because the session table had no room.
    pub sessions_full: u64,
    /// Sources forgotten before their time, because the table of sources had no room.
    pub sources_forgotten: u64,
    /// Replies that say a TLV was malformed.
    pub malformed_tlvs: u64,
    /// Replies that say the TLVs' HMAC could not be verified.
    pub unauthentic_tlvs: u64,
    /// Replies without the DSCP asked for, as the policy does not allow it.
    pub refused_dscps: u64,
}

/// What a reflector did since its start. `received = replied + dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams received.
    pub received: u64,
    /// Replies handed to the network.
    pub replied: u64,
    /// Replies of those that the network refused.
    pub send_failed: u64,
    /// Replies by format; together they are `replied`.
    pub formats: Replied,
    /// Datagrams without a reply, by reason.
    pub dropped: Dropped,
    /// Noteworthy about those with one.
    pub notes: Notes,
    /// The network's own counters: what never became a received datagram.
    pub network: NetCounters,
}

/// Numbers in a [`Totals`].
const CELLS: usize = 3 + Answered::ALL.len() + DropReason::ALL.len() + 6 + 6;

impl Totals {
    /// Adds what another worker did.
    pub fn merge(&mut self, other: &Totals) {
        let mut sum = self.cells();
        for (cell, more) in sum.iter_mut().zip(other.cells()) {
            *cell += more;
        }
        *self = Totals::from_cells(sum);
    }

    /// Name and value of every number.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        const BEFORE: [&str; 3] = ["received", "replied", "send_failed"];
        const AFTER: [&str; 12] = [
            "sessions",
            "sessions_full",
            "sources_forgotten",
            "malformed_tlvs",
            "unauthentic_tlvs",
            "refused_dscps",
            "local_drops",
            "truncated",
            "unstamped",
            "rearmed",
            "ring_overflows",
            "receive_errors",
        ];
        let formats = Answered::ALL.map(Answered::name);
        let reasons = DropReason::ALL.map(DropReason::name);
        BEFORE.into_iter().chain(formats).chain(reasons).chain(AFTER).zip(self.cells())
    }

    fn cells(&self) -> [u64; CELLS] {
        let (notes, network) = (&self.notes, &self.network);
        let after = [
            notes.sessions,
            notes.sessions_full,
            notes.sources_forgotten,
            notes.malformed_tlvs,
            notes.unauthentic_tlvs,
            notes.refused_dscps,
            network.local_drops,
            network.truncated,
            network.unstamped,
            network.rearmed,
            network.ring_overflows,
            network.receive_errors,
        ];
        let before = [self.received, self.replied, self.send_failed];
        let parts = [&before[..], &self.formats.0, &self.dropped.0, &after];
        let mut cells = [0; CELLS];
        for (cell, value) in cells.iter_mut().zip(parts.into_iter().flatten()) {
            *cell = *value;
        }
        cells
    }

    fn from_cells(cells: [u64; CELLS]) -> Totals {
        let mut cells = cells.into_iter();
        let mut next = || cells.next().unwrap_or(0);
        // fields are filled in the order they are written here: that of the cells
        Totals {
            received: next(),
            replied: next(),
            send_failed: next(),
            formats: Replied(std::array::from_fn(|_| next())),
            dropped: Dropped(std::array::from_fn(|_| next())),
            notes: Notes {
                sessions: next(),
                sessions_full: next(),
                sources_forgotten: next(),
                malformed_tlvs: next(),
                unauthentic_tlvs: next(),
                refused_dscps: next(),
            },
            network: NetCounters {
                local_drops: next(),
                truncated: next(),
                unstamped: next(),
                rearmed: next(),
                ring_overflows: next(),
                receive_errors: next(),
            },
        }
    }
}

/// One line with the main numbers, then one per other number that is not zero.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received {}, replied {}, dropped {}", self.received, self.replied, self.dropped.total())?;
        for (name, value) in self.entries().skip(2).filter(|&(_, value)| value > 0) {
            write!(f, "\n  {} {value}", name.replace('_', " "))?;
        }
        Ok(())
    }
}

/// A worker's totals where other threads can read them: stored once per tick, relaxed.
///
/// Numbers read together may be one tick apart.
#[derive(Debug)]
pub struct Published([AtomicU64; CELLS]);

impl Default for Published {
    fn default() -> Published {
        Published([const { AtomicU64::new(0) }; CELLS])
    }
}

impl Published {
    /// Makes `totals` what others read.
    pub fn store(&self, totals: &Totals) {
        for (cell, value) in self.0.iter().zip(totals.cells()) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// What was stored last.
    pub fn load(&self) -> Totals {
        Totals::from_cells(self.0.each_ref().map(|cell| cell.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Totals in which every number is different.
    fn all_different() -> Totals {
        Totals::from_cells(std::array::from_fn(|at| at as u64 + 1))
    }

    #[test]
    fn reasons_are_numbered_in_order() {
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
        for (number, format) in Answered::ALL.into_iter().enumerate() {
            assert_eq!(format as usize, number);
        }
    }

    #[test]
    fn every_number_has_a_cell_of_its_own() {
        let totals = all_different();
        let cells: [u64; CELLS] = std::array::from_fn(|at| at as u64 + 1);
        assert_eq!(totals.cells(), cells);
        let names: std::collections::HashSet<_> = totals.entries().map(|(name, _)| name).collect();
        assert_eq!(names.len(), CELLS);
    }

    #[test]
    fn names_stand_beside_their_numbers() {
        let mut totals = Totals::default();
        totals.dropped.count(DropReason::RateLimit);
        totals.notes.refused_dscps = 2;
        totals.network.receive_errors = 3;
        totals.formats.count(Answered::LlamaPython);
        totals.dropped.count(DropReason::EmptyTos);
        let named: Vec<_> = totals.entries().filter(|&(_, value)| value > 0).collect();
        let expected = [
            ("replied_llama_python", 1),
            ("empty_tos", 1),
            ("rate_limit", 1),
            ("refused_dscps", 2),
            ("receive_errors", 3),
        ];
        assert_eq!(named, expected);
        assert_eq!(totals.entries().count(), CELLS);
    }

    #[test]
    fn merging_adds_every_number() {
        let mut sum = all_different();
        sum.merge(&all_different());
        assert!(sum.cells().iter().zip(all_different().cells()).all(|(&sum, one)| sum == 2 * one));
    }

    #[test]
    fn what_was_published_is_read() {
        let published = Published::default();
        assert_eq!(published.load(), Totals::default());
        published.store(&all_different());
        assert_eq!(published.load(), all_different());
    }

    #[test]
    fn printed_without_zeros() {
        let mut totals = Totals { received: 3, replied: 2, ..Totals::default() };
        totals.dropped.count(DropReason::OtherReflector);
        assert_eq!(totals.to_string(), "received 3, replied 2, dropped 1\n  other reflector 1");
    }
}
