//! A real `influxd` of its own data directory, address and ports; killed on drop.

use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub struct Influxd {
    directory: tempfile::TempDir,
    address: String,
    login: Option<(&'static str, &'static str)>,
    child: Option<Child>,
}

/// A loopback address that no other test process uses, so that a port which is free now is free
/// also when the server is started later: nothing else binds or connects from there.
fn own_address() -> IpAddr {
    static SERVERS: AtomicU32 = AtomicU32::new(0);
    // process numbers have at most 22 bits; the top two bits keep away from 127.0.0.1
    let host = (std::process::id() & 0x003f_ffff) | ((1 + SERVERS.fetch_add(1, Relaxed) % 2) << 22);
    let [_, a, b, c] = host.to_be_bytes();
    Ipv4Addr::new(127, a, b, c).into()
}

impl Influxd {
    /// Starts a server that asks for no password.
    pub fn start() -> Influxd {
        Influxd::new(None)
    }

    /// Starts a server that demands this user and password, an administrator's.
    pub fn start_with_login(user: &'static str, password: &'static str) -> Influxd {
        Influxd::new(Some((user, password)))
    }

    fn new(login: Option<(&'static str, &'static str)>) -> Influxd {
        let directory = tempfile::tempdir().expect("temporary directory");
        let ip = own_address();
        let free = [(); 2].map(|()| TcpListener::bind((ip, 0)).expect("port"));
        let [http, rpc] = free.map(|listener| listener.local_addr().expect("address"));
        let data = directory.path().display();
        let auth = login.is_some();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"{rpc}\"\n\
             [meta]\ndir = \"{data}/meta\"\n[data]\ndir = \"{data}/data\"\nwal-dir = \"{data}/wal\"\n\
             [monitor]\nstore-enabled = false\n[http]\nbind-address = \"{http}\"\nauth-enabled = {auth}\n"
        );
        std::fs::write(directory.path().join("influxdb.conf"), config).expect("configuration");
        let mut server = Influxd { directory, address: http.to_string(), login: None, child: None };
        server.run();
        if let Some((user, password)) = login {
            server.query(&format!("CREATE USER {user} WITH PASSWORD '{password}' WITH ALL PRIVILEGES"));
            server.login = login;
        }
        server
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Starts the server (again), with the data it had.
    pub fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("log");
        let mut child = Command::new("influxd")
            .arg("run")
            .arg("-config")
            .arg(self.directory.path().join("influxdb.conf"))
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start influxd: {error}; install it: apt-get install influxdb"));
        let begin = Instant::now();
        let ping = format!("http://{}/ping", self.address);
        while agent().get(&ping).call().is_err() {
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("influxd") {
                panic!("influxd ended at start, {status}:\n{}", log());
            }
            if begin.elapsed() > Duration::from_secs(60) {
                let _ = child.kill();
                panic!("influxd did not answer for a minute:\n{}", log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
    }

    /// Kills the server, as a crash would; its data stay.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill influxd");
            child.wait().expect("wait for influxd");
        }
    }

    /// `HOST:PORT` of the HTTP interface.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks for `query` on database `llama`; panics on an error. Times are nanoseconds.
    pub fn query(&self, query: &str) -> Value {
        let url = format!("http://{}/query", self.address);
        let mut request = agent().post(&url).query("db", "llama").query("epoch", "ns");
        if let Some((user, password)) = self.login {
            request = request.query("u", user).query("p", password);
        }
        let mut response = request.send_form([("q", query)]).expect("query");
        let text = response.body_mut().read_to_string().expect("answer");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert!(answer["results"][0]["error"].is_null(), "{query}: {answer}");
        answer["results"][0]["series"][0].clone()
    }

    /// The rows of `query` as objects by column.
    pub fn rows(&self, query: &str) -> Vec<Value> {
        let series = self.query(query);
        let none = vec![];
        let columns = series["columns"].as_array().unwrap_or(&none);
        let rows = series["values"].as_array().unwrap_or(&none);
        rows.iter()
            .map(|row| {
                columns
                    .iter()
                    .enumerate()
                    .map(|(i, name)| (name.as_str().expect("name").to_string(), row[i].clone()))
                    .collect()
            })
            .collect()
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).timeout_global(Some(Duration::from_secs(30))).build().new_agent()
}
