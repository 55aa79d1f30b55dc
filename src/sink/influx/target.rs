//! Where to write: from the URL a user types to an address, a path and a header.
//!
//! The URL may carry secrets. [`Target`] shows none of them, neither by `Display` nor by `Debug`, and
//! errors name the part that is wrong, never its value where that could be a secret.

use std::fmt;

/// A database server and what to write into.
#[derive(Clone)]
pub struct Target {
    /// What requests go to; carries no secret.
    write_url: String,
    /// What questions go to, where the server has InfluxDB 1.x' query language; carries no secret.
    query_url: Option<String>,
    /// Scheme and authority without user and password.
    origin: String,
    into: Into,
    authorization: Option<String>,
    secrets: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Into {
    Database(String),
    Bucket { org: String, bucket: String },
}

/// Why a URL is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It does not begin with a known scheme.
    #[error("influx: the URL must begin with http:// or https://")]
    Scheme,
    /// There is no host, or host and port do not parse.
    #[error("influx: no valid HOST:PORT after the scheme; IPv6 addresses need brackets, ports are 1 to 65535")]
    Host,
    /// `%` without two hexadecimal digits, or the decoded text is no UTF-8 or has control characters.
    #[error("influx: {0} is not valid percent-encoded text; write % as %25, @ as %40, / as %2F")]
    Encoding(&'static str),
    /// A query key that means nothing.
    #[error("influx: unknown key {0:?} in the URL; known are db, rp (InfluxDB 1.x), org, bucket, token (2.x and 3.x)")]
    UnknownKey(String),
    /// A query key given twice or without a value.
    #[error("influx: key {0} in the URL must be given once, with a value")]
    Key(&'static str),
    /// Neither database nor bucket.
    #[error(
        "influx: the URL names neither a database nor a bucket; add ?db=NAME (InfluxDB 1.x) or ?org=ORG&bucket=NAME (2.x and 3.x)"
    )]
    Nothing,
    /// Database and bucket.
    #[error("influx: the URL mixes db or rp (InfluxDB 1.x) with org or bucket (2.x and 3.x); keep one pair")]
    Both,
    /// `org` and `bucket` come together.
    #[error("influx: {missing} is missing from the URL; org and bucket come together")]
    Half {
        /// The key that is not there.
        missing: &'static str,
    },
    /// A bucket needs a token.
    #[error("influx: writing to a bucket needs a token; set INFLUX_TOKEN, or give --influx-token")]
    Token,
    /// Two ways to authenticate.
    #[error("influx: the URL has user:password and there is a token; give one of them")]
    TwoSecrets,
    /// A bucket is written with a token.
    #[error("influx: user:password is for ?db=NAME; writing to a bucket needs a token")]
    PasswordForBucket,
}

