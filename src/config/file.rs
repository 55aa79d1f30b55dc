//! The configuration file's two forms → [`Draft`].
//!
//! Full form: the sections of [`super::keys`]. Legacy form: a map `HOST: {tag: value}`; upstream decides
//! by trying, we by whether a top-level key of the full form is there. Not responsible for names across
//! sections ([`super::assemble`]). Read [`read`] first.

use super::draft::*;
use super::keys;
use super::problem::{Place, did_you_mean};
use super::reader::{Fields, KeyPath, Reader};
use super::scalar;
use super::yaml::{Node, Value, quote};
use super::{dscp, key_file};
use crate::net::FlowLabels;
use crate::probe::shape::{Dscp, Key, MethodKind, Pacing, Sizes, StampPolicy, Verify, report_len};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Probes per transmit stamp at most.
const MAX_SAMPLING: f64 = 1_000_000.0;
/// Tags that are added to every summary and would be overwritten.
const RESERVED_TAGS: &[&str] = &["src_ip", "dst_ip", "method", "dscp", "size"];

/// Reads either form. `directory` is where relative key files are, `legacy_port` the destination port
/// of the legacy form.
pub(super) fn read(root: &Node<'_>, directory: &Path, legacy_port: u16, reader: &mut Reader) -> Draft {
    let is_legacy = match &root.value {
        Value::Map(entries) => {
            !entries.iter().any(|(key, _)| keys::of(keys::ROOT).any(|known| known.name == key.text))
                && entries.iter().all(|(_, node)| matches!(node.value, Value::Map(_) | Value::Null))
        }
        _ => false,
    };
    if is_legacy { legacy(root, legacy_port, reader) } else { full(root, directory, reader) }
}

fn legacy(root: &Node<'_>, port: u16, reader: &mut Reader) -> Draft {
    let mut targets = Vec::new();
    for (key, node) in reader.names(root, &KeyPath::ROOT) {
        let path = KeyPath::ROOT.name(&key.text);
        let tags = tags(node, &path, reader);
        let host = host(&key.text, key.place, &path, reader);
        if let Some(Host { host, ip, zone }) = host {
            targets.push(TargetDraft { place: Some(key.place), host, ip, zone, port: Some(port), tags });
        }
    }
    Draft::built_in(vec![TargetGroup { name: "default".into(), place: Some(root.place), targets }])
}

fn full(root: &Node<'_>, directory: &Path, reader: &mut Reader) -> Draft {
    let fields = reader.section(root, keys::ROOT, &KeyPath::ROOT);
    let null = Node { place: root.place, value: Value::Null };
    let section = |name| fields.get(name).unwrap_or(&null);

    let path = KeyPath::ROOT.name("summarization");
    let summarization = reader.section(section("summarization"), keys::SUMMARIZATION, &path);
    let interval = reader.number(&summarization, "interval", &path);
    let mut draft = Draft {
        interval: Located { value: Duration::from_secs_f64(interval.value), place: interval.place },
        api: api(section("api"), reader),
        ports: ports(section("ports"), directory, reader),
        groups: groups(section("port_groups"), reader),
        rates: rates(section("rate_limits"), reader),
        tests: tests(section("tests"), reader),
        targets: targets(section("targets"), reader),
    };
    match fields.get("tests") {
        Some(node) if draft.tests.is_empty() => {
            let remedy = "add a test, or remove `tests` to test every group of targets";
            reader.error(node.place, &KeyPath::ROOT.name("tests"), "no test", remedy);
        }
        _ => draft.complete(),
    }
    draft
}

fn api(node: &Node<'_>, reader: &mut Reader) -> Option<ApiDraft> {
    let path = KeyPath::ROOT.name("api");
    let fields = reader.section(node, keys::API, &path);
    let bind = reader.text(&fields, "bind", &path).filter(|bind| !bind.value.is_empty())?;
    let (host, port) = bind.value.rsplit_once(':').unwrap_or((bind.value, ""));
    let bracketless_v6 = host.contains(':') && !host.starts_with('[');
    let ip = match address(host) {
        Some(ip) if !bracketless_v6 => Some(Bind::Address(ip)),
        None if host.is_empty() => Some(Bind::Any(None)),
        None if is_host_name(host) => Some(Bind::Host(host.into())),
        _ => None,
    };
    // `:0` would be a port nobody knows
    match (ip, port.parse::<u16>()) {
        (Some(ip), Ok(port)) if port > 0 => Some(ApiDraft { ip, port, place: bind.place }),
        _ => {
            let what = format!("{} is no ADDRESS:PORT", quote(bind.value));
            reader.problems.error(bind.place, "api.bind", what, "write one like 0.0.0.0:5000 or [::]:5000");
            None
        }
    }
}

