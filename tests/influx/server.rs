//! Real servers, each with a data directory, an address and ports of its own; killed on drop.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A loopback address that no other test process uses, so that a port which is free now is free
/// also when the server is started later: nothing else binds or connects from there.
pub fn own_address() -> IpAddr {
    static SERVERS: AtomicU32 = AtomicU32::new(0);
    // process numbers have at most 22 bits; the top two bits keep away from 127.0.0.1
    let host = (std::process::id() & 0x003f_ffff) | ((1 + SERVERS.fetch_add(1, Relaxed) % 2) << 22);
    let [_, a, b, c] = host.to_be_bytes();
    Ipv4Addr::new(127, a, b, c).into()
}

/// Two ports of `ip` that are free.
fn free_ports(ip: IpAddr) -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((ip, 0)).expect("port"));
    listeners.map(|listener| listener.local_addr().expect("address"))
}

/// Longest time a server may take for the requests it is in when it is asked to end.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// A server's process.
struct Daemon {
    directory: tempfile::TempDir,
    /// The Debian package to name when the program is missing.
    package: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    http: SocketAddr,
    child: Option<Child>,
}

impl Daemon {
    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Its standard output and error, of all its runs.
    fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Starts it (again), with the data it had, and waits until it takes connections.
    fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("log");
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {}: {error}; install it: apt-get install {}", self.program, self.package)
            });
        let begin = Instant::now();
        while std::net::TcpStream::connect(self.http).is_err() {
            if let Some(status) = child.try_wait().expect("status") {
                panic!("{} ended at start, {status}:\n{}", self.program, self.said());
            }
            if begin.elapsed() > Duration::from_secs(60) {
                let _ = child.kill();
                panic!("{} took no connection for a minute:\n{}", self.program, self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }
}

impl Daemon {
    /// Asks the server to end, and waits until it has in good order.
    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("signal");
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("status") {
                break status;
            }
            if begin.elapsed() > 2 * SHUTDOWN {
                let _ = child.kill();
                panic!("{} did not end within {:?} of SIGTERM:\n{}", self.program, 2 * SHUTDOWN, self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // a server that has just begun to listen may not have a handler for the signal yet, nor anything to lose
        let early = status.signal() == Some(Signal::SIGTERM as i32);
        assert!(status.success() || early, "{} ended in bad order, {status}:\n{}", self.program, self.said());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).timeout_global(Some(Duration::from_secs(30))).build().new_agent()
}

/// InfluxDB 1.6, Debian package `influxdb`.
pub struct Influxd {
    daemon: Daemon,
    login: Option<(&'static str, &'static str)>,
}

impl Influxd {
    /// Starts a server that asks for no password.
    pub fn start() -> Influxd {
        Influxd::new(own_address(), "")
    }

    /// Starts a server that demands this user and password, an administrator's.
    pub fn start_with_login(user: &'static str, password: &'static str) -> Influxd {
        let mut server = Influxd::new(own_address(), "auth-enabled = true\n");
        server.query(&format!("CREATE USER {user} WITH PASSWORD '{password}' WITH ALL PRIVILEGES"));
        server.login = Some((user, password));
        server
    }

    /// Starts a server on 127.0.0.1 that speaks TLS only, with the certificate and key in `pem`.
    pub fn start_with_tls(pem: &Path) -> Influxd {
        // the certificate knows no other address
        let certificate = pem.display();
        Influxd::new(
            Ipv4Addr::LOCALHOST.into(),
            &format!("https-enabled = true\nhttps-certificate = \"{certificate}\"\n"),
        )
    }

    fn new(ip: IpAddr, of_http: &str) -> Influxd {
        let directory = tempfile::tempdir().expect("temporary directory");
        let [http, rpc] = free_ports(ip);
        let data = directory.path().display();
        // of its own accord it answers writes by 500 that take it 10 s, and stores them all the same
        let config = format!(
            "reporting-disabled = true\nbind-address = \"{rpc}\"\n\
             [meta]\ndir = \"{data}/meta\"\n[data]\ndir = \"{data}/data\"\nwal-dir = \"{data}/wal\"\n\
             [coordinator]\nwrite-timeout = \"10m\"\n[monitor]\nstore-enabled = false\n[http]\nbind-address = \"{http}\"\n{of_http}"
        );
        let file = directory.path().join("influxdb.conf");
        std::fs::write(&file, config).expect("configuration");
        let arguments = vec!["run".into(), "-config".into(), file.display().to_string()];
        let mut daemon = Daemon { directory, package: "influxdb", program: "influxd", arguments, http, child: None };
        daemon.run();
        Influxd { daemon, login: None }
    }

    /// Starts the server again, with the data it had.
    pub fn run(&mut self) {
        self.daemon.run();
    }

    /// Kills the server, as a crash would; its data stay.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Address of the HTTP interface.
    pub fn address(&self) -> SocketAddr {
        self.daemon.http
    }

    /// Asks for `query` on database `llama`; panics on an error. Times are nanoseconds.
    pub fn query(&self, query: &str) -> Value {
        let url = format!("http://{}/query", self.address());
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

/// Longest time until VictoriaMetrics shows what it has stored.
const VISIBLE: Duration = Duration::from_secs(60);

/// VictoriaMetrics, Debian package `victoria-metrics`.
pub struct VictoriaMetrics {
    daemon: Daemon,
}

impl VictoriaMetrics {
    pub fn start() -> VictoriaMetrics {
        let directory = tempfile::tempdir().expect("temporary directory");
        let [http, _] = free_ports(own_address());
        let arguments = vec![
            format!("-storageDataPath={}", directory.path().join("data").display()),
            format!("-httpListenAddr={http}"),
            "-retentionPeriod=100y".into(),
            // 7 s of its own accord, after which it exits without a flush: what it has in memory, and has said is
            // stored, is lost; a batch of new series takes longer on a busy machine
            format!("-http.maxGracefulShutdownDuration={}s", SHUTDOWN.as_secs()),
        ];
        let program = "victoria-metrics";
        let mut daemon = Daemon { directory, package: program, program, arguments, http, child: None };
        daemon.run();
        VictoriaMetrics { daemon }
    }

    /// Starts the server again, with the data it had.
    pub fn run(&mut self) {
        self.daemon.run();
    }

    /// Ends the server in an orderly way; its data stay.
    pub fn end(&mut self) {
        self.daemon.end();
    }

    /// Address of the HTTP interface.
    pub fn address(&self) -> SocketAddr {
        self.daemon.http
    }

    /// All series of the metric `name` (labels, values and times in milliseconds), as soon as `complete` says that all
    /// that was written is among them; after a minute those that there are, for the caller to judge.
    ///
    /// One look is not enough. Once a second the server takes the rows it was given out of their buffer and makes a
    /// part of them that searches see; a `force_flush` meanwhile finds the buffer empty and does not wait for that part.
    /// For some tenths of a second, longer on a busy machine, rows are missing that are not lost.
    pub fn export(&self, name: &str, complete: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begin = Instant::now();
        loop {
            self.get("/internal/force_flush"); // what is still in the buffer becomes visible at once
            let text = self.get(&format!("/api/v1/export?match%5B%5D={name}"));
            let series: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            if complete(&series) || begin.elapsed() > VISIBLE {
                return series;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many rows the server took, ignored and stored by its own count since it was started, and its log.
    pub fn account(&self) -> String {
        let figures = self.get("/metrics");
        let rows = |line: &&str| line.starts_with("vm_rows") && !line.contains("_bucket");
        let rows: Vec<&str> = figures.lines().filter(rows).collect();
        format!("{}\n{}", rows.join("\n"), self.daemon.said())
    }

    fn get(&self, path: &str) -> String {
        let mut response = agent().get(format!("http://{}{path}", self.address())).call().expect("answer");
        response.body_mut().read_to_string().expect("text")
    }
}
