//! `Connection`: the headers that it nominates belong to one connection and end there (RFC 9110, 7.6.1).

use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE},
};

/// The options that a request may state and still share. An intermediary that removes these headers changes
/// nothing that a response depends on: they are outside of the key, or requests that have them run alone.
const USUAL: [&[u8]; 10] = [
    b"keep-alive",
    b"close",
    b"te",
    b"upgrade",
    b"trailer",
    b"trailers",
    b"transfer-encoding",
    b"proxy-connection",
    b"http2-settings",
    b"connection",
];

/// The elements of a comma-separated list. Empty ones are allowed anywhere, and say nothing.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}

/// The options in one line of `Connection` that are not the usual ones: nominated headers, and text that is no
/// name of a header.
pub(super) fn unusual(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_usual = |option: &[u8]| USUAL.iter().any(|usual| option.eq_ignore_ascii_case(usual));
    elements(value).filter(move |option| !is_usual(option))
}

/// The headers that `Connection` nominates in the head of a message.
pub(super) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let options = headers.get_all(CONNECTION).iter().flat_map(|value| elements(value.as_bytes()));
    options.filter_map(|option| HeaderName::from_bytes(option).ok()).collect()
}

/// Removes the headers or trailers that are about the connection of the request that was executed: those that
/// are nominated, and those that are hop by hop in any case. `Trailer` stays: HTTP/1.1 sends no trailers
/// without it.
pub(super) fn remove_hop_by_hop(fields: &mut HeaderMap, nominated: &[HeaderName]) {
    const KNOWN: [HeaderName; 7] = [
        CONNECTION,
        PROXY_AUTHENTICATE,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    for name in nominated.iter().chain(&KNOWN) {
        fields.remove(name);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use http::{HeaderValue, header::TRAILER};

    use super::*;

    #[test]
    fn headers_about_a_connection_stay_with_it() {
        let mut headers = HeaderMap::new();
        let hops = ["connection", "keep-alive", "transfer-encoding", "x-hop"];
        for (name, value) in hops.into_iter().zip(["X-Hop, close", "timeout=5", "chunked", "1"]) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.append(CONNECTION, HeaderValue::from_static(",x-other,"));
        headers.insert("x-other", HeaderValue::from_static("1"));
        headers.insert(TRAILER, HeaderValue::from_static("x-sum"));
        let nominated = nominated(&headers);
        remove_hop_by_hop(&mut headers, &nominated);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [TRAILER]);
    }

    #[test]
    fn only_the_usual_options_change_nothing() {
        for usual in ["", "close", "Keep-Alive", ",TE ,\tclose,", "Upgrade, HTTP2-Settings"] {
            assert_eq!(unusual(usual.as_bytes()).next(), None, "{usual}");
        }
        let unusual_options: [&[u8]; 5] =
            [b"accept-language", b"clos", b"close x", b"\"close\"", b"caf\xe9"];
        for option in unusual_options {
            let value = [b"close, ", option, b",te"].concat();
            assert_eq!(unusual(&value).collect::<Vec<_>>(), [option]);
        }
    }
}