impl Target {
    /// Reads `http(s)://[user:password@]HOST[:PORT][/PREFIX]?db=NAME[&rp=POLICY]` (InfluxDB 1.x) or
    /// `…?org=ORG&bucket=NAME[&token=TOKEN]` (2.x and 3.x). Without `:PORT` it is the scheme's, 80 or 443.
    ///
    /// `token` is the one from elsewhere (flag, environment); the URL's own goes before it.
    ///
    /// # Errors
    /// What is wrong, with the remedy, without any secret.
    pub fn parse(url: &str, token: Option<&str>) -> Result<Target, TargetError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(TargetError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(TargetError::Scheme);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = match rest.find('/') {
            Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
            None => (rest, ""),
        };
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        check_host(host)?;
        if !prefix.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b)) {
            return Err(TargetError::Encoding("the path"));
        }
        let basic = match userinfo {
            Some(userinfo) => {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                Some((decode(user, "the user")?, decode(password, "the password")?))
            }
            None => None,
        };
        let keys = Keys::parse(query)?;
        let token = keys.token.clone().or_else(|| token.map(str::to_string)).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| token.chars().any(char::is_control)) {
            return Err(TargetError::Encoding("the token"));
        }
        let origin = format!("{scheme}://{host}");
        let (into, path) = keys.into_what()?;
        match (&into, &basic, &token) {
            (Into::Bucket { .. }, Some(_), _) => return Err(TargetError::PasswordForBucket),
            (Into::Bucket { .. }, None, None) => return Err(TargetError::Token),
            (Into::Database(_), Some(_), Some(_)) => return Err(TargetError::TwoSecrets),
            _ => {}
        }
        let query = matches!(into, Into::Database(_)).then(|| path.replacen("/write?", "/query?", 1));
        let authorization = match (&basic, &token) {
            (Some((user, password)), _) => Some(format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))),
            (None, Some(token)) => Some(format!("Token {token}")),
            (None, None) => None,
        };
        let secrets = basic.into_iter().map(|(_, password)| password).chain(token);
        let secrets = secrets.chain(authorization.iter().filter_map(|a| a.split_once(' ')).map(|(_, s)| s.to_string()));
        Ok(Target {
            write_url: format!("{origin}{prefix}{path}&precision=ns"),
            query_url: query.map(|path| format!("{origin}{prefix}{path}&epoch=ns&chunked=true")),
            secrets: secrets.filter(|secret| !secret.is_empty()).collect(),
            origin,
            into,
            authorization,
        })
    }

    /// Where requests go. No secrets.
    pub(super) fn write_url(&self) -> &str {
        &self.write_url
    }

    /// Where questions in InfluxDB 1.x' query language go, for answers in chunks with times in nanoseconds; `None` for a
    /// bucket. No secrets.
    pub(crate) fn query_url(&self) -> Option<&str> {
        self.query_url.as_deref()
    }

    /// Scheme, host and port, and the database's name. No secrets.
    pub(crate) fn place(&self) -> String {
        let name = match &self.into {
            Into::Database(name) => name.clone(),
            Into::Bucket { org, bucket } => format!("{org}/{bucket}"),
        };
        format!("{} ({name})", self.origin.split_once("://").map_or("", |(_, host)| host))
    }

    /// Value of the header `Authorization`. A secret.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// What to do when the server says that the database or bucket does not exist.
    pub(super) fn remedy_when_missing(&self) -> String {
        match &self.into {
            Into::Database(name) => {
                format!("create it: influx -execute 'CREATE DATABASE \"{name}\"' (delivery then goes on by itself)")
            }
            Into::Bucket { org, bucket } => {
                format!("create it: influx bucket create --org {org} --name {bucket} (delivery then goes on by itself)")
            }
        }
    }

    /// True when the server is this host: no proxy can be meant then.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.origin.split_once("://").map_or("", |(_, host)| host);
        host.starts_with("127.") || host.starts_with("[::1]") || host.split(':').next() == Some("localhost")
    }

    /// `text` with every secret of this target blotted out, should a server have repeated one.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), "…"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "influx {}", self.origin)?;
        match &self.into {
            Into::Database(name) => write!(f, " database {name}"),
            Into::Bucket { org, bucket } => write!(f, " bucket {org}/{bucket}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[derive(Default)]
struct Keys {
    db: Option<String>,
    rp: Option<String>,
    org: Option<String>,
    bucket: Option<String>,
    token: Option<String>,
}

impl Keys {
    fn parse(query: &str) -> Result<Keys, TargetError> {
        let mut keys = Keys::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, slot) = match key {
                "db" => ("db", &mut keys.db),
                "rp" => ("rp", &mut keys.rp),
                "org" => ("org", &mut keys.org),
                "bucket" => ("bucket", &mut keys.bucket),
                "token" => ("token", &mut keys.token),
                other => {
                    // a token pasted without its key would stand here: show no more than a key's length
                    return Err(TargetError::UnknownKey(other.chars().take(12).collect()));
                }
            };
            let value = decode(value, name)?;
            if value.is_empty() || slot.replace(value).is_some() {
                return Err(TargetError::Key(name));
            }
        }
        Ok(keys)
    }

    /// What to write into, and the path with its query.
    fn into_what(self) -> Result<(Into, String), TargetError> {
        match (self.db, self.rp, self.org, self.bucket) {
            (None, None, None, None) => Err(TargetError::Nothing),
            (Some(db), rp, None, None) => {
                let rp = rp.map_or(String::new(), |rp| format!("&rp={}", encode(&rp)));
                let path = format!("/write?db={}{rp}", encode(&db));
                Ok((Into::Database(db), path))
            }
            (None, None, Some(org), Some(bucket)) => {
                let path = format!("/api/v2/write?org={}&bucket={}", encode(&org), encode(&bucket));
                Ok((Into::Bucket { org, bucket }, path))
            }
            (None, Some(_), None, None) => Err(TargetError::Half { missing: "db (rp alone names no database)" }),
            (None, None, Some(_), None) => Err(TargetError::Half { missing: "bucket" }),
            (None, None, None, Some(_)) => Err(TargetError::Half { missing: "org" }),
            _ => Err(TargetError::Both),
        }
    }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
fn check_host(host: &str) -> Result<(), TargetError> {
    let (name_ok, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(TargetError::Host)?;
            (address.parse::<std::net::Ipv6Addr>().is_ok(), port.strip_prefix(':').or((!port.is_empty()).then_some("")))
        }
        None => {
            let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
            (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)), port)
        }
    };
    let port_ok = port
        .is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0));
    if name_ok && port_ok { Ok(()) } else { Err(TargetError::Host) }
}

