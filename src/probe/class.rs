//! Whether a class of service arrived as it was sent: DSCP and ECN, way by way.
//!
//! Responsible for what may be concluded from what a reflector reports and from the reply's own header. Not
//! responsible for either's bytes. Read [`judge`], then [`judge_quoted`].
//!
//! A header alone says that something changed, not where: most far ends send back the class that reached them. Only
//! a reflector that says what it received, or one that was asked for a class and has nothing else to go by, tells
//! the two ways apart. What a TCP stack puts into its answers is its own affair and proves nothing.

use crate::probe::shape::Dscp;

/// ECN: congestion experienced (RFC 3168 §5).
const CONGESTION: u8 = 0b11;

/// With which class the far end sent a reply, as far as one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentBack {
    /// With one of its own choice: a TCP stack.
    AsItPleased,
    /// With the byte that reached it, ECN included: an ICMP echo (RFC 1349 §5.1; Linux does it).
    Copied,
    /// With the DSCP that reached it: a STAMP reflector that was not asked.
    Mirrored,
    /// With the DSCP that the probe's bytes ask for: reflectors of the older LLAMA.
    AsAsked,
    /// As a Class of Service TLV says (RFC 8972 §4.4).
    Reported {
        /// The traffic-class byte that reached the reflector.
        received: u8,
        /// The reply left with the DSCP asked for; else with the one that reached the reflector.
        honoured: bool,
    },
}

/// What was changed on the way of one probe and its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassChange {
    /// The DSCP that reached the reflector, where it is not the one sent.
    pub forward: Option<Dscp>,
    /// The DSCP the reply came with, where it is not the one it left with.
    pub reverse: Option<Dscp>,
    /// The DSCP the reply came with, where it is not the probe's and either way, or the far end, may have changed it.
    pub either: Option<Dscp>,
    /// The probe was marked as having met congestion.
    pub marked_forward: bool,
    /// The reply was.
    pub marked_reverse: bool,
}

/// What is wrong with the class of a probe sent with `asked` (and ECN 0) whose reply came with the byte `returned`;
/// `None` when nothing is, or nothing can be told.
#[inline]
pub fn judge(asked: Dscp, sent_back: SentBack, returned: u8) -> Option<ClassChange> {
    let other = |byte: u8, than: Dscp| (Dscp(byte >> 2) != than).then_some(Dscp(byte >> 2));
    let marked = |byte: u8| byte & CONGESTION == CONGESTION;
    let none = ClassChange::default();
    let change = match sent_back {
        SentBack::AsItPleased => none,
        SentBack::Copied => ClassChange { either: other(returned, asked), ..none },
        SentBack::Mirrored => ClassChange { either: other(returned, asked), marked_reverse: marked(returned), ..none },
        SentBack::AsAsked => ClassChange { reverse: other(returned, asked), marked_reverse: marked(returned), ..none },
        SentBack::Reported { received, honoured } => ClassChange {
            forward: other(received, asked),
            reverse: other(returned, if honoured { asked } else { Dscp(received >> 2) }),
            marked_forward: marked(received),
            marked_reverse: marked(returned),
            ..none
        },
    };
    (change != none).then_some(change)
}

