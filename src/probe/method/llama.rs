//! Upstream's own probes as their collectors send them, so that reflectors that know nothing else answer.
//!
//! A reply is the probe sent back: it has no instants of the reflector's, and what a collector wants to know of it
//! again must be in the probe. Beside the sequence number goes a check value made from it, by which
//! other collectors' probes and other strays are told from ours; it is no secret.

use super::{Reply, Unreadable};
use crate::probe::Seq;
use crate::probe::random::Random;
use crate::probe::shape::Shape;
use crate::time::Wall;
use crate::wire::llama::{SIGNATURE_LEN, go, python};

/// What makes a sequence number's check value; any number but 0.
const SALT: u64 = 0x6c6c_616d_612d_7273;

/// 64 bits that only our own probe with this number has beside it.
#[inline]
fn check(seq: Seq) -> u64 {
    Random::new(SALT ^ u64::from(seq.0)).bits()
}

fn no_more(seq: Seq) -> Reply {
    Reply { seq, reflector_seq: None, received: None, sent: None }
}

/// The Go generation: sequence number and check value are the signature, which is all that its own collector compares
/// as well.
#[derive(Clone, Debug)]
pub struct Llama {
    template: Box<[u8]>,
}

impl Llama {
    pub fn new(shape: &Shape) -> Llama {
        let least = go::SentProbe::<&[u8]>::LEAST_LEN;
        let mut template = vec![0; usize::from(shape.size).max(least)].into_boxed_slice();
        if let Ok(mut packet) = go::SentProbe::new_checked(&mut template[..]) {
            let tos = shape.dscp.traffic_class();
            go::Sent { signature: [0; SIGNATURE_LEN], tos, sent: 0 }.emit(&mut packet);
        }
        Llama { template }
    }

    pub fn len(&self) -> usize {
        self.template.len()
    }

    #[inline]
    pub fn write(&self, seq: Seq, now: Wall, buf: &mut [u8]) -> usize {
        let Some(probe) = buf.get_mut(..self.template.len()) else { return 0 };
        probe.copy_from_slice(&self.template);
        if let Ok(mut packet) = go::SentProbe::new_checked(&mut *probe) {
            packet.set_signature(&signature(seq));
            packet.set_sent(now.0);
        }
        probe.len()
    }

    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Result<Reply, Unreadable> {
        let probe = go::Probe::parse(bytes).map_err(|_| Unreadable::Malformed)?;
        let seq = signed(probe.signature).ok_or(Unreadable::Malformed)?;
        if probe.padding.iter().any(|octet| *octet != 0) {
            return Err(Unreadable::Corrupt(Some(seq)));
        }
        Ok(no_more(seq))
    }

    pub fn read_quoted(&self, bytes: &[u8]) -> Option<Seq> {
        signed(bytes.strip_prefix(&go::START)?.get(..SIGNATURE_LEN)?)
    }
}

/// Four octets of the sequence number, six of its check value.
#[inline]
fn signature(seq: Seq) -> [u8; SIGNATURE_LEN] {
    let mut signature = [0; SIGNATURE_LEN];
    signature[..4].copy_from_slice(&seq.0.to_be_bytes());
    signature[4..].copy_from_slice(&check(seq).to_be_bytes()[..SIGNATURE_LEN - 4]);
    signature
}

/// The sequence number of a signature of ours.
#[inline]
fn signed(bytes: &[u8]) -> Option<Seq> {
    let seq = Seq(u32::from_be_bytes(*bytes.first_chunk()?));
    (bytes == signature(seq)).then_some(seq)
}

/// The Python generation. Its signature is always the same, so the sequence number travels in `rcvd` and its check value
/// in `rtt`: fields a collector fills in after the reply, and a reflector sends back as they are. Both are whole numbers that
/// f64 holds exactly, so that they also survive a reflector that takes the struct apart and puts it together again. `sent`
/// says what it should.
#[derive(Clone, Debug)]
pub struct LlamaPython {
    tos: u8,
}

impl LlamaPython {
    pub fn new(shape: &Shape) -> LlamaPython {
        LlamaPython { tos: shape.dscp.traffic_class() }
    }

    pub fn len(&self) -> usize {
        python::LEN
    }

    #[inline]
    pub fn write(&self, seq: Seq, now: Wall, buf: &mut [u8]) -> usize {
        let Some(Ok(mut packet)) = buf.get_mut(..python::LEN).map(python::Packet::new_sized) else { return 0 };
        let sent = now.0 as f64 / 1e6;
        let probe = python::Probe { tos: self.tos, sent, rcvd: seq.0.into(), rtt: exact_check(seq), lost: false };
        probe.emit(&mut packet);
        python::LEN
    }

    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Result<Reply, Unreadable> {
        let packet = python::Packet::new_checked(bytes).map_err(|_| Unreadable::Malformed)?;
        let seq = Seq(packet.rcvd() as u32); // `as` saturates; what it changes fails the comparison
        let ours = packet.rcvd() == f64::from(seq.0) && packet.rtt() == exact_check(seq);
        if ours { Ok(no_more(seq)) } else { Err(Unreadable::Malformed) }
    }

    pub fn read_quoted(&self, bytes: &[u8]) -> Option<Seq> {
        self.read(bytes.get(..python::LEN)?).ok().map(|reply| reply.seq)
    }
}

