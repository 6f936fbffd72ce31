//! Which names this server answers to, and whose pages may use it.
//!
//! A page of any site can make its visitor's browser send requests to this server. It can do so in its own
//! name (a cross-site form; the browser says whose page it is in `Origin`), or give its own name this
//! server's address (DNS rebinding; the browser then believes that they are one site, and only `Host` tells
//! them apart). Nothing else stands between such a page and a server on loopback, which asks for no key.
//!
//! Whoever's page may ask may also read the answer, in the browser too: such requests are answered with CORS
//! headers, and with them the question that a browser asks before (the preflight).

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, Version, header};

use super::error::{ApiError, Fault};

/// The names that a server answers to.
#[derive(Clone, Debug)]
pub struct Hosts {
    is_loopback: bool,
    is_any: bool,
    /// The names that it was given, in lower case.
    names: Vec<String>,
    /// Whose pages may use the server beside its own.
    origins: Vec<Origin>,
    is_any_origin: bool,
}

/// Pages that may use the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// Files and sandboxed frames.
    Null,
    /// The pages of one site, by scheme, name and port.
    Site {
        scheme: String,
        /// A name beginning with a dot is everything below it.
        name: String,
        /// `None` is any.
        port: Option<u16>,
    },
}

impl Origin {
    fn of(entry: &str) -> Option<Self> {
        if entry == "null" {
            return Some(Self::Null);
        }
        let (scheme, authority) = entry.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default = default_port(&scheme)?;
        let (authority, is_any_port) =
            authority.strip_suffix(":*").map_or((authority, false), |authority| (authority, true));
        let place = Place::of(authority.strip_prefix("*.").unwrap_or(authority))?;
        let is_whole = !place.name.contains('*') && (!is_any_port || place.port.is_none());
        let port = if is_any_port { None } else { Some(place.port.unwrap_or(default)) };
        let name = if authority.starts_with("*.") { format!(".{}", place.name) } else { place.name };
        is_whole.then_some(Self::Site { scheme, name, port })
    }

