//! `llama ping --samples`: every round trip as a line of CSV, times in nanoseconds, empty when not known.

use crate::probe::outcome::Singleton;
use crate::time::Delay;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

/// Names of the columns.
const HEAD: &str = "source,rtt_ns,residence_ns,owd_forward_ns,owd_reverse_ns,ipdv_ns,sent_by,received_by";

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

    /// Writes a round trip of the flow from `source`.
    ///
    /// # Errors
    /// As `out`.
    pub fn write(&mut self, source: SocketAddr, one: &Singleton) -> io::Result<()> {
        let known = |delay: Option<Delay>| delay.map_or(String::new(), |delay| delay.0.to_string());
        let (forward, reverse, ipdv) = (known(one.owd_forward), known(one.owd_reverse), known(one.ipdv));
        let (rtt, residence) = (one.rtt.0, one.residence.0);
        writeln!(self.0, "{source},{rtt},{residence},{forward},{reverse},{ipdv},{},{}", one.sent_by, one.received_by)
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
    use crate::time::StampSource;

    #[test]
    fn unknown_is_empty_and_negative_stays() {
        let mut out = Vec::new();
        let mut samples = Samples::new(&mut out).unwrap();
        let one = Singleton {
            rtt: Delay(21_300),
            residence: Delay(400),
            owd_forward: Some(Delay(-5)),
            owd_reverse: None,
            ipdv: None,
            sent_by: StampSource::Kernel,
            received_by: StampSource::User,
        };
        samples.write(([10, 0, 0, 1], 40_001).into(), &one).unwrap();
        samples.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().next(), Some(HEAD));
        assert_eq!(text.lines().nth(1), Some("10.0.0.1:40001,21300,400,-5,,,kernel,user"));
        assert_eq!(HEAD.split(',').count(), 8);
    }
}
