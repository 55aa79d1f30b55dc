//! A block of lines that is redrawn in place on a terminal, and appended elsewhere.

use super::logging;
use std::io::{self, IsTerminal, Stdout, Write};

/// Where a live view is drawn.
#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    in_place: bool,
    colour: bool,
    height: usize,
    log_writes: u64,
}

impl Screen<Stdout> {
    /// Standard output: in place when it is a terminal, in colour unless `NO_COLOR` says otherwise.
    pub fn stdout() -> Screen<Stdout> {
        let out = io::stdout();
        let in_place = out.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let colour = anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never;
        Screen::new(out, in_place, colour)
    }
}

impl<W: Write> Screen<W> {
    /// Draws on `out`; over the last frame when `in_place`, with styles when `colour`.
    pub fn new(out: W, in_place: bool, colour: bool) -> Screen<W> {
        Screen { out, in_place, colour, height: 0, log_writes: logging::writes() }
    }

    /// Whether frames are drawn over each other.
    pub fn in_place(&self) -> bool {
        self.in_place
    }

    /// Draws a frame: lines that fit the width, each ending in a newline.
    ///
    /// # Errors
    /// The output is closed.
    pub fn draw(&mut self, frame: &str) -> io::Result<()> {
        let mut text = String::with_capacity(frame.len() + 16);
        let log_writes = logging::writes();
        // a log line below the last frame has moved the cursor: leave that frame and start below
        if self.in_place && self.height > 0 && log_writes == self.log_writes {
            // up to the first line, then erase to the end (ECMA-48: CPL, ED)
            text.push_str(&format!("\x1b[{}F\x1b[J", self.height));
        }
        // not anstream's stream: without colour it would take the cursor movement out as well
        if self.colour {
            text.push_str(frame);
        } else {
            text.push_str(&anstream::adapter::strip_str(frame).to_string());
        }
        self.log_writes = log_writes;
        self.height = frame.lines().count();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(in_place: bool, colour: bool) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, in_place, colour);
        screen.draw("a\n\x1b[31mb\x1b[0m\n").unwrap();
        screen.draw("c\n").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn frames_replace_each_other_only_in_place() {
        assert_eq!(drawn(true, true), "a\n\x1b[31mb\x1b[0m\n\x1b[2F\x1b[Jc\n");
        assert_eq!(drawn(false, true), "a\n\x1b[31mb\x1b[0m\nc\n");
    }

    #[test]
    fn without_colour_the_cursor_still_moves() {
        assert_eq!(drawn(true, false), "a\nb\n\x1b[2F\x1b[Jc\n");
    }
}
