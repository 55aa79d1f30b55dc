//! `POST /api/v1/reload`: has the configuration read again, for those who may.
//!
//! Who may: a client on this host, or any with `--allow-remote-reload`. What may not, wherever it runs: a web
//! page of somebody else in somebody's browser. A browser says where a page comes from (`Origin`,
//! `Sec-Fetch-Site`), and a page that got to us by a name of its own (DNS rebinding) asks for that
//! name: so a host named in the request must be an address or `localhost`. Read [`allowed`] first.

use super::{Refused, State};
use crate::http::answer::{Refusal, json};
use crate::http::server::Peer;
use axum::Extension;
use axum::extract;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long a client waits for a reload; the reload itself goes on.
const RELOAD_TIME: Duration = Duration::from_secs(9);
/// Lets one reload at a time through.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<AtomicBool>);

/// Ends when the reload does, however it ends.
struct UnderWay(Gate);

impl Gate {
    fn enter(&self) -> Option<UnderWay> {
        (!self.0.swap(true, Ordering::Acquire)).then(|| UnderWay(self.clone()))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

fn forbidden(error: impl Into<String>, remedy: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, error, remedy)
}

/// The host of `Host` or of an origin, without its port.
fn host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Whether the host is no name that somebody else gives addresses to.
fn is_address(authority: &str) -> bool {
    let host = host(authority);
    host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// Whether this client may reload.
fn allowed(client: IpAddr, headers: &HeaderMap, remote: bool) -> Result<(), Refusal> {
    if !remote && !client.to_canonical().is_loopback() {
        let error = format!("{} is not this host, and only this host may reload", client.to_canonical());
        return Err(forbidden(error, "ask from the collector's host, or start it with --allow-remote-reload"));
    }
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let authority = text(HOST).unwrap_or_default();
    let origin = text(ORIGIN);
    if (!remote || origin.is_some()) && !is_address(authority) {
        let error = format!("Host is `{authority}`, a name");
        return Err(forbidden(error, "ask by address or localhost: curl -X POST http://127.0.0.1:5000/api/v1/reload"));
    }
    let own =
        |origin: &str| origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(authority));
    if let Some(origin) = origin.filter(|origin| !own(origin)) {
        return Err(forbidden(format!("a web page of {origin} asks"), "ask by curl or from the collector's own page"));
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(forbidden("a web page of another site asks", "ask by curl or from the collector's own page")),
    }
}

/// `POST /api/v1/reload`.
pub(super) async fn reload(
    extract::State(state): extract::State<State>,
    Extension(Peer(client)): Extension<Peer>,
    Extension(gate): Extension<Gate>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    super::query::Parameters::of(&uri, &[])?;
    allowed(client.ip(), &headers, state.remote_reload)?;
    let Some(reload) = state.reload else {
        let error = "there is no configuration file to read again";
        return Err(Refusal::new(StatusCode::NOT_FOUND, error, "start the collector with --config FILE"));
    };
    let busy =
        |error: String| Refusal::new(StatusCode::CONFLICT, error, "ask again when the reload under way has ended");
    let Some(under_way) = gate.enter() else { return Err(busy("a reload is under way".into())) };
    let waiting = tokio::task::spawn_blocking(move || {
        let _under_way = under_way;
        reload()
    });
    match timeout(RELOAD_TIME, waiting).await {
        Ok(Ok(Ok(changed))) => Ok(json(&changed)),
        Ok(Ok(Err(Refused::Configuration(error)))) => {
            let remedy = "correct the file and reload again; the old configuration goes on";
            Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error, remedy))
        }
        Ok(Ok(Err(Refused::Busy(error)))) => Err(busy(error)),
        Ok(Err(_)) => Err(Refusal::of(StatusCode::INTERNAL_SERVER_ERROR)),
        Err(_) => {
            let error = format!("the reload has not ended within {} s and goes on", RELOAD_TIME.as_secs());
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, error, "GET /api/v1/health shows how it ended"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(client: &str, headers: &[(&'static str, &str)], remote: bool) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            let name: axum::http::HeaderName = name.parse().expect("a name");
            (name, value.parse().expect("a value"))
        });
        allowed(client.parse().expect("an address"), &headers.collect(), remote).is_ok()
    }

    #[test]
    fn only_this_host_unless_allowed() {
        let by_address = [("host", "127.0.0.1:5000")];
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(may(local, &by_address, false), "{local}");
        }
        for remote in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "0.0.0.0"] {
            assert!(!may(remote, &by_address, false), "{remote}");
            assert!(may(remote, &[("host", "collector.example:5000")], true), "{remote}");
        }
    }

    #[test]
    fn no_name_that_can_be_made_to_point_here() {
        for host in ["localhost", "LOCALHOST:5000", "[::1]:5000", "127.0.0.1", "192.0.2.1:5000"] {
            assert!(may("127.0.0.1", &[("host", host)], false), "{host}");
        }
        for host in
            ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil.example", "", "[evil]"]
        {
            assert!(!may("127.0.0.1", &[("host", host)], false), "{host}");
            // a page that got here by its own name
            assert!(!may("192.0.2.1", &[("host", host), ("origin", &format!("http://{host}"))], true), "{host}");
        }
        assert!(!may("127.0.0.1", &[], false), "no host at all");
    }

    #[test]
    fn no_web_page_but_our_own() {
        let with = |name, value| may("127.0.0.1", &[("host", "127.0.0.1:5000"), (name, value)], false);
        assert!(with("origin", "http://127.0.0.1:5000"));
        for origin in [
            "null",
            "http://evil.example",
            "http://127.0.0.1:8080",
            "https://127.0.0.1:5000",
            "http://127.0.0.1:5000.evil.example",
            "",
        ] {
            assert!(!with("origin", origin), "{origin}");
        }
        assert!(with("sec-fetch-site", "same-origin") && with("sec-fetch-site", "none"));
        assert!(!with("sec-fetch-site", "cross-site") && !with("sec-fetch-site", "same-site"));
    }
}
