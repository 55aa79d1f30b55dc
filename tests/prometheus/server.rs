//! A real Prometheus (Debian package `prometheus`), with a data directory, an address and a port of its own;
//! killed on drop.

use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// A loopback address that no other test process uses: a port that is free there stays free until the server
/// takes it.
fn own_address() -> IpAddr {
    static SERVERS: AtomicU32 = AtomicU32::new(0);
    // process numbers have at most 22 bits; the top bits keep away from 127.0.0.1 and from other tests' servers
    let host = (std::process::id() & 0x001f_ffff) | (1 << 23) | ((SERVERS.fetch_add(1, Relaxed) % 2) << 21);
    let [_, a, b, c] = host.to_be_bytes();
    Ipv4Addr::new(127, a, b, c).into()
}

pub struct Prometheus {
    directory: tempfile::TempDir,
    address: SocketAddr,
    child: Child,
}

impl Prometheus {
    /// Starts a server that scrapes these, by job name, once a second.
    pub fn start(jobs: &[(&str, SocketAddr)]) -> Prometheus {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((own_address(), 0)).unwrap().local_addr().unwrap();
        let jobs: String = jobs
            .iter()
            .map(|(name, target)| format!("- job_name: {name}\n  static_configs: [{{targets: ['{target}']}}]\n"))
            .collect();
        let config = directory.path().join("prometheus.yml");
        std::fs::write(&config, format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start prometheus: {error}; apt-get install prometheus"));
        let begin = Instant::now();
        let agent = agent();
        while agent.get(format!("http://{address}/-/ready")).call().is_err() {
            let log = || std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "prometheus ended at start:\n{}", log());
            if begin.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("prometheus was not ready within {PATIENCE:?}:\n{}", log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Prometheus { directory, address, child }
    }

    /// Address of its HTTP interface.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The result of an instant query: series with labels (`metric`) and `value` or `values`.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let mut response = agent()
            .get(format!("http://{}/api/v1/query", self.address))
            .query("query", query)
            .call()
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        let answer: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// The one value of a query; `None` while there is no series.
    pub fn value(&self, query: &str) -> Option<f64> {
        let series = self.query(query);
        assert!(series.len() <= 1, "{query} has several series: {series:?}");
        series.first().map(|series| series["value"][1].as_str().unwrap().parse().unwrap())
    }

    /// Waits until the one value of a query is as `done` says, and gives it.
    pub fn wait_for(&self, query: &str, done: impl Fn(f64) -> bool) -> f64 {
        let begin = Instant::now();
        loop {
            let value = self.value(query);
            if let Some(value) = value.filter(|value| done(*value)) {
                return value;
            }
            assert!(begin.elapsed() < PATIENCE, "{query} was {value:?} for {PATIENCE:?}\n{}", self.troubles());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All values that were scraped of the one series of a selector, in order.
    pub fn scraped(&self, selector: &str) -> Vec<f64> {
        let series = self.query(&format!("{selector}[1h]"));
        assert_eq!(series.len(), 1, "{selector}: {series:?}");
        values(&series[0])
    }

    /// What the server says of its targets, and its log.
    fn troubles(&self) -> String {
        let targets = agent().get(format!("http://{}/api/v1/targets", self.address)).call();
        let targets = targets.map_or_else(|e| e.to_string(), |mut r| r.body_mut().read_to_string().unwrap_or_default());
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        format!("{targets}\n{log}")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The values of a series of a range.
pub fn values(series: &Value) -> Vec<f64> {
    let values = series["values"].as_array().unwrap();
    values.iter().map(|value| value[1].as_str().unwrap().parse().unwrap()).collect()
}

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).timeout_global(Some(Duration::from_secs(30))).build().new_agent()
}
