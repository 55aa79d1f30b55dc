//! A host and a port as people write them: `HOST`, `HOST:PORT`, `192.0.2.1:PORT`, `2001:db8::1`, `[2001:db8::1]:PORT`.
//!
//! Not responsible for names being resolvable. Read [`host_and_port`].

use std::fmt;
use std::net::Ipv6Addr;

/// Takes `text` apart; a port that is not written is none, one below `least` is refused. Errors call it `kind`
/// (`UDP port`) and name the `default`.
///
/// # Errors
/// What is wrong and what to write instead.
pub fn host_and_port(text: &str, least: u16, default: u16, kind: &str) -> Result<(String, Option<u16>), String> {
    let port = |s: &str| match s.parse::<u16>() {
        Ok(port) if port >= least => Ok(Some(port)),
        _ => Err(format!("`{s}` is not a {kind}; write 1 to 65535, or leave it out for {default}")),
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, tail)) if tail.starts_with(':') => (host, port(&tail[1..])?),
            _ => return Err(format!("an address in brackets is written [2001:db8::1] or [2001:db8::1]:{default}")),
        }
    } else if text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
        (text, None)
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(format!("`{text}` is not an IPv6 address; with a port write [2001:db8::1]:{default}"));
            }
            Some((host, tail)) => (host, port(tail)?),
            None => (text, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(format!("`{host}` is neither an address nor a host name; write HOST or HOST:PORT"));
    }
    Ok((host.to_owned(), port))
}

/// Writes host and port so that [`host_and_port`] reads the same back.
///
/// # Errors
/// The formatter's own.
pub fn write(f: &mut fmt::Formatter<'_>, host: &str, port: Option<u16>) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }?;
    port.map_or(Ok(()), |port| write!(f, ":{port}"))
}
