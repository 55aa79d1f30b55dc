//! The page at `/`: the matrix, for a browser.
//!
//! Responsible for serving its files, which are part of the program: nothing is read from a disk or fetched from
//! another host, and a browser is told to load nothing else. Not responsible for the numbers, which the page asks the
//! API for. Read [`index`] here, and `app.js` of the page first.

use super::answer::Refusal;
use axum::Router;
use axum::extract::Path;
use axum::http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::OnceLock;

/// What a browser may load: files of this program, and nothing that stands within a document.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the page: its name below `/ui/`, its type, its text.
struct File {
    name: &'static str,
    media: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal $media:ident),+ $(,)?) => {
        [$(File { name: $name, media: $media, text: include_str!($name) }),+]
    };
}

static FILES: [File; 15] = files![
    "index.html" HTML,
    "style.css" CSS,
    "icon.svg" SVG,
    "theme.js" SCRIPT,
    "api.js" SCRIPT,
    "app.js" SCRIPT,
    "chart.js" SCRIPT,
    "controls.js" SCRIPT,
    "dom.js" SCRIPT,
    "format.js" SCRIPT,
    "matrix.js" SCRIPT,
    "panel.js" SCRIPT,
    "scale.js" SCRIPT,
    "timeline.js" SCRIPT,
    "view.js" SCRIPT,
];

/// Serves the page's files, `GET /ui/{file}`.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/ui/{file}", get(file))
}

/// `GET /`: the page itself.
pub async fn index(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

/// The files as gzip, made when a browser first asks: over a slow line the page is there sooner.
fn compressed() -> &'static [Vec<u8>] {
    static GZIP: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    GZIP.get_or_init(|| {
        let gzip = |file: &File| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            // into memory: it cannot fail
            let _ = encoder.write_all(file.text.as_bytes());
            encoder.finish().unwrap_or_default()
        };
        FILES.iter().map(gzip).collect()
    })
}

/// Whether a client takes gzip: it names it, and not with a weight of nothing.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0));
        named && !refused
    })
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    let Some((position, file)) = FILES.iter().enumerate().find(|(_, file)| file.name == name) else {
        return Refusal::of(StatusCode::NOT_FOUND).into_response();
    };
    let described: [(HeaderName, &str); 4] = [
        (CONTENT_TYPE, file.media),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (VARY, "Accept-Encoding"),
    ];
    match compressed().get(position).filter(|bytes| takes_gzip(headers) && !bytes.is_empty()) {
        Some(bytes) => (described, [(CONTENT_ENCODING, "gzip")], bytes.as_slice()).into_response(),
        None => (described, file.text).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use std::io::Read;
    use std::path::Path;
    use tower::ServiceExt;

    async fn ask(path: &str, encoding: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
        let request = Request::get(path).header(header::ACCEPT_ENCODING, encoding).body(Body::empty()).unwrap();
        let response = router::<()>().route("/", get(index)).oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn every_file_is_served_with_its_type_and_policy() {
        for file in &FILES {
            let (status, headers, body) = ask(&format!("/ui/{}", file.name), "identity").await;
            assert_eq!((status, body.as_slice()), (StatusCode::OK, file.text.as_bytes()), "{}", file.name);
            assert_eq!(headers[CONTENT_TYPE], file.media);
            assert_eq!(headers[CONTENT_SECURITY_POLICY], POLICY);
        }
        assert_eq!(ask("/", "identity").await.2, FILES[0].text.as_bytes());
        assert_eq!(ask("/ui/mod.rs", "identity").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask("/ui/..%2fmod.rs", "identity").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn gzip_is_for_those_who_take_it() {
        let (_, headers, body) = ask("/", "br, GZIP;q=0.8").await;
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        let mut text = String::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, FILES[0].text);
        for refused in ["gzip;q=0", "br", ""] {
            assert!(!ask("/", refused).await.1.contains_key(CONTENT_ENCODING), "{refused}");
        }
    }

    /// Every file of the folder is served, and what the page names is there.
    #[test]
    fn the_folder_and_the_list_are_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/web");
        let mut there: Vec<String> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        there.retain(|name| name != "mod.rs");
        there.sort();
        let mut listed: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        listed.sort_unstable();
        assert_eq!(there, listed);
        for file in &FILES {
            let named = |mark: &str| {
                file.text.split(mark).skip(1).map(|rest| rest.split(['\'', '"']).next().unwrap()).collect::<Vec<_>>()
            };
            for name in named("\"/ui/").into_iter().chain(named("from './")) {
                assert!(listed.contains(&name), "{} names {name}", file.name);
            }
        }
    }

    /// Texts from the network reach the page as texts: there is no way in it to read one as markup or as a program, no
    /// inline script or style that the policy would have to allow, and no other host.
    #[test]
    fn nothing_in_the_page_reads_markup_or_leaves_the_host() {
        const NEVER: [&str; 14] = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "setHTML",
            "srcdoc",
            "eval(",
            "new Function",
            "javascript:",
            "https://",
            "style=\"",
            "onclick=\"",
        ];
        for file in &FILES {
            for never in NEVER {
                assert!(!file.text.contains(never), "{}: {never}", file.name);
            }
            let elsewhere = file.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("http://"), "{} names another host", file.name);
        }
    }

    /// A page that opens at once over any line.
    #[test]
    fn the_page_is_small() {
        let plain: usize = FILES.iter().map(|file| file.text.len()).sum();
        let sent: usize = compressed().iter().map(Vec::len).sum();
        assert!(plain < 140_000 && sent < 50_000, "{plain} bytes, {sent} as gzip");
    }
}
