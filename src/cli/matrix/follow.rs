//! Following an API's events: word that a new interval can be asked for.
//!
//! A thread reads server-sent events, connects again when the stream ends, slower each time it fails. Not responsible for
//! asking. Read [`Follower`].

use super::client::Client;
use serde::Deserialize;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest time for one stream; then the next begins, with the newest at once. A peer that is gone without a word is
/// noticed that way.
const STREAM: Duration = Duration::from_secs(75);
/// Longest line of a stream.
const LINE: u64 = 64 << 10;
/// Pause before the first attempt to connect again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the thread has heard.
#[derive(Debug, Default)]
struct Heard {
    newest: Mutex<Option<String>>,
    connected: AtomicBool,
}

/// A stream of events that is being followed. Its thread ends with the process.
#[derive(Clone, Debug)]
pub struct Follower(Arc<Heard>);

#[derive(Deserialize)]
struct Event {
    newest: Option<String>,
}

impl Follower {
    /// Follows the events of a server.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(client: Client) -> io::Result<Follower> {
        let heard = Arc::<Heard>::default();
        let of_thread = Arc::clone(&heard);
        std::thread::Builder::new().name("events".into()).spawn(move || follow(&client, &of_thread))?;
        Ok(Follower(heard))
    }

    /// Whether events arrive. While they do not, whoever wants to know has to ask.
    pub fn connected(&self) -> bool {
        self.0.connected.load(Ordering::Relaxed)
    }

    /// The end of the newest interval, when something was heard since the last call.
    pub fn newest(&self) -> Option<String> {
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn follow(client: &Client, heard: &Heard) {
    let mut pause = PAUSES.0;
    loop {
        let mut events = 0u64;
        if let Ok(stream) = client.stream("/api/v1/events", STREAM) {
            heard.connected.store(true, Ordering::Relaxed);
            // how it ended makes no difference: the next one begins
            let _ = listen(BufReader::new(stream), |newest| {
                events += 1;
                *heard.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
            });
            heard.connected.store(false, Ordering::Relaxed);
        }
        pause = if events > 0 { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        std::thread::sleep(pause);
    }
}

/// Reads events (HTML Living Standard §9.2.6) to the end of the stream.
fn listen(mut stream: impl BufRead, mut newer: impl FnMut(String)) -> io::Result<()> {
    let (mut line, mut data) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let length = stream.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        if length == 0 || !line.ends_with(b"\n") {
            return Ok(()); // its end, or a line that is too long
        }
        let text = line.trim_ascii_end();
        if text.is_empty() {
            if let Ok(Event { newest: Some(newest) }) = serde_json::from_slice(&data) {
                newer(newest);
            }
            data.clear();
        } else if let Some(rest) = text.strip_prefix(b"data:") {
            data.extend_from_slice(rest);
            data.truncate(LINE as usize); // cut off it is no JSON
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(stream: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        listen(stream, |newest| all.push(newest)).unwrap();
        all
    }

    #[test]
    fn events_are_heard() {
        let stream = b"retry: 2000\n\nevent: interval\ndata: {\"newest\":\"A\",\"interval_s\":10.0}\n\n: still here\n\n\
                       event: interval\r\ndata:{\"newest\":\"B\"}\r\n\r\ndata: {\"newest\":null}\n\ndata: x\n\ndata: {\"newest\":\"cut";
        assert_eq!(heard(stream), ["A", "B"]);
    }

    #[test]
    fn an_endless_line_ends_the_stream() {
        let mut endless = BufReader::new(io::repeat(b'x'));
        listen(&mut endless, |_| {}).unwrap();
    }
}
