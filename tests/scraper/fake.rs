//! Collectors that do what a test says: a small HTTP server for those of the first LLAMA and for bad ones, and the
//! shipped server with the shipped store of recent summaries for new ones.

use llama::http::api::summaries;
use llama::http::recent::{Limits, Recent};
use llama::http::server::{self, Server};
use llama::probe::shape::{Dscp, MethodKind};
use llama::sink::record::SummaryRecord;
use llama::summary::{Counts, Path, Statistics, Summary};
use llama::time::{StampSource, Wall};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What to answer to one request.
pub enum Answer {
    /// 200 with this body.
    Ok(Arc<[u8]>),
    /// This status line and further header lines, and a body.
    Status(&'static str, &'static str),
    /// These bytes and the end of the connection.
    Raw(Vec<u8>),
    /// Nothing until the client goes.
    Hang,
    /// A head, then a byte now and then until the client goes.
    Drip,
    /// A body of so many bytes without a length before it.
    Huge(u64),
}

/// 200 with this text.
pub fn ok(text: impl Into<String>) -> Answer {
    Answer::Ok(Arc::from(text.into().into_bytes()))
}

/// What the first LLAMA's server says to a question it does not know.
pub fn unknown() -> Answer {
    Answer::Status("404 Not Found", "404 page not found\n")
}

type Behaviour = Box<dyn Fn(&str) -> Answer + Send + Sync>;

/// A server of a test's own. Its threads end with the test's process.
pub struct Fake {
    pub address: SocketAddr,
    behaviour: Arc<Mutex<Arc<Behaviour>>>,
    questions: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Answers a question's path and query by `behaviour`, on a port of its own of `ip`.
    pub fn start(ip: IpAddr, behaviour: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind((ip, 0)).expect("port");
        let address = listener.local_addr().expect("address");
        let behaviour = Arc::new(Mutex::new(Arc::new(Box::new(behaviour) as Behaviour)));
        let questions = Arc::<Mutex<Vec<String>>>::default();
        let (of_server, seen) = (Arc::clone(&behaviour), Arc::clone(&questions));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behaviour, seen) = (Arc::clone(&of_server), Arc::clone(&seen));
                std::thread::spawn(move || serve(&stream, &behaviour, &seen));
            }
        });
        Fake { address, behaviour, questions }
    }

    /// Behaves like this from now on.
    pub fn behave(&self, behaviour: impl Fn(&str) -> Answer + Send + Sync + 'static) {
        *self.behaviour.lock().expect("lock") = Arc::new(Box::new(behaviour));
    }

    /// Answers as a collector of the first LLAMA whose latest interval is `body`.
    pub fn upstream(&self, body: &str) {
        let body: Arc<[u8]> = Arc::from(body.as_bytes());
        self.behave(move |question| match question {
            "/influxdata" => Answer::Ok(Arc::clone(&body)),
            _ => unknown(),
        });
    }

    /// How often `question` was asked so far.
    pub fn asked(&self, question: &str) -> usize {
        self.questions.lock().expect("lock").iter().filter(|asked| asked.starts_with(question)).count()
    }
}

/// Serves one connection, request after request.
fn serve(stream: &TcpStream, behaviour: &Mutex<Arc<Behaviour>>, seen: &Mutex<Vec<String>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|length| *length > 0)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
            if line.trim_end().is_empty() {
                break;
            }
        }
        let question = first.split(' ').nth(1)?.to_owned();
        seen.lock().expect("lock").push(question.clone());
        let behaviour = Arc::clone(&behaviour.lock().expect("lock"));
        let mut out = stream;
        match behaviour(&question) {
            Answer::Ok(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                out.write_all(head.as_bytes()).ok()?;
                out.write_all(&body).ok()?;
            }
            Answer::Status(head, body) => {
                write!(out, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
            }
            Answer::Raw(bytes) => {
                out.write_all(&bytes).ok()?;
                return None;
            }
            Answer::Hang => {
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                return None;
            }
            Answer::Drip => {
                out.write_all(b"HTTP/1.1 200 OK\r\n\r\n[").ok()?;
                loop {
                    std::thread::sleep(Duration::from_millis(20));
                    out.write_all(b" ").ok()?;
                }
            }
            Answer::Huge(bytes) => {
                out.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                let piece = vec![b' '; 1 << 16];
                for _ in 0..bytes.div_ceil(piece.len() as u64) {
                    out.write_all(&piece).ok()?;
                }
                return None;
            }
        }
    }
}

/// A new collector: the shipped server and store, at an address that stays over restarts.
pub struct Modern {
    pub address: SocketAddr,
    pub recent: Arc<Recent>,
    limits: Limits,
    server: Option<Server>,
}

