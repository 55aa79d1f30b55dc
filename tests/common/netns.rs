//! Network namespaces, by way of `ip` from iproute2.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "llama-test";

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();

/// A network namespace, deleted with everything in it when dropped.
///
/// Its loopback is up, duplicate address detection is off (addresses are usable at once).
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace named `llama-test-PID-COUNTER-label`.
    ///
    /// # Panics
    /// Without root or without `ip`, naming what is missing.
    pub fn new(label: &str) -> Namespace {
        require_root();
        SWEPT.call_once(sweep);
        let name = format!("{PREFIX}-{}-{}-{label}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Namespace { name };
        namespace.sysctl("ipv6/conf/all/accept_dad", "0");
        namespace.sysctl("ipv6/conf/default/accept_dad", "0");
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip ARGUMENTS` about this namespace, e.g. `link set eth0 mtu 9000`.
    ///
    /// # Panics
    /// When `ip` fails, with its words.
    pub fn ip(&self, arguments: &str) -> String {
        let output = run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sets `/proc/sys/net/KEY` in this namespace.
    pub fn sysctl(&self, key: &str, value: &str) {
        let script = format!("echo {value} > /proc/sys/net/{key}");
        run(&mut self.command("sh", &["-c", &script]));
    }

    /// A command that will run in this namespace. `ip netns exec` replaces itself with it, so the
    /// child's process id is the program's own.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).args(arguments);
        command
    }

    /// Runs a program in this namespace and gives its standard output.
    ///
    /// # Panics
    /// When it fails, with its standard error.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        String::from_utf8(run(&mut self.command(program, arguments)).stdout).unwrap()
    }

    /// Runs a program in this namespace with `input` as its standard input.
    ///
    /// # Panics
    /// When it fails, with its standard error.
    pub fn run_with_input(&self, program: &str, arguments: &[&str], input: &str) -> String {
        use std::io::Write as _;
        let mut child = self
            .command(program, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{input}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The file by which a thread can join this namespace.
    pub fn file(&self) -> File {
        File::open(Path::new("/run/netns").join(&self.name)).unwrap()
    }

    /// Links this namespace to `peer` by a veth pair: `device` here, `peer_device` there, both up.
    pub fn link(&self, device: &str, peer: &Namespace, peer_device: &str) {
        self.ip(&format!("link add {device} type veth peer name {peer_device} netns {}", peer.name));
        self.ip(&format!("link set {device} up"));
        peer.ip(&format!("link set {peer_device} up"));
    }

    /// Gives a device an address with its prefix length, e.g. `192.0.2.1/24` or `2001:db8::1/64`.
    pub fn address(&self, device: &str, address: &str) {
        // without duplicate address detection an IPv6 address is usable at once
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {device} {nodad}"));
    }

    /// Adds a route, e.g. `192.0.2.0/24 via 198.51.100.1`.
    pub fn route(&self, route: &str) {
        let family = if route.contains(':') { "-6 " } else { "" };
        self.ip(&format!("{family}route add {route}"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // not `run`: a panic here while another unwinds would abort and leave the rest behind
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Fails the test when namespaces cannot be made, naming what is missing.
pub fn require_root() {
    let mut missing = String::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push_str("root (network namespaces); ");
    }
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if Command::new(program).arg("-V").output().is_err() {
            let _ = write!(missing, "`{program}` (Debian package {package}); ");
        }
    }
    assert!(missing.is_empty(), "this test needs {missing}run scripts/test as root, it installs what is missing");
}

/// Deletes the namespaces of earlier runs that were killed: those whose process is gone.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = owner(&name) else { continue };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// The process that made the namespace of this name, `None` when it is none of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