    fn is(&self, other_scheme: &str, place: &Place) -> bool {
        let Self::Site { scheme, name, port } = self else { return false };
        let is_named =
            if name.starts_with('.') { place.name.ends_with(name.as_str()) } else { place.name == *name };
        let given = place.port.or_else(|| default_port(other_scheme));
        is_named && scheme == other_scheme && (port.is_none() || *port == given)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// A host and its port, as `Host` and `Origin` have them.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Lower case, without brackets and without the dot at its end.
    name: String,
    port: Option<u16>,
}

fn name_of(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl Place {
    fn of(authority: &str) -> Option<Self> {
        let authority: Authority = authority.parse().ok().filter(|_| !authority.contains('@'))?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("" | ":") => None,
            _ => Some(authority.port_u16()?),
        };
        Some(Self { name: name_of(authority.host()), port }).filter(|place| !place.name.is_empty())
    }

    fn address(&self) -> Option<IpAddr> {
        self.name.parse().ok().map(|address: IpAddr| address.to_canonical())
    }

    fn is_loopback(&self) -> bool {
        self.name == "localhost"
            || self.name.ends_with(".localhost")
            || self.address().is_some_and(|address| address.is_loopback())
    }
}

impl Hosts {
    /// The names of a server that listens on `bound`.
    ///
    /// - `allowed`: names beside those that are always answered: `translate.example.org`, `*.example.org`, or
    ///   `*` for all.
    ///
    /// # Errors
    /// The entry that is no name, and why.
    pub fn new(bound: IpAddr, allowed: &[String]) -> Result<Self, String> {
        let mut hosts = Self {
            is_loopback: bound.to_canonical().is_loopback(),
            is_any: false,
            names: Vec::new(),
            origins: Vec::new(),
            is_any_origin: false,
        };
        for entry in allowed.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                hosts.is_any = true;
                continue;
            }
            let place = Place::of(entry.strip_prefix("*.").unwrap_or(entry));
            let place = place.filter(|place| place.port.is_none() && !place.name.contains('*'));
            let Some(place) = place else {
                return Err(format!(
                    "{entry:?} is no host name; a name such as translate.example.org, without scheme and \
                     port, is wanted"
                ));
            };
            hosts.names.push(if entry.starts_with("*.") { format!(".{}", place.name) } else { place.name });
        }
        Ok(hosts)
    }

    /// Lets pages of `origins` use the server too: `https://app.example.org`, `http://192.0.2.1:3000`,
    /// `http://a.example:*`, `https://*.example.org`, `null` for files, or `*` for all.
    ///
    /// # Errors
    /// The entry that is no origin, and what would be one.
    pub fn with_origins(mut self, origins: &[String]) -> Result<Self, String> {
        for entry in origins.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                self.is_any_origin = true;
                continue;
            }
            let origin = Origin::of(entry);
            self.origins.push(origin.ok_or_else(|| {
                format!(
                    "{entry:?} is no origin; scheme, name and port, such as https://app.example.org or \
                    http://a.example:3000, or * are wanted"
                )
            })?);
        }
        Ok(self)
    }

    fn is_named(&self, place: &Place) -> bool {
        let is_it = |name: &String| {
            if name.starts_with('.') { place.name.ends_with(name.as_str()) } else { place.name == *name }
        };
        self.names.iter().any(is_it)
    }

    /// Whether no page of a strange site can have this name: loopback names always; on a server that listens
    /// beyond loopback also addresses, which are no names, and names without a dot, which nobody can
    /// register.
    fn is_own(&self, place: &Place) -> bool {
        place.is_loopback() || (!self.is_loopback && (place.address().is_some() || !place.name.contains('.')))
    }

    /// Checks whom a request is for, and whose page sends it; gives who may read the answer, as
    /// `Access-Control-Allow-Origin` has it, where a page asks.
    ///
    /// # Errors
    /// `BadRequest` where that is not clear, `WrongHost`, `ForeignOrigin`.
    pub(super) fn check(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, ApiError> {
        let host = host(version, uri, headers)?;
        if let Some(host) = &host
            && !(self.is_any || self.is_own(host) || self.is_named(host))
        {
            let name = &host.name;
            let message = format!(
                "this server is not {name}; start it with --allowed-host {name} if it should answer to that \
                 name"
            );
            return Err(ApiError::new(Fault::WrongHost, message));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) if !self.is_any_origin && is_loaded_elsewhere(headers) => {
                let message = "pages of other sites may not load anything from this server";
                Err(ApiError::new(Fault::ForeignOrigin, message))
            }
            (None, _) => Ok(None),
            (Some(_), None) if self.is_any_origin => Ok(Some(HeaderValue::from_static("*"))),
            (Some(origin), None) if self.is_welcome(origin, host.as_ref()) => Ok(Some(origin.clone())),
            (Some(origin), _) => {
                let origin = String::from_utf8_lossy(origin.as_bytes());
                let help = Origin::of(&origin).filter(|_| !origin.contains('*'));
                let help = help.map_or_else(String::new, |_| {
                    format!("; start it with --cors-origin {origin} if they should")
                });
                let message = format!("pages of {origin} may not use this server{help}");
                Err(ApiError::new(Fault::ForeignOrigin, message))
            }
        }
    }

    /// Whether pages of `origin` may use this server.
    fn is_welcome(&self, origin: &HeaderValue, host: Option<&Place>) -> bool {
        let Some((scheme, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://"))
        else {
            // `null`: a sandboxed frame or a file, from anywhere.
            return origin == "null" && self.origins.contains(&Origin::Null);
        };
        let scheme = scheme.to_ascii_lowercase();
        // Browser extensions and applications, which somebody has installed; no site can have such an origin.
        let Some(default) = default_port(&scheme) else { return true };
        let Some(origin) = Place::of(authority) else { return false };
        // The scheme that the client used is not known: a proxy may speak TLS in front of this server.
        let is_same = host.is_some_and(|host| {
            let port = origin.port.unwrap_or(default);
            host.name == origin.name && host.port.map_or(port == default, |own| own == port)
        });
        is_same
            || (origin.is_loopback() && (self.is_loopback || host.is_some_and(Place::is_loopback)))
            || self.is_named(&origin)
            || self.origins.iter().any(|known| known.is(&scheme, &origin))
    }
}

/// Whether a page of another site loads a picture, a script or a frame from here: browsers send no `Origin`
/// with those.
fn is_loaded_elsewhere(headers: &HeaderMap) -> bool {
    let said = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    said("sec-fetch-site", "cross-site") && !said("sec-fetch-dest", "document")
}

/// Whom a request is for. HTTP/1.0 need not say it: old health checks do not, and no browser speaks it.
fn host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Option<Place>, ApiError> {
    let bad = |message: &str| ApiError::new(Fault::BadRequest, message);
    let mut given = headers.get_all(header::HOST).iter();
    let host = match (given.next(), given.next()) {
        (None, _) if version >= Version::HTTP_11 => return Err(bad("the request has no Host header")),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(bad("the request has several Host headers")),
        (Some(host), None) => {
            let place = host.to_str().ok().and_then(|host| Place::of(host.trim()));
            Some(place.ok_or_else(|| bad("the Host header is no host with an optional port"))?)
        }
    };
    let Some(target) = uri.authority() else { return Ok(host) };
    let target =
        Place::of(target.as_str()).ok_or_else(|| bad("the target is no host with an optional port"))?;
    let is_default = |port: Option<u16>| port.is_none() || port == Some(80);
    match host {
        Some(host)
            if host.name != target.name
                || (host.port != target.port && !(is_default(host.port) && is_default(target.port))) =>
        {
            Err(bad("the target of the request and its Host header name different hosts"))
        }
        _ => Ok(Some(target)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(hosts: &Hosts, uri: &str, headers: &[(&'static str, &str)]) -> Result<(), Fault> {
        let headers = headers
            .iter()
            .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>();
        hosts.check(Version::HTTP_11, &uri.parse().unwrap(), &headers).map(drop).map_err(|error| error.fault)
    }

    fn hosts(bound: &str, allowed: &[&str]) -> Hosts {
        Hosts::new(bound.parse().unwrap(), &allowed.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
            .unwrap()
    }

    #[test]
    fn on_loopback_only_loopback_names_are_answered() {
        let hosts = hosts("127.0.0.1", &[]);
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "a.localhost",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(check(&hosts, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "s2s",
        ] {
            assert_eq!(check(&hosts, "/", &[("host", host)]), Err(Fault::WrongHost), "{host}");
        }
        for host in [
            "",
            "a b",
            "localhost:x",
            "localhost:99999",
            "user@localhost",
            "http://localhost",
            "[::1",
            "a,b/",
        ] {
            assert_eq!(check(&hosts, "/", &[("host", host)]), Err(Fault::BadRequest), "{host}");
        }
    }

    #[test]
    fn beyond_loopback_addresses_and_names_that_nobody_can_register_are_answered() {
        let hosts = hosts("0.0.0.0", &["Translate.Example.org", "*.example.net"]);
        for host in [
            "localhost:8080",
            "192.0.2.1:8080",
            "[2001:db8::1]",
            "s2s:8080",
            "translate.example.org:443",
            "a.b.example.net",
        ] {
            assert_eq!(check(&hosts, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["example.org", "a.translate.example.org", "example.net", "badexample.net"] {
            assert_eq!(check(&hosts, "/", &[("host", host)]), Err(Fault::WrongHost), "{host}");
        }
        let any = self::hosts("0.0.0.0", &["*"]);
        assert_eq!(check(&any, "/", &[("host", "whatever.example")]), Ok(()));
    }

    #[test]
    fn a_request_is_for_exactly_one_host() {
        let hosts = hosts("127.0.0.1", &[]);
        assert_eq!(check(&hosts, "/", &[]), Err(Fault::BadRequest));
        assert_eq!(
            check(&hosts, "/", &[("host", "localhost"), ("host", "localhost")]),
            Err(Fault::BadRequest)
        );
        assert_eq!(check(&hosts, "http://localhost/", &[("host", "localhost:80")]), Ok(()));
        assert_eq!(check(&hosts, "http://evil.example/", &[("host", "localhost")]), Err(Fault::BadRequest));
        assert_eq!(check(&hosts, "http://localhost:81/", &[("host", "localhost")]), Err(Fault::BadRequest));
        assert_eq!(check(&hosts, "http://evil.example/", &[("host", "evil.example")]), Err(Fault::WrongHost));
        let old = hosts.check(Version::HTTP_10, &"/".parse().unwrap(), &HeaderMap::new());
        assert_eq!(old, Ok(None));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let local = hosts("127.0.0.1", &["translate.example.org"]);
        let at = |hosts: &Hosts, host: &str, origin: &str| {
            check(hosts, "/", &[("host", host), ("origin", origin)])
        };
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("localhost:8080", "http://127.0.0.1:3000"),
            ("localhost", "https://localhost"),
            ("localhost:8080", "chrome-extension://abcdef"),
            ("localhost:8080", "moz-extension://0-1-2"),
            ("translate.example.org", "https://translate.example.org"),
            ("127.0.0.1:8080", "https://translate.example.org"),
        ] {
            assert_eq!(at(&local, host, origin), Ok(()), "{origin}");
        }
        for origin in
            ["null", "http://evil.example", "https://localhost.evil.example", "http://", "http://[", "file"]
        {
            assert_eq!(at(&local, "localhost:8080", origin), Err(Fault::ForeignOrigin), "{origin}");
        }
        let loads = |site: &str, to: &str| {
            check(&local, "/", &[("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-dest", to)])
        };
        assert_eq!(loads("cross-site", "image"), Err(Fault::ForeignOrigin));
        assert_eq!(
            (loads("cross-site", "document"), loads("same-origin", "empty"), loads("none", "document")),
            (Ok(()), Ok(()), Ok(()))
        );
        // In a container it listens beyond loopback, and the browser beside it calls it localhost.
        assert_eq!(at(&hosts("0.0.0.0", &[]), "localhost:8080", "http://localhost:3000"), Ok(()));
        let wide = hosts("0.0.0.0", &["*"]);
        assert_eq!(at(&wide, "a.example:8080", "http://a.example:8080"), Ok(()));
        for origin in ["http://a.example", "http://b.example:8080", "http://localhost:8080", "null"] {
            assert_eq!(at(&wide, "a.example:8080", origin), Err(Fault::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn pages_that_are_named_may_ask_and_read_and_no_others() {
        let origins = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let named = [
            "https://app.example",
            "http://a.example:*",
            "https://*.b.example",
            "http://c.example:3000",
            "null",
        ];
        let named = hosts("127.0.0.1", &[]).with_origins(&origins(&named)).unwrap();
        let may = |hosts: &Hosts, origin: &str| {
            check(hosts, "/", &[("host", "localhost:8080"), ("origin", origin)]).is_ok()
        };
        for origin in [
            "https://APP.example",
            "https://app.example:443",
            "http://a.example",
            "http://a.example:9",
            "https://x.b.example",
            "http://c.example:3000",
            "null",
            "http://localhost:5173",
        ] {
            assert!(may(&named, origin), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example:8443",
            "https://b.example",
            "https://xb.example",
            "http://c.example",
            "https://app.example.evil.example",
            "http://evil.example",
        ] {
            assert!(!may(&named, origin), "{origin}");
        }
        let any = hosts("0.0.0.0", &[]).with_origins(&origins(&["*"])).unwrap();
        assert!(may(&any, "http://evil.example") && may(&any, "null"));
        for entry in [
            "app.example",
            "ftp://a.example",
            "https://",
            "https://*",
            "https://a*.example",
            "https://a.example/path",
            "http://a:1:*",
        ] {
            assert!(hosts("127.0.0.1", &[]).with_origins(&origins(&[entry])).is_err(), "{entry}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_told_before_the_server_starts() {
        for entry in ["http://a.example", "a.example:80", "a b", "*.*", "*a.example", "a/b", "a@b"] {
            assert!(Hosts::new([127, 0, 0, 1].into(), &[entry.to_owned()]).is_err(), "{entry}");
        }
    }
}
