//! Servers that are away, slow, strict, or no InfluxDB.

use super::*;
use llama::matrix::SourceError;
use llama::matrix::influx::REQUESTS;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Answers every request on a connection of its own with what `answer` writes; ends with the test's process.
fn stub(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address").to_string();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                take_request(&stream);
                answer(&mut stream); // the client may have gone meanwhile
            });
        }
    });
    address
}

fn take_request(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("length");
        }
        line.clear();
    }
    let _ = reader.read_exact(&mut vec![0; length]);
}

/// A stub whose answers have this status line, with further headers, and this body.
fn says(head: &'static str, body: impl Into<Vec<u8>>) -> String {
    let body = body.into();
    stub(move |stream| {
        let length = body.len();
        let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let _ = stream.write_all(&body);
    })
}

fn options(address: &str) -> Options {
    Options::new(Target::parse(&format!("http://{address}?db=llama"), None).expect("target"))
}

/// What every method of a source says; they all say the same.
fn error(options: &Options) -> SourceError {
    let source = InfluxSource::new(options).expect("source");
    let error = source.figures(ALL, &Filter::all()).expect_err("figures");
    let all = [
        source.extent().expect_err("extent"),
        source.paths(ALL).expect_err("paths"),
        source.series(ALL, &Filter::all(), Duration::from_secs(60)).expect_err("series"),
        source.flows(ALL, &Filter::all()).expect_err("flows"),
    ];
    for other in &all {
        assert_eq!(std::mem::discriminant(other), std::mem::discriminant(&error), "{other} and {error}");
    }
    error
}

fn away(options: &Options, said: &str) {
    let error = error(options);
    assert!(matches!(&error, SourceError::Away(text) if text.contains(said)), "{error:?}: {said}");
}

fn broken(options: &Options, said: &str) {
    let error = error(options);
    assert!(matches!(&error, SourceError::Broken(text) if text.contains(said)), "{error:?}: {said}");
}

fn too_much(options: &Options, said: &str) {
    let error = error(options);
    assert!(matches!(&error, SourceError::TooMuch(text) if text.contains(said)), "{error:?}: {said}");
}

#[test]
fn a_server_that_is_away_or_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address").to_string();
    drop(listener);
    away(&options(&address), "check that the server runs");

    // takes the connection and says nothing, or begins and does not go on
    let request = Duration::from_millis(300);
    for begin in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"results\""] {
        let address = stub(move |stream| {
            let _ = stream.write_all(begin.as_bytes());
            let _ = stream.read(&mut [0]);
        });
        away(&Options { request, ..options(&address) }, "no answer within 0.3 s; ask for less time");
    }
}

#[test]
fn a_server_that_stopped_comes_back() {
    let mut server = Influxd::start();
    write(&server, "llama", false, fleet::summaries());
    let source = source(&server, "llama", 100_000);
    let before = figures(&source, &Filter::all());
    server.stop();
    assert!(matches!(source.figures(ALL, &Filter::all()), Err(SourceError::Away(_))));
    server.run();
    assert_eq!(figures(&source, &Filter::all()), before);
}

