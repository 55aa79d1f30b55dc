//! The TLVs of a probe and of its reply: RFC 8972 §4.
//!
//! Two passes over the same bytes: [`examine`] before the reply is decided on, [`answer`] while it is written.

use crate::wire::stamp::tlv::{self, ClassOfService, Kind, flag};
use crate::wire::stamp::{Mode, Signer, digest};

/// What a probe's TLVs say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The DSCP wanted on the reply, when asked for and to be believed.
    pub wanted_dscp: Option<u8>,
    /// The TLVs' HMAC could not be verified; nothing in them is used.
    pub unauthentic: bool,
    /// The last TLV is malformed.
    pub malformed: bool,
}

/// What the reply reports in a Class of Service TLV.
#[derive(Clone, Copy, Debug)]
pub struct SeenClass {
    /// The traffic-class byte the probe arrived with.
    pub traffic_class: u8,
    /// The policy refuses the DSCP asked for.
    pub refused: bool,
}

/// Looks at the TLVs in a probe's tail; `seq` is the probe's sequence number.
///
/// The HMAC TLV covers the sequence number and the TLVs before it, only padding may follow it, and nothing may be
/// used before it is verified; in authenticated mode it must be there unless all TLVs are padding
/// (RFC 8972 §4.8). Without a key it cannot be verified, which is a failure too. A malformed TLV ends
/// processing; what came before stands, except when that leaves it unprotected.
pub fn examine(tail: &[u8], seq: u32, mode: Mode, signer: Option<&Signer>) -> Extensions {
    let mut extensions = Extensions::default();
    let mut needs_hmac = false;
    let mut hmac_seen = false;
    let mut verified = true;
    for found in tlv::walk(tail) {
        extensions.malformed |= found.malformed;
        if found.kind == Kind::Hmac {
            verified &= !hmac_seen && !found.malformed && is_authentic(tail, found, seq, signer);
            hmac_seen = true;
        } else if found.kind != Kind::ExtraPadding {
            needs_hmac = true;
            verified &= !hmac_seen; // only padding may follow
        }
        if found.kind == Kind::ClassOfService && extensions.wanted_dscp.is_none() && !found.malformed {
            extensions.wanted_dscp = ClassOfService::parse(found.value).map(|class| class.wanted_dscp);
        }
    }
    let missing = mode == Mode::Authenticated && needs_hmac && !hmac_seen;
    extensions.unauthentic = missing || !verified;
    if extensions.unauthentic {
        extensions.wanted_dscp = None;
    }
    extensions
}

fn is_authentic(tail: &[u8], found: tlv::Tlv<'_>, seq: u32, signer: Option<&Signer>) -> bool {
    match (signer, <&[u8; digest::LEN]>::try_from(found.value)) {
        (Some(signer), Ok(digest)) => signer.verify(&[&seq.to_be_bytes(), &tail[..found.at]], digest),
        _ => false,
    }
}

/// Turns `out`, a copy of the probe's `tail`, into the reply's; `seq` is the reply's sequence number.
///
/// Only flags octets, Class of Service values and HMAC values change; the rest, malformed or padding, stays as it came.
pub fn answer(
    tail: &[u8],
    out: &mut [u8],
    seq: u32,
    extensions: &Extensions,
    seen: SeenClass,
    signer: Option<&Signer>,
) {
    for found in tlv::walk(tail) {
        let Some((before, rest)) = out.split_at_mut_checked(found.at) else { return };
        let Some((header, rest)) = rest.split_first_chunk_mut::<{ tlv::HEADER_LEN }>() else { return };
        header[0] = reply_flags(&found, extensions);
        if extensions.unauthentic || found.malformed {
            continue;
        }
        match found.kind {
            Kind::ClassOfService => {
                if let (Some(asked), Some(value)) =
                    (ClassOfService::parse(found.value), rest.first_chunk_mut::<{ ClassOfService::LEN }>())
                {
                    *value = ClassOfService {
                        wanted_dscp: asked.wanted_dscp,
                        received_dscp: seen.traffic_class >> 2,
                        received_ecn: seen.traffic_class & 0x03,
                        reverse_path: u8::from(seen.refused),
                    }
                    .emit();
                }
            }
            Kind::Hmac => {
                if let (Some(signer), Some(value)) = (signer, rest.first_chunk_mut::<{ digest::LEN }>()) {
                    *value = signer.sign(&[&seq.to_be_bytes(), before]);
                }
            }
            _ => {}
        }
    }
}

