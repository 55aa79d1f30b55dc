//! Small networks: two hosts on a wire, and two hosts with equal-cost paths between them.

use super::netns::Namespace;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Two hosts on one veth pair. The addresses are those reserved for documentation.
#[derive(Debug)]
pub struct TwoHosts {
    /// Where the collector runs; its device is [`TwoHosts::DEVICE`].
    pub prober: Namespace,
    /// Where the reflector runs; its device is [`TwoHosts::DEVICE`].
    pub target: Namespace,
}

impl TwoHosts {
    /// The name of the veth device on either side.
    pub const DEVICE: &'static str = "wire";
    /// The prober's IPv4 address.
    pub const PROBER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    /// The target's IPv4 address.
    pub const TARGET_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    /// The prober's IPv6 address.
    pub const PROBER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    /// The target's IPv6 address.
    pub const TARGET_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

    /// Makes both hosts, with IPv4 and IPv6.
    pub fn new() -> TwoHosts {
        let prober = Namespace::new("prober");
        let target = Namespace::new("target");
        prober.link(Self::DEVICE, &target, Self::DEVICE);
        for (host, v4, v6) in [(&prober, Self::PROBER_V4, Self::PROBER_V6), (&target, Self::TARGET_V4, Self::TARGET_V6)]
        {
            host.address(Self::DEVICE, &format!("{v4}/24"));
            host.address(Self::DEVICE, &format!("{v6}/64"));
        }
        // neighbours known beforehand: the first probe waits for nobody
        for (host, other) in [(&prober, &target), (&target, &prober)] {
            let mac = mac(other, Self::DEVICE);
            let (v4, v6) = if std::ptr::eq(host, &prober) {
                (Self::TARGET_V4, Self::TARGET_V6)
            } else {
                (Self::PROBER_V4, Self::PROBER_V6)
            };
            for address in [v4, v6] {
                host.ip(&format!("neigh add {address} lladdr {mac} nud permanent dev {}", Self::DEVICE));
            }
        }
        TwoHosts { prober, target }
    }

    /// Sets the MTU of both ends.
    pub fn set_mtu(&self, bytes: u32) {
        for host in [&self.prober, &self.target] {
            host.ip(&format!("link set {} mtu {bytes}", Self::DEVICE));
        }
    }
}

fn mac(host: &Namespace, device: &str) -> String {
    let listing = host.ip(&format!("-o link show dev {device}"));
    listing.split("link/ether ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Two hosts, a router beside each, and `paths` equal-cost links between the routers.
///
/// ```text
/// prober ── near ══ path0, path1, … ══ far ── target
/// ```
///
/// Both routers spread flows by their five-tuple. [`Ecmp::PROBER_V4`] and [`Ecmp::TARGET_V4`] (and `_V6`)
/// are the hosts' addresses; the routers' devices between them are named `path0`, `path1`, …
#[derive(Debug)]
pub struct Ecmp {
    /// Where the collector runs.
    pub prober: Namespace,
    /// The prober's router: drops here are on the way out of `path…` forward.
    pub near: Namespace,
    /// The target's router.
    pub far: Namespace,
    /// Where the reflector runs.
    pub target: Namespace,
    /// How many links there are between the routers.
    pub paths: u8,
}

impl Ecmp {
    /// The prober's IPv4 address.
    pub const PROBER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    /// The target's IPv4 address.
    pub const TARGET_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    /// The prober's IPv6 address.
    pub const PROBER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));
    /// The target's IPv6 address.
    pub const TARGET_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1));

    /// Makes the network with 1 to 64 paths.
    pub fn new(paths: u8) -> Ecmp {
        assert!((1..=64).contains(&paths), "paths: {paths} asked, 1 to 64 possible");
        let net = Ecmp {
            prober: Namespace::new("prober"),
            near: Namespace::new("near"),
            far: Namespace::new("far"),
            target: Namespace::new("target"),
            paths,
        };
        for router in [&net.near, &net.far] {
            router.sysctl("ipv4/ip_forward", "1");
            router.sysctl("ipv6/conf/all/forwarding", "1");
            router.sysctl("ipv4/fib_multipath_hash_policy", "1");
            router.sysctl("ipv6/fib_multipath_hash_policy", "1");
        }
        net.prober.link("wire", &net.near, "host");
        net.target.link("wire", &net.far, "host");
        for (host, router, v4, v6) in
            [(&net.prober, &net.near, "192.0.2", "2001:db8:a"), (&net.target, &net.far, "203.0.113", "2001:db8:b")]
        {
            host.address("wire", &format!("{v4}.1/24"));
            host.address("wire", &format!("{v6}::1/64"));
            router.address("host", &format!("{v4}.254/24"));
            router.address("host", &format!("{v6}::fe/64"));
            host.route(&format!("default via {v4}.254"));
            host.route(&format!("default via {v6}::fe"));
        }
        for path in 0..paths {
            let device = format!("path{path}");
            net.near.link(&device, &net.far, &device);
            for (router, end) in [(&net.near, 1), (&net.far, 2)] {
                router.address(&device, &format!("198.51.100.{}/30", 4 * u32::from(path) + end));
                router.address(&device, &format!("2001:db8:1:{path:x}::{end}/64"));
            }
        }
        for (router, end, v4, v6) in
            [(&net.near, 2, "203.0.113.0/24", "2001:db8:b::/64"), (&net.far, 1, "192.0.2.0/24", "2001:db8:a::/64")]
        {
            let mut hops4 = v4.to_owned();
            let mut hops6 = v6.to_owned();
            for path in 0..paths {
                hops4 += &format!(" nexthop via 198.51.100.{} dev path{path}", 4 * u32::from(path) + end);
                hops6 += &format!(" nexthop via 2001:db8:1:{path:x}::{end} dev path{path}");
            }
            router.route(&hops4);
            router.route(&hops6);
        }
        net
    }
}