fn ports(node: &Node<'_>, directory: &Path, reader: &mut Reader) -> Vec<PortDraft> {
    let path = KeyPath::ROOT.name("ports");
    let names = reader.names(node, &path);
    names
        .into_iter()
        .map(|(key, node)| {
            let path = path.name(&key.text);
            PortDraft { place: Some(key.place), ..port(&key.text, node, directory, &path, reader) }
        })
        .collect()
}

fn port(name: &str, node: &Node<'_>, directory: &Path, path: &KeyPath<'_>, reader: &mut Reader) -> PortDraft {
    let mut port = PortDraft::built_in(name);
    let fields = reader.section(node, keys::PORT, path);
    if let Some(ip) = reader.text(&fields, "ip", path) {
        port.ip.place = ip.place;
        match zoned(ip.value) {
            Some((ip, None)) if ip.is_unspecified() => port.ip.value = Bind::Any(Some(Family::of(ip))),
            Some((ip, zone)) => {
                port.ip.value = Bind::Address(ip);
                port.zone = zone.map(str::to_string);
            }
            None if ip.value.is_empty() => port.ip.value = Bind::Any(None),
            None if is_host_name(ip.value) => port.ip.value = Bind::Host(ip.value.into()),
            None => {
                let what = format!("{} is neither an address nor a host name", quote(ip.value));
                reader.problems.error(ip.place, &path.name("ip").to_string(), what, "write one like 0.0.0.0");
            }
        }
    }
    port.port = reader.number(&fields, "port", path).value as u16;
    let timeout = reader.number(&fields, "timeout", path);
    port.timeout = Located { value: Duration::from_secs_f64(timeout.value / 1000.0), place: timeout.place };
    port.classes = classes(&fields, path, reader);
    port.shape.stamps = stamps(&fields, path, reader);
    port.shape.method = method(&fields, path, reader);
    port.shape.key = key(&fields, port.shape.method, directory, path, reader);
    port.verify = verify(&fields, port.shape.method, path, reader);
    port.sizes = sizes(&fields, &port, path, reader);
    if reader.word(&fields, "flow_label", path) == Some("zero") {
        port.flow_labels = FlowLabels::Zero;
    }
    let syn_limit = reader.number(&fields, "syn_limit", path);
    port.syn_limit = Located { value: syn_limit.value as u32, place: syn_limit.place };
    port
}

/// The classes, at least one, each once.
fn classes(fields: &Fields<'_, '_>, path: &KeyPath<'_>, reader: &mut Reader) -> Vec<Dscp> {
    let tos = reader.number(fields, "tos", path);
    let byte = tos.value as u8;
    if let (Some(place), true) = (tos.place, byte & 3 != 0) {
        let what = format!("{byte} has ECN bits {:02b}, which are sent as 00", byte & 3);
        reader.warning(place, &path.name("tos"), what, "use a multiple of four");
    }
    let of_tos = Dscp(byte >> 2);
    let texts = reader.texts(fields, "dscp", path);
    let several = texts.len() > 1;
    let mut classes = Vec::new();
    for text in texts {
        let Some(place) = text.place else { continue };
        match dscp::parse(text.value) {
            Ok(class) if classes.contains(&class) => {
                let what = format!("{} is {}, which is named already", text.value, class.0);
                reader.error(place, &path.name("dscp"), what, "remove one of the two");
            }
            Ok(class) => {
                if tos.place.is_some() && (several || class != of_tos) {
                    let what = format!(
                        "{} is {}, tos {byte} is {}",
                        text.value,
                        class.0,
                        dscp::name(of_tos).map_or(of_tos.0.to_string(), |name| format!("{} ({name})", of_tos.0)),
                    );
                    let remedy = if several { "remove tos" } else { "remove one of the two" };
                    reader.error(place, &path.name("dscp"), what, remedy);
                }
                classes.push(class);
            }
            Err(what) => reader.error(place, &path.name("dscp"), what, "correct it"),
        }
    }
    if classes.is_empty() { vec![of_tos] } else { classes }
}

