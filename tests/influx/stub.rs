//! A small HTTP server that answers what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    /// Method, path and query.
    pub line: String,
    /// `name: value`, names in small letters.
    pub headers: Vec<String>,
    /// Unpacked.
    pub body: String,
}

impl Request {
    pub fn lines(&self) -> usize {
        self.body.lines().count()
    }
}

/// What to answer.
pub enum Answer {
    /// Status line and headers without the end of the head, then the body.
    Say(&'static str, &'static str),
    /// Nothing, until the client gives up.
    Hang,
}

pub const STORED: Answer = Answer::Say("204 No Content", "");

pub struct Stub {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    /// Answers the request number n (from 0) with `answer(n, request)`, one request per connection.
    /// Its threads end with the test's process.
    pub fn start(answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("address").to_string();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let n = {
                        let mut seen = seen.lock().expect("lock");
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    reply(stream, answer(n, &request));
                });
            }
        });
        Stub { address, requests }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("lock").clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_string()),
        }
    }
    let at = Instant::now();
    let headers: Vec<String> = head[1..]
        .iter()
        .map(|h| h.split_once(':').map(|(n, v)| format!("{}:{v}", n.to_lowercase())).expect("header"))
        .collect();
    let value = |name: &str| headers.iter().find_map(|h| h.strip_prefix(name)).map(str::trim);
    let length = value("content-length:").expect("content-length").parse().expect("number");
    assert_eq!(value("content-encoding:"), Some("gzip"));
    let mut packed = vec![0; length];
    reader.read_exact(&mut packed).ok()?;
    let mut body = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut body).expect("gzip of text");
    Some(Request { at, line: head[0].clone(), headers, body })
}

fn reply(mut stream: TcpStream, answer: Answer) {
    match answer {
        Answer::Say(head, body) => {
            let length = body.len();
            // the client may have gone meanwhile
            let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        }
        Answer::Hang => {
            let _ = stream.read(&mut [0]);
        }
    }
}
