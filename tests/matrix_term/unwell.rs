//! Servers that are away, slow, or say what no llama says.

use super::fake::{Answer, Fake, ok};
use super::run;
use llama::cli::matrix::answer::Extent;
use llama::cli::matrix::client::{Client, Refusal};
use llama::http::matrix;
use llama::http::server::{Limits, Server};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

fn fake(behaviour: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (Fake, String) {
    let fake = Fake::start(Ipv4Addr::LOCALHOST.into(), behaviour);
    let url = format!("http://{}", fake.address);
    (fake, url)
}

/// What it says of a server that answers everything like this; it ends with 1 and shows nothing.
fn complaint(behaviour: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
    let (_fake, url) = fake(behaviour);
    let finished = run(&url, &[]);
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
    assert!(!finished.stderr.trim_end().chars().any(char::is_control), "{:?}", finished.stderr);
    assert!(finished.stderr.contains(&url), "{}", finished.stderr);
    finished.stderr
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for arguments in [&[][..], &["--json"], &["--watch"]] {
        let finished = run(&format!("http://{address}"), arguments);
        assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(finished.stderr.contains("refused") && finished.stderr.contains("--api"), "{}", finished.stderr);
    }
}

#[test]
fn without_a_history_the_remedy_is_said() {
    let server =
        Server::start("127.0.0.1:0".parse().unwrap(), matrix::router(None), Limits::default(), "test").unwrap();
    let finished = run(&format!("http://{}", server.address()), &[]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("start with --history DIR"), "{}", finished.stderr);
}

#[test]
fn refusals_and_other_servers() {
    let says = |behaviour: fn(&str) -> Answer, words: &str| {
        let error = complaint(behaviour);
        assert!(error.contains(words), "{words}: {error}");
    };
    says(|_| Answer::Status("404 Not Found", "404 page not found\n"), "no matrix there (404); name the --api address");
    says(|_| Answer::Status("500 Internal Server Error", ""), "answers 500; see the server's log");
    let nasty = r#"{"error":"a\u001b[2Jb","remedy":"\u009bc"}"#;
    assert!(complaint(move |_| Answer::Status("503 Busy", nasty)).contains("answers 503: a�[2Jb; �c"));
    says(|_| Answer::Status("302 Found\r\nLocation: http://elsewhere/", ""), "points to http://elsewhere/");
    says(|_| ok("<html>"), "is no matrix");
    says(|_| ok("[]"), "is no matrix");
    says(|_| ok("{}"), "source");
    says(|_| Answer::Raw(b"\x1b]0;x\x07\r\n\r\n".to_vec()), "http://127.0.0.1");
    says(|_| Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec()), "no answer");
    says(|_| Answer::Huge(1 << 30), "more than 32 MiB, which is not read");
    says(|_| Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()), "more than 32 MiB");
}

#[test]
fn a_matrix_that_cannot_be_is_refused() {
    let matrix = |cells: &'static str| {
        complaint(move |question| match question {
            "/api/v1/matrix/extent" => ok(r#"{"source":"x","role":"y","newest":null,"interval_s":0.0}"#),
            _ => ok(format!(
                r#"{{"from":null,"to":null,"resolution_s":1,"rows":{{"key":"a","values":["b"]}},
                "columns":{{"key":"c","values":["d"]}},"left_out":0,"fields":["row","column","sent"],"cells":{cells},"before":null}}"#
            )),
        })
    };
    assert!(matrix("[[0,1,5]]").contains("a cell without a column of the 1"));
    assert!(matrix("[[0,0]]").contains("2 values where 3 fields are named"));
    assert!(matrix("[[18446744073709551615,0,1]]").contains("a cell without a row"));
}

#[test]
fn slow_servers_are_given_up() {
    for slow in [|_: &str| Answer::Hang, |_: &str| Answer::Drip] {
        let (_fake, url) = fake(slow);
        let limit = Duration::from_millis(300);
        let refusal = Client::new(&url, limit).ask::<Extent>("/api/v1/matrix/extent").unwrap_err();
        assert_eq!(refusal, Refusal::Timeout(limit));
    }
}
