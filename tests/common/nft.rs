//! Packet loss made by nftables, with the rule's own counter as the truth to compare with.

use super::netns::Namespace;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Which hook of a host a rule sits at.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// Packets for this host: for lost probes at the target, for lost replies at the prober.
    Input,
    /// Packets passing through a router.
    Forward,
    /// A host's own packets. A drop here is no loss: the sender is told, with `EPERM`.
    Output,
}

impl Hook {
    fn name(self) -> &'static str {
        match self {
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
        }
    }
}

/// Which of the packets a rule drops.
#[derive(Clone, Copy, Debug)]
pub struct Which {
    /// One of every so many; 1 is each of them.
    pub one_in: u32,
    /// Only among the first so many that match.
    ///
    /// A reflector's own sequence tells the direction of a loss by the reply that comes after it: where
    /// directions must come out exactly, the last probes have to get through.
    pub among_first: u32,
}

/// A rule that drops packets of a namespace. Ends with [`Drops::stop`] or with the namespace.
#[derive(Debug)]
pub struct Drops<'a> {
    namespace: &'a Namespace,
    table: String,
}

impl<'a> Drops<'a> {
    /// Drops some of the packets that `matching` fits (nftables syntax, e.g. `udp dport 862`).
    pub fn start(namespace: &'a Namespace, hook: Hook, matching: &str, which: Which) -> Drops<'a> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let table = format!("drops{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let one_in = which.one_in;
        // nft has no way to write "less than all 2^32 - 1"
        let among_first = which.among_first.min(u32::MAX - 1);
        let hook = hook.name();
        namespace.run_with_input(
            "nft",
            &["-f", "-"],
            &format!(
                "table inet {table} {{
                     counter matched {{ }}
                     counter dropped {{ }}
                     chain filter {{
                         type filter hook {hook} priority 0; policy accept;
                         {matching} counter name matched
                         {matching} numgen inc mod {} < {among_first} numgen inc mod {one_in} 0 counter name dropped drop
                     }}
                 }}",
                u32::MAX
            ),
        );
        Drops { namespace, table }
    }

    /// How many packets the rule has dropped.
    pub fn dropped(&self) -> u64 {
        self.packets("dropped")
    }

    /// How many packets the rule has looked at.
    pub fn matched(&self) -> u64 {
        self.packets("matched")
    }

    /// Drops no more and gives how many were dropped.
    pub fn stop(self) -> u64 {
        let dropped = self.dropped();
        self.namespace.run("nft", &["delete", "table", "inet", &self.table]);
        dropped
    }

    fn packets(&self, counter: &str) -> u64 {
        packets_of(self.namespace, "inet", &self.table, counter)
    }
}

/// Kinds of ICMP errors by nftables' names, and the outcome that each is.
const REJECTS_V4: [(&str, &str); 7] = [
    ("port-unreachable", "refused"),
    ("net-unreachable", "unreachable"),
    ("host-unreachable", "unreachable"),
    ("prot-unreachable", "unreachable"),
    ("net-prohibited", "prohibited"),
    ("host-prohibited", "prohibited"),
    ("admin-prohibited", "prohibited"),
];
const REJECTS_V6: [(&str, &str); 6] = [
    ("port-unreachable", "refused"),
    ("no-route", "unreachable"),
    ("addr-unreachable", "unreachable"),
    ("admin-prohibited", "prohibited"),
    ("policy-fail", "prohibited"),
    ("reject-route", "prohibited"),
];

/// Every way to reject a packet of this family by an ICMP error, as a rule says it, its name, and the outcome it is.
pub fn rejects(v4: bool) -> impl Iterator<Item = (String, &'static str, &'static str)> {
    let (kinds, with) = if v4 { (&REJECTS_V4[..], "icmp") } else { (&REJECTS_V6[..], "icmpv6") };
    kinds.iter().map(move |&(kind, outcome)| (format!("reject with {with} type {kind}"), kind, outcome))
}

/// A rule that stands while this does; one per namespace.
#[derive(Debug)]
pub struct Rejecting<'a>(&'a Namespace);

impl<'a> Rejecting<'a> {
    /// Sets up a rule (nftables syntax, e.g. `tcp dport 9 reject with tcp reset`).
    pub fn start(namespace: &'a Namespace, hook: Hook, rule: &str) -> Rejecting<'a> {
        let hook = hook.name();
        let chain = format!("table inet no {{ chain c {{ type filter hook {hook} priority 0; {rule}; }}; }}\n");
        namespace.run_with_input("nft", &["-f", "-"], &chain);
        Rejecting(namespace)
    }
}

impl Drop for Rejecting<'_> {
    fn drop(&mut self) {
        self.0.run("nft", &["delete", "table", "inet", "no"]);
    }
}

/// Lets a host send as many ICMP errors to one address as are asked for; the kernel sends a bounded number otherwise.
pub fn lift_icmp_limit(host: &Namespace) {
    host.sysctl("ipv4/icmp_ratelimit", "0");
    host.sysctl("ipv6/icmp/ratelimit", "0");
}

/// Sends every packet that leaves `namespace` by `device` and fits `matching` (IPv4) to `to` twice.
#[derive(Debug)]
pub struct Duplicates<'a> {
    namespace: &'a Namespace,
}

impl<'a> Duplicates<'a> {
    /// Starts to duplicate; one per namespace.
    pub fn start(namespace: &'a Namespace, matching: &str, to: IpAddr, device: &str) -> Duplicates<'a> {
        namespace.run_with_input(
            "nft",
            &["-f", "-"],
            &format!(
                "table ip twice {{
                     counter duplicated {{ }}
                     chain filter {{
                         type filter hook output priority 0; policy accept;
                         {matching} counter name duplicated dup to {to} device \"{device}\"
                     }}
                 }}"
            ),
        );
        Duplicates { namespace }
    }

    /// How many packets were sent twice.
    pub fn duplicated(&self) -> u64 {
        // the copy passes the counter as well (and is not copied again)
        packets_of(self.namespace, "ip", "twice", "duplicated") / 2
    }
}

/// Counts the packets of a namespace that fit `matching`, at `hook`.
#[derive(Debug)]
pub struct Count<'a> {
    namespace: &'a Namespace,
    table: String,
}

impl<'a> Count<'a> {
    /// Starts to count.
    pub fn start(namespace: &'a Namespace, hook: Hook, matching: &str) -> Count<'a> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let table = format!("count{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let hook = hook.name();
        namespace.run_with_input(
            "nft",
            &["-f", "-"],
            &format!(
                "table inet {table} {{
                     counter matched {{ }}
                     chain filter {{
                         type filter hook {hook} priority 0; policy accept;
                         {matching} counter name matched
                     }}
                 }}"
            ),
        );
        Count { namespace, table }
    }

    /// How many there were.
    pub fn packets(&self) -> u64 {
        packets_of(self.namespace, "inet", &self.table, "matched")
    }
}

fn packets_of(namespace: &Namespace, family: &str, table: &str, counter: &str) -> u64 {
    let listing = namespace.run("nft", &["-j", "list", "counter", family, table, counter]);
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    listing["nftables"]
        .as_array()
        .and_then(|objects| objects.iter().find_map(|object| object["counter"]["packets"].as_u64()))
        .unwrap_or_else(|| panic!("nft told no packets for counter {counter}: {listing}"))
}