fn reply_flags(found: &tlv::Tlv<'_>, extensions: &Extensions) -> u8 {
    let mut flags = 0;
    if !found.kind.is_understood() {
        flags |= flag::UNRECOGNISED;
    }
    if found.malformed {
        flags |= flag::MALFORMED;
    }
    if extensions.unauthentic {
        flags |= flag::INTEGRITY;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: SeenClass = SeenClass { traffic_class: 0x29, refused: false }; // AF11 with ECN 1
    const COS: [u8; 8] = [0x80, 4, 0, 4, 0xb8, 0, 0, 0];
    const COS_REPLY: [u8; 8] = [0, 4, 0, 4, 0xb8, 0xa4, 0, 0];
    const UNKNOWN: [u8; 5] = [0x80, 0xf0, 0, 1, 0x77];
    const PADDING: [u8; 6] = [0x80, 1, 0, 2, 0xaa, 0xbb];
    const SEQ: u32 = 42;

    fn signer() -> Signer {
        Signer::new(b"secret")
    }

    fn with_hmac(before: &[u8], flags: u8, seq: u32) -> Vec<u8> {
        let digest = signer().sign(&[&seq.to_be_bytes(), before]);
        [before, &[flags, 8, 0, 16], &digest].concat()
    }

    fn reply(tail: &[u8], mode: Mode, signer: Option<&Signer>) -> (Extensions, Vec<u8>) {
        let extensions = examine(tail, SEQ, mode, signer);
        let mut out = tail.to_vec();
        answer(tail, &mut out, SEQ + 1, &extensions, SEEN, signer);
        (extensions, out)
    }

    #[test]
    fn class_of_service_is_answered_and_the_unknown_flagged() {
        let tail = [&COS[..], &UNKNOWN, &PADDING].concat();
        let (extensions, out) = reply(&tail, Mode::Open, None);
        assert_eq!(extensions, Extensions { wanted_dscp: Some(46), ..Extensions::default() });
        assert_eq!(out, [&COS_REPLY[..], &UNKNOWN, &[0, 1, 0, 2, 0xaa, 0xbb]].concat());
    }

    #[test]
    fn a_refused_dscp_is_told() {
        let extensions = examine(&COS, SEQ, Mode::Open, None);
        let mut out = COS;
        answer(&COS, &mut out, SEQ, &extensions, SeenClass { refused: true, ..SEEN }, None);
        assert_eq!(ClassOfService::parse(&out[4..]).unwrap().reverse_path, 1);
    }

    #[test]
    fn flags_a_sender_set_do_not_come_back() {
        let (_, out) = reply(&[0xff, 1, 0, 0], Mode::Open, None);
        assert_eq!(out, [0, 1, 0, 0]);
    }

    #[test]
    fn the_hmac_of_a_reply_covers_the_reply() {
        let tail = [&with_hmac(&COS, 0x80, SEQ)[..], &PADDING].concat();
        let (extensions, out) = reply(&tail, Mode::Authenticated, Some(&signer()));
        assert_eq!(extensions, Extensions { wanted_dscp: Some(46), ..Extensions::default() });
        assert_eq!(out[..28], with_hmac(&COS_REPLY, 0, SEQ + 1));
        assert_eq!(out[28..], [0, 1, 0, 2, 0xaa, 0xbb]);
    }

    #[test]
    fn what_the_hmac_does_not_prove_is_flagged_and_not_used() {
        let good = with_hmac(&COS, 0x80, SEQ);
        let mut forged = good.clone();
        forged[4] ^= 4;
        let twice = with_hmac(&good, 0x80, SEQ);
        let cut = [&COS[..], &[0x80, 8, 0, 15], &[0; 15]].concat();
        let key = signer();
        let cases: [(&str, Vec<u8>, Mode, Option<&Signer>); 8] = [
            ("forged", forged, Mode::Authenticated, Some(&key)),
            ("of another packet", with_hmac(&COS, 0x80, SEQ + 1), Mode::Authenticated, Some(&key)),
            ("not the last", [&good[..], &COS].concat(), Mode::Authenticated, Some(&key)),
            ("twice", twice, Mode::Authenticated, Some(&key)),
            ("missing", COS.to_vec(), Mode::Authenticated, Some(&key)),
            ("missing behind padding", [&PADDING[..], &UNKNOWN].concat(), Mode::Authenticated, Some(&key)),
            ("of the wrong length", cut, Mode::Authenticated, Some(&key)),
            ("no key to verify it", good, Mode::Open, None),
        ];
        for (case, tail, mode, signer) in cases {
            let (extensions, out) = reply(&tail, mode, signer);
            assert!(extensions.unauthentic, "{case}");
            assert_eq!(extensions.wanted_dscp, None, "{case}");
            for (asked, answered) in tlv::walk(&tail).zip(tlv::walk(&out)) {
                assert_eq!(answered.flags & flag::INTEGRITY, flag::INTEGRITY, "{case}");
                assert_eq!(asked.value, answered.value, "{case}");
            }
        }
    }

    #[test]
    fn padding_alone_needs_no_hmac() {
        let tail = [PADDING, PADDING].concat();
        let (extensions, out) = reply(&tail, Mode::Authenticated, Some(&signer()));
        assert_eq!(extensions, Extensions::default());
        assert_eq!(out, [[0, 1, 0, 2, 0xaa, 0xbb]; 2].concat());
    }

    #[test]
    fn a_malformed_tlv_is_flagged_and_the_remainder_copied() {
        let tail = [&COS[..], &[0x80, 3, 0xff, 0xff, 1, 2, 3]].concat();
        let (extensions, out) = reply(&tail, Mode::Open, None);
        assert_eq!(extensions, Extensions { wanted_dscp: Some(46), malformed: true, unauthentic: false });
        assert_eq!(out, [&COS_REPLY[..], &[0xc0, 3, 0xff, 0xff, 1, 2, 3]].concat());
    }

    #[test]
    fn padding_that_is_no_tlv_comes_back_as_it_was() {
        for tail in [&[0; 40][..], &[0x80, 1, 0], &[0xff; 2]] {
            assert_eq!(reply(tail, Mode::Open, None).1, tail);
        }
    }
}