/// What is wrong with the class of a probe sent with `asked` (and ECN 0) that an ICMP error quotes with the byte
/// `quoted`: the node that sent the error saw it so, and only the way there lies before it.
pub fn judge_quoted(asked: Dscp, quoted: u8) -> Option<ClassChange> {
    let forward = (Dscp(quoted >> 2) != asked).then_some(Dscp(quoted >> 2));
    let marked_forward = quoted & CONGESTION == CONGESTION;
    (forward.is_some() || marked_forward).then_some(ClassChange { forward, marked_forward, ..ClassChange::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EF: Dscp = Dscp(46);
    const EF_BYTE: u8 = 46 << 2;
    const NONE: ClassChange =
        ClassChange { forward: None, reverse: None, either: None, marked_forward: false, marked_reverse: false };

    fn reported(received: u8, honoured: bool, returned: u8) -> Option<ClassChange> {
        judge(EF, SentBack::Reported { received, honoured }, returned)
    }

    #[test]
    fn a_report_tells_the_ways_apart() {
        assert_eq!(reported(EF_BYTE, true, EF_BYTE), None);
        assert_eq!(reported(0, true, EF_BYTE), Some(ClassChange { forward: Some(Dscp(0)), ..NONE }));
        assert_eq!(reported(EF_BYTE, true, 0x28), Some(ClassChange { reverse: Some(Dscp(10)), ..NONE }));
        let both = ClassChange { forward: Some(Dscp(8)), reverse: Some(Dscp(0)), ..NONE };
        assert_eq!(reported(8 << 2, true, 0), Some(both));
    }

    #[test]
    fn a_reflector_that_may_not_answer_in_the_class_is_no_fault_of_the_way_back() {
        assert_eq!(reported(8 << 2, false, 8 << 2), Some(ClassChange { forward: Some(Dscp(8)), ..NONE }));
        assert_eq!(reported(EF_BYTE, false, 0), Some(ClassChange { reverse: Some(Dscp(0)), ..NONE }));
    }

    #[test]
    fn a_header_alone_names_no_way_it_does_not_know() {
        for sent_back in [SentBack::Mirrored, SentBack::Copied] {
            assert_eq!(judge(EF, sent_back, 0), Some(ClassChange { either: Some(Dscp(0)), ..NONE }));
            assert_eq!(judge(EF, sent_back, EF_BYTE), None);
        }
        assert_eq!(judge(EF, SentBack::AsAsked, 0), Some(ClassChange { reverse: Some(Dscp(0)), ..NONE }));
        assert_eq!(judge(EF, SentBack::AsItPleased, 0), None);
    }

    #[test]
    fn congestion_is_the_mark_of_both_bits() {
        for ecn in 0..=2 {
            assert_eq!(reported(EF_BYTE | ecn, true, EF_BYTE | ecn), None);
        }
        let marked = |forward, reverse| Some(ClassChange { marked_forward: forward, marked_reverse: reverse, ..NONE });
        assert_eq!(reported(EF_BYTE | 3, true, EF_BYTE), marked(true, false));
        assert_eq!(reported(EF_BYTE, true, EF_BYTE | 3), marked(false, true));
        assert_eq!(judge(EF, SentBack::Mirrored, EF_BYTE | 3), marked(false, true));
        assert_eq!(judge(EF, SentBack::Copied, EF_BYTE | 3), None, "of which way it would be");
    }

    #[test]
    fn a_quote_tells_of_the_way_there() {
        assert_eq!(judge_quoted(EF, EF_BYTE), None);
        assert_eq!(judge_quoted(EF, EF_BYTE | 1), None);
        assert_eq!(judge_quoted(EF, 0), Some(ClassChange { forward: Some(Dscp(0)), ..NONE }));
        assert_eq!(judge_quoted(EF, EF_BYTE | 3), Some(ClassChange { marked_forward: true, ..NONE }));
        let both = ClassChange { forward: Some(Dscp(8)), marked_forward: true, ..NONE };
        assert_eq!(judge_quoted(Dscp(0), 8 << 2 | 3), Some(both));
    }

    proptest! {
        #[test]
        fn what_arrives_as_sent_is_never_a_change(dscp in 0u8..64) {
            let byte = dscp << 2;
            for sent_back in [
                SentBack::AsItPleased, SentBack::Copied, SentBack::Mirrored, SentBack::AsAsked,
                SentBack::Reported { received: byte, honoured: true },
                SentBack::Reported { received: byte, honoured: false },
            ] {
                prop_assert_eq!(judge(Dscp(dscp), sent_back, byte), None);
            }
            prop_assert_eq!(judge_quoted(Dscp(dscp), byte), None);
        }
    }
}