fn verify(fields: &Fields<'_, '_>, method: MethodKind, path: &KeyPath<'_>, reader: &mut Reader) -> Verify {
    let word = reader.word(fields, "verify_dscp", path);
    let verify =
        Verify::NAMES.into_iter().find(|(_, name)| Some(*name) == word).map_or(Verify::Auto, |(verify, _)| verify);
    if let (Verify::On, true, Some(node)) = (verify, method != MethodKind::Udp, fields.get("verify_dscp")) {
        let what = format!("probes of method {} have no room for a report", method.name());
        reader.error(node.place, &path.name("verify_dscp"), what, "remove it, or use method udp");
    }
    verify
}

fn stamps(fields: &Fields<'_, '_>, path: &KeyPath<'_>, reader: &mut Reader) -> StampPolicy {
    let Some(text) = reader.text(fields, "tx_timestamps", path) else { return StampPolicy::Auto };
    match (text.value.to_ascii_lowercase().as_str(), scalar::number(text.value)) {
        ("all", _) => StampPolicy::All,
        ("auto", _) => StampPolicy::Auto,
        ("off", _) => StampPolicy::Off,
        (_, Some(1.0)) => StampPolicy::All,
        (_, Some(n)) if n.fract() == 0.0 && (2.0..=MAX_SAMPLING).contains(&n) => StampPolicy::OneIn(n as u32),
        _ => {
            let what = format!("{} asked, all, auto, off, or one in 1 to {MAX_SAMPLING} possible", quote(text.value));
            let remedy = "write one of the words, or N for one probe in N";
            reader.problems.error(text.place, &path.name("tx_timestamps").to_string(), what, remedy);
            StampPolicy::Auto
        }
    }
}

fn method(fields: &Fields<'_, '_>, path: &KeyPath<'_>, reader: &mut Reader) -> MethodKind {
    let word = reader.word(fields, "method", path); // a wrong one is noted
    MethodKind::ALL.into_iter().find(|method| Some(method.name()) == word).unwrap_or(MethodKind::Udp)
}

fn key(
    fields: &Fields<'_, '_>,
    method: MethodKind,
    directory: &Path,
    path: &KeyPath<'_>,
    reader: &mut Reader,
) -> Option<Arc<Key>> {
    let text = reader.text(fields, "key_file", path)?;
    if method != MethodKind::Udp {
        let what = format!("probes of method {} cannot be authenticated", method.name());
        reader.problems.error(text.place, &path.name("key_file").to_string(), what, "remove it, or use method udp");
        return None;
    }
    match key_file::read(&directory.join(text.value)) {
        Ok(key) => {
            if key.0.len() < 16 {
                let what = format!("{} bytes of key, 16 or more are hard to guess", key.0.len());
                reader.problems.warning(text.place, &path.name("key_file").to_string(), what, "use a longer one");
            }
            Some(Arc::new(key))
        }
        Err(what) => {
            let remedy = "give a readable file; relative paths start at the configuration file";
            reader.problems.error(text.place, &path.name("key_file").to_string(), what, remedy);
            None
        }
    }
}

/// The sizes, at least one, each once.
fn sizes(fields: &Fields<'_, '_>, port: &PortDraft, path: &KeyPath<'_>, reader: &mut Reader) -> Vec<u16> {
    let method = port.shape.method;
    let keyed = method == MethodKind::Udp && fields.get("key_file").is_some();
    let usual = port.verify.usual_size(method, keyed, &port.classes);
    let texts = reader.texts(fields, "size", path);
    if texts.len() > keys::MAX_SIZES {
        let what = format!("{} sizes asked, {} possible", texts.len(), keys::MAX_SIZES);
        let place = texts.first().and_then(|text| text.place);
        reader.problems.error(place, &path.name("size").to_string(), what, "use fewer, or another entry");
    }
    let mut sizes = Vec::new();
    for text in texts.into_iter().take(keys::MAX_SIZES) {
        let size = reader.number_of(fields, "size", Some(text), path);
        let (bytes, Some(place)) = (size.value as u16, size.place) else { continue };
        if sizes.contains(&bytes) {
            reader.error(place, &path.name("size"), format!("{bytes} is named already"), "remove one of the two");
        } else if fits(bytes, method, keyed, port.verify, place, path, reader) {
            sizes.push(bytes);
        }
    }
    if sizes.is_empty() { vec![usual] } else { sizes }
}

