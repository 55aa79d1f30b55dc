//! `llama ping --samples`: every round trip as a line of CSV, times in nanoseconds, empty when not known.

use crate::probe::outcome::Singleton;
use crate::time::Wall;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Names of the columns: T1 and T4 are ours, T2 and T3 the reflector's, in ns since 1970; the stamps' places last.
const HEAD: &str = "seq,source_port,t1_ns,t2_ns,t3_ns,t4_ns,rtt_ns,sent_by,received_by";

/// A file of round trips.
#[derive(Debug)]
pub struct Samples<W: Write>(W);

impl Samples<BufWriter<File>> {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> io::Result<Samples<BufWriter<File>>> {
        Samples::new(BufWriter::new(File::create(path)?))
    }
}

impl<W: Write> Samples<W> {
    /// Writes to `out`, the names of the columns first.
    ///
    /// # Errors
    /// As `out`.
    pub fn new(mut out: W) -> io::Result<Samples<W>> {
        writeln!(out, "{HEAD}")?;
        Ok(Samples(out))
    }

    /// Writes a round trip of the flow from `source_port`.
    ///
    /// # Errors
    /// As `out`.
    pub fn write(&mut self, source_port: u16, one: &Singleton) -> io::Result<()> {
        let known = |instant: Option<Wall>| instant.map_or(String::new(), |wall| wall.0.to_string());
        let received = one.owd_forward.map(|delay| one.sent.plus(delay));
        let t3 = received.map(|t2| t2.plus(one.residence));
        let t4 = one.sent.plus(one.rtt).plus(one.residence);
        let (seq, t1, t2, t3, t4, rtt) = (one.seq.0, one.sent.0, known(received), known(t3), t4.0, one.rtt.0);
        writeln!(self.0, "{seq},{source_port},{t1},{t2},{t3},{t4},{rtt},{},{}", one.sent_by, one.received_by)
    }

    /// Hands everything to the file.
    ///
    /// # Errors
    /// As `out`.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Seq;
    use crate::time::{Delay, StampSource};

    fn one() -> Singleton {
        Singleton {
            seq: Seq(7),
            sent: Wall(1_000_000),
            rtt: Delay(21_300),
            residence: Delay(400),
            owd_forward: Some(Delay(-5)),
            owd_reverse: Some(Delay(21_305)),
            ipdv: None,
            sent_by: StampSource::Kernel,
            received_by: StampSource::User,
        }
    }

    fn lines(singletons: &[Singleton]) -> Vec<String> {
        let mut out = Vec::new();
        let mut samples = Samples::new(&mut out).unwrap();
        singletons.iter().for_each(|one| samples.write(40_001, one).unwrap());
        samples.finish().unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_string).collect()
    }

    #[test]
    fn the_four_instants_give_the_round_trip_back() {
        let blind = Singleton { owd_forward: None, owd_reverse: None, residence: Delay(0), ..one() };
        assert_eq!(
            lines(&[one(), blind]),
            [
                HEAD,
                "7,40001,1000000,999995,1000395,1021700,21300,kernel,user",
                "7,40001,1000000,,,1021300,21300,kernel,user"
            ]
        );
        // (T4 − T1) − (T3 − T2)
        assert_eq!((1_021_700 - 1_000_000) - (1_000_395 - 999_995), 21_300);
    }
}
