//! An HTTP client that sends any bytes and reads what comes back to its end.

use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The remedy of a refusal with this status, which has to be JSON with the usual headers.
    pub fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        let object = self.json();
        assert!(object["error"].as_str().is_some_and(|error| !error.is_empty()), "{self:?}");
        object["remedy"].as_str().unwrap().to_owned()
    }

    /// The first answer in some bytes and how many it takes; `None` when it is not whole. What has neither
    /// length nor chunks goes to the end.
    pub fn first(bytes: &[u8], of_head: bool) -> Option<(Answer, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let rest = &bytes[end..];
        let used = if of_head {
            0
        } else if answer.header("transfer-encoding") == Some("chunked") {
            let (body, used) = unchunked(rest)?;
            answer.body = body;
            used
        } else {
            let length = answer.header("content-length").map_or(rest.len(), |length| length.parse().unwrap());
            answer.body = rest.get(..length)?.to_vec();
            length
        };
        Some((answer, end + used))
    }

    /// All answers in some bytes, which must hold nothing else.
    pub fn all(bytes: &[u8]) -> Vec<Answer> {
        let (mut answers, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let whole = Answer::first(&bytes[at..], false);
            let (answer, used) = whole.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&bytes[at..])));
            answers.push(answer);
            at += used;
        }
        answers
    }
}

fn unchunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line]).unwrap(), 16).unwrap();
        at += line + 2;
        body.extend_from_slice(bytes.get(at..at + length)?);
        at += length + 2;
        if length == 0 {
            return (bytes.len() >= at).then_some((body, at));
        }
    }
}

/// A connection with [`PATIENCE`] for each read and write.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes until the other end closes.
pub fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        // closed with bytes of ours unread
        Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&bytes)),
    }
}

/// Sends bytes as they are and gives what comes back until the other end closes.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // an answer may come, and the connection end, before all is sent
    let _ = stream.write_all(bytes);
    to_end(&mut stream)
}

/// One request with these header lines (each ended by CRLF) and its answer.
pub fn request(address: SocketAddr, line: &str, headers: &str) -> Answer {
    let text = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    let bytes = exchange(address, text.as_bytes());
    let of_head = line.starts_with("HEAD ");
    Answer::first(&bytes, of_head).unwrap_or_else(|| panic!("{line}: {}", String::from_utf8_lossy(&bytes))).0
}

/// `GET path`.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path}"), "")
}

/// `GET path`, which has to be answered with JSON.
pub fn json(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// Sends, ends sending, and gives what comes back.
pub fn half_open(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    to_end(&mut stream)
}

/// Waits until `what` gives something.
pub fn wait_for<T>(whatever: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < deadline, "{whatever} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
