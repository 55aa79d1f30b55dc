//! Many questions at once, and answers of any size.

use crate::client::{connect, get, to_end, wait_for};
use crate::memory::{Memory, NEWEST, fleet, path, summary};
use crate::{any_port, serve};
use llama::http::matrix::{self, QUESTIONS_AT_ONCE, Shown};
use llama::http::metrics;
use llama::http::server::{Limits, Server};
use llama::summary::{Path, Summary};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn questions_take_turns_and_the_rest_goes_on() {
    let memory = Memory::of(fleet());
    memory.hold(true);
    let shown = Shown::new(Arc::clone(&memory) as _, "test", Duration::from_secs(1));
    let of_metrics = metrics::router(vec![Box::new({
        let shown = shown.clone();
        move |page| shown.write(page)
    })]);
    let router = matrix::router(Some(shown)).merge(of_metrics);
    let server = Server::start(any_port(), router, Limits::default(), "test").unwrap();
    let address = server.address();
    let clients: Vec<_> = (0..5).map(|_| std::thread::spawn(move || get(address, "/api/v1/matrix/paths"))).collect();
    wait_for("as many as may", || (memory.held() == QUESTIONS_AT_ONCE).then_some(()));
    // metrics wait for nobody, although they are written on a thread that may wait
    assert!(get(address, "/metrics").text().contains("\nllama_matrix_streams 0\n"));
    // the others are told after their time, and those two go on
    wait_for("refusals", || {
        let page = get(address, "/metrics");
        page.text().contains("llama_matrix_refused_total{what=\"question\"} 3\n").then_some(())
    });
    memory.hold(false);
    let mut statuses: Vec<u16> = clients.into_iter().map(|client| client.join().unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503]);
    let page = get(address, "/metrics");
    assert!(page.text().contains("\nllama_matrix_answer_duration_seconds_count 2\n"), "{}", page.text());
}

#[test]
fn an_answer_of_a_large_fleet_is_whole_also_for_a_slow_client() {
    const PATHS: u32 = 10_000;
    let one = |n: u32| -> Summary {
        let tags = [("rack".to_string(), format!("r{}", n % 100)), ("row".to_string(), format!("w{}", n / 100))];
        let dst = (0x0a01_0000 + n).to_be_bytes().into();
        let path = Path { dst, tags: Arc::new(tags.into()), ..(*path(0, 0)).clone() };
        summary(&Arc::new(path), NEWEST, u64::from(n % 10), 1)
    };
    let server = serve(&Memory::of((0..PATHS).map(one).collect()));
    let mut slow = connect(server.address());
    slow.write_all(b"GET /api/v1/matrix?rows=row&columns=rack HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let paths = get(server.address(), "/api/v1/matrix/paths?limit=10000").json();
    assert_eq!(paths["paths"].as_array().unwrap().len(), PATHS as usize);
    let (answer, _) = crate::client::Answer::first(&to_end(&mut slow), false).unwrap();
    let matrix = answer.json();
    assert_eq!(matrix["cells"].as_array().unwrap().len(), PATHS as usize);
    assert_eq!(matrix["rows"]["values"][99], "w99");
    let flows = get(server.address(), "/api/v1/matrix/flows").json();
    assert_eq!((&flows["total"], flows["flows"].as_array().unwrap().len()), (&(2 * PATHS).into(), 100));
}