/// Percent-decodes; `part` names the text in errors, since its value may be a secret.
fn decode(text: &str, part: &'static str) -> Result<String, TargetError> {
    let wrong = TargetError::Encoding(part);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(wrong),
                }
            }
            other => other,
        };
        bytes.push(decoded);
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong.clone())?;
    if text.chars().any(char::is_control) { Err(wrong) } else { Ok(text) }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 §2.3.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(url: &str) -> Result<Target, TargetError> {
        Target::parse(url, None)
    }

    #[test]
    fn databases() {
        let t = parse("http://127.0.0.1:8086?db=llama").expect("target");
        assert_eq!(t.write_url(), "http://127.0.0.1:8086/write?db=llama&precision=ns");
        assert_eq!(t.query_url(), Some("http://127.0.0.1:8086/query?db=llama&epoch=ns&chunked=true"));
        assert_eq!((t.authorization(), t.is_loopback()), (None, true));
        assert_eq!(t.to_string(), "influx http://127.0.0.1:8086 database llama");

        let t = parse("HTTPS://us%40er:p%3Ass@db.example/influx/?db=a%20b&rp=30d").expect("target");
        assert_eq!(t.write_url(), "https://db.example/influx/write?db=a%20b&rp=30d&precision=ns");
        assert_eq!(t.authorization(), Some("Basic dXNAZXI6cDpzcw=="));
        assert!(!t.is_loopback());

        let t = Target::parse("http://[::1]:8086/?db=x", Some("secret")).expect("target");
        assert_eq!((t.authorization(), t.is_loopback()), (Some("Token secret"), true));
    }

    #[test]
    fn buckets() {
        let t = Target::parse("http://db:8086?org=o&bucket=b%2Fc", Some("from-env")).expect("target");
        assert_eq!(t.write_url(), "http://db:8086/api/v2/write?org=o&bucket=b%2Fc&precision=ns");
        assert_eq!(t.authorization(), Some("Token from-env"));
        let t = Target::parse("http://db:8086?org=o&bucket=b&token=mine", Some("from-env")).expect("target");
        assert_eq!(t.authorization(), Some("Token mine"));
    }

    #[test]
    fn wrong_urls_name_what_is_wrong() {
        use TargetError::*;
        for (url, error) in [
            ("db:8086?db=x", Scheme),
            ("udp://db:8089?db=x", Scheme),
            ("http://?db=x", Host),
            ("http://db:0?db=x", Host),
            ("http://db:99999?db=x", Host),
            ("http://db:+80?db=x", Host),
            ("http://::1:8086?db=x", Host),
            ("http://[::1?db=x", Host),
            ("http://[::1]8086?db=x", Host),
            ("http://db", Nothing),
            ("http://db?", Nothing),
            ("http://db?db=x&bucket=y", Both),
            ("http://db?org=o&bucket=y&rp=z", Both),
            ("http://db?org=o", Half { missing: "bucket" }),
            ("http://db?bucket=o", Half { missing: "org" }),
            ("http://db?rp=o", Half { missing: "db (rp alone names no database)" }),
            ("http://db?org=o&bucket=b", Token),
            ("http://db?org=o&bucket=b&token=", Key("token")),
            ("http://db?db=", Key("db")),
            ("http://db?db=a&db=b", Key("db")),
            ("http://db?database=a", UnknownKey("database".into())),
            ("http://db?db=%zz", Encoding("db")),
            ("http://db?db=%0a", Encoding("db")),
            ("http://db?db=%ff", Encoding("db")),
            ("http://db/a b?db=x", Encoding("the path")),
            ("http://u:%@db?db=x", Encoding("the password")),
            ("http://u:p@db?db=x&token=t", TwoSecrets),
            ("http://u:p@db?org=o&bucket=b&token=t", PasswordForBucket),
        ] {
            assert_eq!(parse(url).map(|t| t.to_string()), Err(error), "{url}");
        }
        assert!(parse("http://db?org=o&bucket=b").is_err_and(|e| e.to_string().contains("INFLUX_TOKEN")));
    }

    #[test]
    fn secrets_do_not_show() {
        let t = parse("http://user:hidden1@db?db=x").expect("target");
        for text in [format!("{t} {t:?}"), t.write_url().into(), t.without_secrets("you sent hidden1 dXNlcjpoaWRkZW4x")]
        {
            assert!(!text.contains("hidden1") && !text.contains("dXNlcjpoaWRkZW4x"), "{text}");
        }
        let t = parse("http://db?org=o&bucket=b&token=hidden2").expect("target");
        assert!(!format!("{t} {t:?} {}", t.write_url()).contains("hidden2"));
        for url in [
            "http://u:hidden%@db?db=x",
            "http://db?org=o&bucket=b&token=hidden%",
            "http://u:hidden@db?db=x&token=hidden",
        ] {
            let error = parse(url).expect_err("error");
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        }
    }

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    proptest! {
        #[test]
        fn names_survive_encoding(name in "[^\\p{Cc}]{1,20}") {
            prop_assert_eq!(decode(&encode(&name), "name"), Ok(name));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "(http://)?.{0,40}") {
            let _ = parse(&text);
        }
    }
}