/// As many bits of the check value as f64 holds exactly; never 0, which is what upstream's collector has there.
#[inline]
fn exact_check(seq: Seq) -> f64 {
    ((check(seq) >> 12) | 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::method::Method;
    use crate::probe::shape::{Dscp, MethodKind, StampPolicy};
    use proptest::prelude::*;

    const NOW: Wall = Wall(1_700_000_000_123_456_789);

    fn method(method: MethodKind, size: u16) -> Method {
        let port_name = "test".into();
        let shape =
            Shape { port_name, method, dscp: Dscp(46), size, stamps: StampPolicy::Off, key: None, class_report: false };
        Method::new(&shape, 0xbeef)
    }

    fn llama() -> Method {
        method(MethodKind::Llama, go::USUAL_LEN as u16)
    }

    fn llama_python() -> Method {
        method(MethodKind::LlamaPython, python::LEN as u16)
    }

    fn probe(method: &Method, seq: u32) -> Vec<u8> {
        let mut buf = vec![0xa5; 2000];
        let len = method.write(Seq(seq), NOW, &mut buf);
        assert!(buf[len..].iter().all(|&byte| byte == 0xa5), "writes past the probe");
        buf.truncate(len);
        buf
    }

    #[test]
    fn a_probe_says_what_upstreams_collector_says() {
        let bytes = probe(&llama(), 42);
        assert_eq!(bytes.len(), 1028);
        let said = go::Probe::parse(&bytes).unwrap();
        assert_eq!((said.tos, said.sent, said.padding), (Some(46 << 2), NOW.0, &[0; 1000][..]));
        assert_eq!((said.rcvd, said.rtt, said.lost), (0, 0, false));
        assert_eq!(said.signature[..4], [0, 0, 0, 42]);

        let bytes = probe(&llama_python(), 42);
        let said = python::Probe::parse(&python::Packet::new_checked(&bytes[..]).unwrap());
        assert_eq!((said.tos, said.sent, said.rcvd, said.lost), (46 << 2, 1_700_000_000_123.456_8, 42.0, false));
    }

    #[test]
    fn every_size_is_met() {
        for size in 0..1500 {
            assert_eq!(probe(&method(MethodKind::Llama, size), 1).len(), usize::from(size).max(27));
            assert_eq!(probe(&method(MethodKind::LlamaPython, size), 1).len(), 36);
        }
    }

    #[test]
    fn a_short_buffer_gets_nothing() {
        for method in [llama(), llama_python()] {
            let mut buf = vec![0xa5; method.len() - 1];
            assert_eq!(method.write(Seq(1), NOW, &mut buf), 0);
            assert!(buf.iter().all(|&byte| byte == 0xa5));
        }
    }

    #[test]
    fn strays_are_refused() {
        // what other collectors send: random signatures, and none of our numbers in the Python generation's
        let mut bytes = probe(&llama(), 42);
        for at in 2..12 {
            bytes[at] ^= 0x10;
            assert_eq!(llama().read(&bytes), Err(Unreadable::Malformed), "octet {at}");
            bytes[at] ^= 0x10;
        }
        assert!(llama().read(&bytes).is_ok());
        for len in 0..bytes.len() {
            assert!(llama().read(&bytes[..len]).is_err() || len == 12 || len == 15 || len == 25, "{len}");
        }

        let ours = probe(&llama_python(), 42);
        for at in (0..10).chain(19..35) {
            let mut bytes = ours.clone();
            bytes[at] ^= 0x10;
            assert_eq!(llama_python().read(&bytes), Err(Unreadable::Malformed), "octet {at}");
        }
        for (rcvd, rtt) in [(0.0, 0.0), (-0.0, 0.0), (f64::NAN, f64::NAN), (1e300, 0.0), (-1.0, -1.0), (0.5, 1.5)] {
            let mut bytes = ours.clone();
            let mut packet = python::Packet::new_checked(&mut bytes[..]).unwrap();
            packet.set_rcvd(rcvd);
            packet.set_rtt(rtt);
            assert_eq!(llama_python().read(&bytes), Err(Unreadable::Malformed), "{rcvd} {rtt}");
        }
        assert_eq!(llama_python().read(&ours[..35]), Err(Unreadable::Malformed));
    }

    #[test]
    fn a_quote_is_enough_when_it_has_the_number() {
        for (method, least) in [(llama(), 12), (llama_python(), 36)] {
            let probe = probe(&method, 0x0102_0304);
            for len in 0..probe.len() {
                assert_eq!(method.read_quoted(&probe[..len]), (len >= least).then_some(Seq(0x0102_0304)), "{len}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for method in [llama(), llama_python()] {
                let _ = method.read(&bytes);
                let _ = method.read_quoted(&bytes);
            }
        }

        #[test]
        fn every_sequence_number_comes_back(seq: u32, size in 27u16..1500) {
            for method in [method(MethodKind::Llama, size), llama_python()] {
                let reply = method.read(&probe(&method, seq)).unwrap();
                prop_assert_eq!(reply, no_more(Seq(seq)));
            }
        }

        #[test]
        fn no_two_numbers_look_alike(one: u32, other: u32) {
            prop_assume!(one != other);
            prop_assert_ne!(signature(Seq(one)), signature(Seq(other)));
            prop_assert_ne!(exact_check(Seq(one)), exact_check(Seq(other)));
        }

        #[test]
        fn a_struct_that_was_taken_apart_on_the_way_is_read(seq: u32) {
            let bytes = probe(&llama_python(), seq);
            let said = python::Probe::parse(&python::Packet::new_checked(&bytes[..]).unwrap());
            let mut again = [0xa5; python::LEN];
            said.emit(&mut python::Packet::new_sized(&mut again[..]).unwrap());
            prop_assert_eq!(&again[..], &bytes[..]);
        }
    }
}
