//! Headers that end at a proxy, and those with which it says that a message went through it.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA},
};

/// About one connection, also where `Connection` does not name them (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes `Connection`, what it names, and what is hop by hop in any case.
pub fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = items(headers, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The name of this proxy, which no other has: a request that comes with it has gone in a circle.
#[derive(Clone)]
pub struct Hop {
    name: String,
}

impl Hop {
    pub fn new() -> Self {
        Self { name: format!("shardflight-{:08x}", fastrand::u32(..)) }
    }

    /// Whether the message has been here before.
    pub fn has_passed(&self, headers: &HeaderMap) -> bool {
        items(headers, &VIA).any(|hop| hop.split_whitespace().nth(1) == Some(&self.name))
    }

    /// Says that a message that was received in this version of HTTP went through here.
    pub fn mark(&self, version: Version, headers: &mut HeaderMap) {
        let version = match version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        };
        headers.append(VIA, value(format!("{version} {}", self.name)));
    }
}

impl Default for Hop {
    fn default() -> Self {
        Self::new()
    }
}

/// Says whose request it is, and what it asked for: the server behind sees only the proxy.
///
/// The client's address goes after those that are there: only the last one is certain. Host and scheme are
/// said by the first proxy, which might not be this one.
pub fn forwarded(client: IpAddr, headers: &mut HeaderMap) {
    let mut clients: Vec<_> = items(headers, &X_FORWARDED_FOR).map(str::to_owned).collect();
    clients.push(client.to_string());
    headers.insert(X_FORWARDED_FOR, value(clients.join(", ")));
    if let Some(host) = headers.remove(HOST) {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    // It says the same, without this hop.
    headers.remove(FORWARDED);
}

/// The items of a list, which may be in several fields.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(name).into_iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of visible characters")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|&(name, of)| (name.parse().unwrap(), HeaderValue::from_static(of))).collect()
    }

    fn appended(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, of) in fields {
            headers.append(name, HeaderValue::from_static(of));
        }
        headers
    }

    #[test]
    fn what_is_about_one_connection_ends_here() {
        let mut all = appended(&[
            ("connection", "close, X-Once"),
            ("connection", " x-twice ,, not a name"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-once", "1"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("x-end-to-end", "1"),
            ("trailer", "x-sum"),
        ]);
        strip(&mut all);
        assert_eq!(all, headers(&[("x-end-to-end", "1"), ("trailer", "x-sum")]));
    }

    #[test]
    fn a_circle_is_seen() {
        let (hop, other) = (Hop::new(), Hop::new());
        let mut headers = headers(&[("via", "1.1 shardflight (a comment), 2 elsewhere")]);
        assert!(!hop.has_passed(&headers));
        hop.mark(Version::HTTP_11, &mut headers);
        other.mark(Version::HTTP_2, &mut headers);
        assert!(hop.has_passed(&headers) && other.has_passed(&headers));
        assert!(!Hop::new().has_passed(&headers));
    }

    #[test]
    fn the_client_comes_last_and_the_first_host_stays() {
        let client = Ipv4Addr::new(192, 0, 2, 7).into();
        let mut direct = headers(&[("host", "shop.example"), ("forwarded", "for=192.0.2.1")]);
        forwarded(client, &mut direct);
        let expected = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(direct, headers(&expected));

        let mut behind_another = appended(&[
            ("host", "inside"),
            ("x-forwarded-for", "198.51.100.1, 198.51.100.2"),
            ("x-forwarded-for", "198.51.100.3"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
        ]);
        forwarded(client, &mut behind_another);
        let expected = [
            ("x-forwarded-for", "198.51.100.1, 198.51.100.2, 198.51.100.3, 192.0.2.7"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(behind_another, headers(&expected));
    }
}
