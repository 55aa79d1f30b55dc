//! Packet loss made by nftables, with the rule's own counter as the truth to compare with.

use super::netns::Namespace;

/// Which hook of a host a rule sits at.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// Packets for this host. To drop probes, at the target; to drop replies, at the prober.
    ///
    /// There is no hook for a host's own packets on their way out: a drop there comes back to the
    /// sender as `EPERM`, which is a failed send and not loss.
    Input,
    /// Packets passing through a router.
    Forward,
}

/// A rule that drops packets of a namespace. Ends with [`Drops::stop`] or with the namespace.
#[derive(Debug)]
pub struct Drops<'a> {
    namespace: &'a Namespace,
    table: String,
}

impl<'a> Drops<'a> {
    /// Drops one of every `one_in` packets that `matching` fits (nftables syntax, e.g. `udp dport 862`).
    pub fn start(namespace: &'a Namespace, hook: Hook, matching: &str, one_in: u32) -> Drops<'a> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let table = format!("drops{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let hook = match hook {
            Hook::Input => "input",
            Hook::Forward => "forward",
        };
        let choice = if one_in <= 1 { String::new() } else { format!("numgen inc mod {one_in} 0") };
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
                         {matching} {choice} counter name dropped drop
                     }}
                 }}"
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
        let listing = self.namespace.run("nft", &["-j", "list", "counter", "inet", &self.table, counter]);
        let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
        listing["nftables"]
            .as_array()
            .and_then(|objects| objects.iter().find_map(|object| object["counter"]["packets"].as_u64()))
            .unwrap_or_else(|| panic!("nft told no packets for counter {counter}: {listing}"))
    }
}