/// Whether probes of the method can be so long; notes why not, and what is odd.
fn fits(
    bytes: u16,
    method: MethodKind,
    keyed: bool,
    verify: Verify,
    place: Place,
    path: &KeyPath<'_>,
    reader: &mut Reader,
) -> bool {
    let Sizes { least, most, usual } = method.sizes(keyed);
    if !(least..=most).contains(&bytes) {
        let (what, remedy) = match method {
            MethodKind::Udp if keyed => (
                format!("{bytes} bytes asked, an authenticated probe has {least} to {most}"),
                "raise it, or remove key_file",
            ),
            MethodKind::TcpSyn => (format!("{bytes} bytes asked, a SYN has no payload"), "remove it"),
            MethodKind::LlamaPython => {
                (format!("{bytes} bytes asked, a probe of method {} has {usual}", method.name()), "remove it")
            }
            _ => (
                format!("{bytes} bytes asked, {least} to {most} possible"),
                if bytes < least { "raise it" } else { "lower it" },
            ),
        };
        reader.error(place, &path.name("size"), what, remedy);
        return false;
    }
    let room = report_len(keyed);
    if verify == Verify::On && method == MethodKind::Udp && bytes < room {
        let what = format!("{bytes} bytes asked, with verify_dscp a probe has {room} or more");
        reader.error(place, &path.name("size"), what, "raise it, or remove verify_dscp");
        return false;
    }
    if bytes > 1472 {
        let what = format!(
            "{bytes} bytes are more than 1472, what fits into a frame of 1500, and are never sent in fragments"
        );
        reader.warning(place, &path.name("size"), what, "lower it unless every link shall take larger frames");
    }
    true
}

fn groups(node: &Node<'_>, reader: &mut Reader) -> Vec<GroupDraft> {
    let path = KeyPath::ROOT.name("port_groups");
    let mut groups = Vec::new();
    for (key, node) in reader.names(node, &path) {
        let path = path.name(&key.text);
        let mut items = Vec::new();
        for (i, node) in reader.items(node, &path).iter().enumerate() {
            let path = path.item(i);
            let fields = reader.section(node, keys::GROUP_ENTRY, &path);
            let port = reference(&fields, "port", &path, reader);
            let count = reader.number(&fields, "count", &path);
            items.push(GroupItem { port, count: Located { value: count.value as u32, place: count.place } });
        }
        groups.push(GroupDraft { name: key.text.to_string(), place: Some(key.place), items });
    }
    groups
}

fn rates(node: &Node<'_>, reader: &mut Reader) -> Vec<RateDraft> {
    let path = KeyPath::ROOT.name("rate_limits");
    let mut rates = Vec::new();
    for (key, node) in reader.names(node, &path) {
        let path = path.name(&key.text);
        let fields = reader.section(node, keys::RATE_LIMIT, &path);
        let cps = reader.number(&fields, "cps", &path).value;
        rates.push(RateDraft { name: key.text.to_string(), place: Some(key.place), cps });
    }
    rates
}

fn tests(node: &Node<'_>, reader: &mut Reader) -> Vec<TestDraft> {
    let path = KeyPath::ROOT.name("tests");
    let mut tests = Vec::new();
    for (i, node) in reader.items(node, &path).iter().enumerate() {
        let path = path.item(i);
        let fields = reader.section(node, keys::TEST, &path);
        let pacing = match reader.word(&fields, "pacing", &path) {
            Some("poisson") => Pacing::Poisson,
            _ => Pacing::Periodic,
        };
        tests.push(TestDraft {
            place: Some(node.place),
            targets: reference(&fields, "targets", &path, reader),
            port_group: reference(&fields, "port_group", &path, reader),
            rate_limit: reference(&fields, "rate_limit", &path, reader),
            pacing,
        });
    }
    tests
}