impl Modern {
    /// Begins with nothing, on a port of its own of `ip`, and keeps `summaries` at most.
    pub fn start(ip: IpAddr, summaries: usize) -> Modern {
        let mut modern = Modern {
            address: SocketAddr::new(ip, 0),
            recent: Arc::new(Recent::new(Limits::default())),
            limits: Limits { summaries, ..Limits::default() },
            server: None,
        };
        modern.restart();
        modern
    }

    /// Begins anew at the same address, as after a restart.
    pub fn restart(&mut self) {
        self.stop();
        self.recent = Arc::new(Recent::new(self.limits));
        self.resume();
    }

    /// Does not answer until [`Modern::resume`]; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    /// Answers again.
    pub fn resume(&mut self) {
        let router = summaries::router(Arc::clone(&self.recent));
        let server = Server::start(self.address, router, server::Limits::default(), "test").expect("server");
        self.address = server.address();
        self.server = Some(server);
    }
}

/// An instant of whole seconds: the end of interval 0.
pub const T0: u64 = 1_709_209_800_000_000_000;

/// The summary of interval `interval` (30 s each) of path number `path` of a collector with this address.
pub fn summary(collector: IpAddr, path: u32, interval: u32) -> Summary {
    let end = T0 + u64::from(interval) * 30_000_000_000;
    summary_ending(collector, path, interval, Wall(end))
}

/// The same with an end of its own.
pub fn summary_ending(collector: IpAddr, path: u32, interval: u32, end: Wall) -> Summary {
    let ns = |n: u32| i64::from(n) * 1000 + i64::from(path);
    let tags = [("dst_cluster", format!("cluster{}", path % 7)), ("dst_metro", "fra".to_owned())];
    Summary {
        path: Arc::new(Path {
            src: collector,
            dst: IpAddr::from((0x0a00_0000 + path).to_be_bytes()),
            method: MethodKind::Udp,
            dscp: Dscp(46),
            size: None,
            group: "far".into(),
            tags: Arc::new(tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        }),
        interval,
        start: Wall(end.0 - 30_000_000_000),
        end,
        counts: Counts { sent: 480, replied: 478, lost: 2, ..Counts::default() },
        rtt: Some(Statistics {
            samples: 478,
            mean: f64::from(path) + 1000.0,
            min: ns(10),
            p50: ns(20),
            p90: ns(30),
            p99: ns(40),
            p999: ns(50),
            max: ns(60),
        }),
        ipdv: None,
        owd_forward: None,
        owd_reverse: None,
        residence: None,
        rtt_histogram: vec![(20, 400), (40, 78)],
        sent_by: Some(StampSource::Kernel),
        received_by: Some(StampSource::Kernel),
        lateness: None,
        reporter: None,
        seen: Default::default(),
        local_drops: 0,
        flows: 16,
        flows_with_loss: 1,
        worst_flows: vec![],
        suspect: vec![],
    }
}

/// A page of summaries as a new collector writes it.
pub fn page(instance: &str, numbered: &[(u64, Summary)]) -> Arc<[u8]> {
    let objects: Vec<String> = (numbered.iter())
        .map(|(sequence, summary)| {
            let record = serde_json::to_string(&SummaryRecord::from(summary)).expect("JSON");
            format!("{{\"sequence\":{sequence},{}", &record[1..])
        })
        .collect();
    let (first, last) = (numbered.first().map_or(0, |n| n.0), numbered.last().map_or(0, |n| n.0));
    let text = format!(
        "{{\"instance\":\"{instance}\",\"first\":{first},\"newest\":{last},\"next\":{last},\"lost\":0,\"summaries\":[{}]}}",
        objects.join(",")
    );
    Arc::from(text.into_bytes())
}

/// One interval of a collector of the Go generation: `paths` points, told apart by `rtt`.
pub fn influxdata(collector: IpAddr, paths: u32, rtt: f64) -> String {
    let object = |path: u32| {
        let dst = IpAddr::from((0x0a00_0000 + path).to_be_bytes());
        format!(
            "{{\"fields\":{{\"loss\":0.416667,\"lost\":2.000000,\"rtt\":{rtt:.6},\"sent\":480.000000}},\
             \"tags\":{{\"dst_ip\":\"{dst}\",\"dst_metro\":\"fra\",\"src_ip\":\"{collector}\"}},\
             \"time\":\"0001-01-01T00:00:00Z\",\"measurement\":\"raw_stats\"}}"
        )
    };
    format!("[{}]", (0..paths).map(object).collect::<Vec<_>>().join(","))
}