#[test]
fn answers_of_no_influxdb() {
    broken(&options(&says("200 OK", "<html><body>Welcome</body></html>")), "no InfluxDB's answer, check host and port");
    broken(&options(&says("200 OK", "{}")), "it has no results");
    broken(&options(&says("200 OK", vec![0xff; 3000])), "no InfluxDB's answer");
    broken(&options(&says("200 OK", "[".repeat(100_000))), "no InfluxDB's answer");
    broken(&options(&says("200 OK", r#"{"results":[{"statement_id":99}]}"#)), "what was not asked");
    let ragged = r#"{"results":[{"statement_id":0,"series":[{"columns":["time","a"],"values":[[1]]}]}]}"#;
    broken(&options(&says("200 OK", ragged)), "not as many values");
    broken(&options(&says("404 Not Found", "404 page not found\n")), "answered 404: 404 page not found");
    broken(&options(&says("302 Found\r\nLocation: /login", "")), "answered 302");
    broken(&options(&says("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n")), "answered 400");
    away(&options(&says("503 Service Unavailable", "<h1>busy</h1>")), "answered 503");
    away(&options(&says("401 Unauthorized", r#"{"error":"authorization failed"}"#)), "check user and password");
    away(&options(&says("200 OK", "")), "ends early");
    away(&options(&says("200 OK", r#"{"results":[{"statement_id":0,"partial":true}]}"#)), "ends early");
    // cut within
    let address = stub(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"results\":[");
    });
    away(&options(&address), "broke off");
}

#[test]
fn servers_own_limits_are_named() {
    let of = |said: &str| says("200 OK", format!("{{\"results\":[{{\"statement_id\":0,\"error\":\"{said}\"}}]}}"));
    too_much(&options(&of("max-select-point limit exceeed: (10/5)")), "ask for less time or fewer paths");
    too_much(&options(&of("query-timeout limit exceeded")), "ask for less time or fewer paths");
    broken(&options(&of("engine is closed")), "engine is closed");
}

#[test]
fn answers_that_are_too_large() {
    let server = Influxd::start();
    write(&server, "llama", false, fleet::summaries());
    let small = Options { answer_bytes: 4096, ..Options::new(target(&server, "llama")) };
    let source = InfluxSource::new(&small).expect("source");
    let error = source.figures(ALL, &Filter::all()).expect_err("too much");
    assert!(
        matches!(&error, SourceError::TooMuch(text) if text.contains("ask for less time or fewer paths")),
        "{error}"
    );
    // the answer is left unread; the next question is answered
    let narrow = Window { from: Wall(T0), to: Wall(T0 + 1) };
    assert!(source.figures(narrow, &Filter::all()).expect("figures").value.is_empty());
    let error = source.series(ALL, &Filter::all(), Duration::from_millis(1)).expect_err("too many steps");
    assert!(matches!(&error, SourceError::TooMuch(text) if text.contains("100000 are given at most")), "{error}");
    assert!(source.series(ALL, &Filter::all(), Duration::ZERO).is_err());
}

#[test]
fn a_database_that_is_not_there_and_one_that_is_closed() {
    let server = Influxd::start();
    away(&Options::new(target(&server, "nowhere")), "check ?db=");

    let server = Influxd::start_with_login("ann", "hidden1");
    server.query("CREATE DATABASE llama");
    let url = |login: &str| format!("http://{login}{}?db=llama", server.address());
    let of = |login: &str| Options::new(Target::parse(&url(login), None).expect("target"));
    away(&of(""), "check user and password");
    let wrong = error(&of("ann:hidden2@")).to_string();
    assert!(wrong.contains("check user and password") && !wrong.contains("hidden"), "{wrong}");
    let source = InfluxSource::new(&of("ann:hidden1@")).expect("source");
    assert_eq!(source.extent().expect("extent"), Default::default());
    server.query("CREATE USER bob WITH PASSWORD 'hidden3'");
    away(&of("bob:hidden3@"), "right to read");
}

#[test]
fn no_question_for_a_bucket_and_no_secret_in_a_name() {
    let bucket = Target::parse("http://db?org=o&bucket=b&token=hidden", None).expect("target");
    let error = InfluxSource::new(&Options::new(bucket)).expect_err("a bucket").to_string();
    assert!(error.contains("give ?db=NAME") && !error.contains("hidden"), "{error}");
    let target = Target::parse("http://ann:hidden@db:8086?db=llama", None).expect("target");
    let source = InfluxSource::new(&Options::new(target)).expect("source");
    assert_eq!(source.name(), "InfluxDB at db:8086 (llama)");
    assert!(!format!("{source:?}").contains("hidden"));
}

#[test]
fn a_private_authority_is_trusted_alone() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/influx");
    let server = Influxd::start_with_tls(&data.join("server.pem"));
    let url = format!("https://localhost:{}?db=llama", server.address().port());
    let untrusting = Options::new(Target::parse(&url, None).expect("target"));
    away(&untrusting, "check that the server runs, host and port, http or https");
    let trusting = Options { ca_file: Some(data.join("ca.pem")), ..untrusting };
    away(&trusting, "check ?db=");
    let error =
        InfluxSource::new(&Options { ca_file: Some("/dev/null".into()), ..trusting }).expect_err("no certificate");
    assert!(error.to_string().contains("holds no certificate"), "{error}");
}

#[test]
fn questions_at_once_are_limited_and_all_answered() {
    /// Requests being answered, and the most there were.
    static NOW: (Mutex<(usize, usize)>, Condvar) = (Mutex::new((0, 0)), Condvar::new());
    let address = stub(|stream| {
        let (numbers, changed) = &NOW;
        let mut now = numbers.lock().expect("lock");
        now.0 += 1;
        now.1 = now.1.max(now.0);
        changed.notify_all();
        // none is answered before as many are there as may be
        let most = Duration::from_secs(20);
        let (mut now, _) = changed.wait_timeout_while(now, most, |now| now.1 < REQUESTS).expect("lock");
        now.0 -= 1;
        drop(now);
        let body = r#"{"results":[{"statement_id":0}]}"#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    });
    let source = InfluxSource::new(&options(&address)).expect("source");
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert_eq!(source.extent(), Ok(Default::default())));
        }
    });
    assert_eq!(*NOW.0.lock().expect("lock"), (0, REQUESTS));
}