fn reference(fields: &Fields<'_, '_>, name: &'static str, path: &KeyPath<'_>, reader: &mut Reader) -> Located<String> {
    match reader.text(fields, name, path) {
        Some(text) => Located { value: text.value.to_string(), place: text.place },
        None => Located::default("default".into()),
    }
}

fn targets(node: &Node<'_>, reader: &mut Reader) -> Vec<TargetGroup> {
    let path = KeyPath::ROOT.name("targets");
    let mut groups = Vec::new();
    for (key, node) in reader.names(node, &path) {
        let path = path.name(&key.text);
        let mut targets = Vec::new();
        for (i, node) in reader.items(node, &path).iter().enumerate() {
            targets.extend(target(node, &path.item(i), reader));
        }
        groups.push(TargetGroup { name: key.text.to_string(), place: Some(key.place), targets });
    }
    groups
}

fn target(node: &Node<'_>, path: &KeyPath<'_>, reader: &mut Reader) -> Option<TargetDraft> {
    let fields = reader.section(node, keys::TARGET, path);
    let port = reader.number(&fields, "port", path);
    let port = port.place.map(|_| port.value as u16);
    let none = Node { place: node.place, value: Value::Null };
    let tags = tags(fields.get("tags").unwrap_or(&none), &path.name("tags"), reader);
    let Some(text) = reader.text(&fields, "ip", path) else {
        if !matches!(fields.get("ip"), Some(node) if node.value != Value::Null) {
            let near = match &node.value {
                Value::Map(entries) => {
                    entries.iter().map(|(key, _)| did_you_mean(&key.text, ["ip"])).find(|n| !n.is_empty())
                }
                _ => None,
            };
            reader.error(
                node.place,
                &path.name("ip"),
                format!("missing{}", near.unwrap_or_default()),
                "add an address or a host name",
            );
        }
        return None;
    };
    let Host { host, ip, zone } = host(text.value, text.place.unwrap_or(node.place), &path.name("ip"), reader)?;
    Some(TargetDraft { place: text.place, host, ip, zone, port, tags })
}

/// A destination.
struct Host {
    /// As written.
    host: String,
    /// Its address, when it is one.
    ip: Option<IpAddr>,
    /// And its zone.
    zone: Option<String>,
}

/// A destination as written.
fn host(text: &str, place: Place, path: &KeyPath<'_>, reader: &mut Reader) -> Option<Host> {
    let (ip, zone) = zoned(text).map_or((None, None), |(ip, zone)| (Some(ip), zone.map(str::to_string)));
    if let Some(ip) = ip {
        if let (IpAddr::V6(v6), None) = (ip, &zone)
            && v6.is_unicast_link_local()
        {
            let what = format!("{text} is link-local: it says nothing without the interface");
            reader.error(place, path, what, &format!("write one like {ip}%eth0"));
            return None;
        }
        if let Some(kind) = not_one_host(ip) {
            reader.error(place, path, format!("{text} is {kind}"), "give the address of one host");
            return None;
        }
    } else if !is_host_name(text) {
        let what = format!("{} is neither an address nor a host name", quote(text));
        reader.error(place, path, what, "write one like 192.0.2.1 or host.example");
        return None;
    }
    Some(Host { host: text.to_string(), ip, zone })
}

/// Why an address is not one host's, if so.
pub(super) fn not_one_host(ip: IpAddr) -> Option<&'static str> {
    if ip.is_unspecified() {
        Some("the wildcard address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else {
        None
    }
}

fn tags(node: &Node<'_>, path: &KeyPath<'_>, reader: &mut Reader) -> Arc<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for (key, node) in reader.entries(node, path) {
        let path = path.name(&key.text);
        match &node.value {
            Value::Null => {}
            Value::Scalar { text, .. } => {
                if RESERVED_TAGS.contains(&&*key.text) {
                    reader.warning(key.place, &path, "every summary has a tag of this name, which counts", "rename it");
                }
                if tags.insert(key.text.to_string(), text.to_string()).is_some() {
                    reader.warning(key.place, &path, "given more than once, the last counts", "remove the others");
                }
            }
            _ => {
                let what = format!("{} found, a text expected", node.describe());
                reader.error(node.place, &path, what, "write one value");
            }
        }
    }
    Arc::new(tags)
}
