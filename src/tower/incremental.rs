//! `Incremental`: the sender wants its message to be forwarded as it arrives (RFC 10036).

use http::{HeaderMap, HeaderName};

/// A constant would be made and dropped at each comparison.
pub(super) static INCREMENTAL: HeaderName = HeaderName::from_static("incremental");

/// Whether the header is a structured field that is true: one line `?1`, with parameters or without. Anything
/// else is as if it were absent (RFC 9651, 4.2).
pub(super) fn is_incremental(headers: &HeaderMap, name: &HeaderName) -> bool {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => is_true(line.as_bytes()),
        _ => false,
    }
}

fn is_true(line: &[u8]) -> bool {
    let is_space = |byte: &u8| *byte == b' ';
    let Some(start) = line.iter().position(|byte| !is_space(byte)) else { return false };
    match line[start..].strip_prefix(b"?1") {
        Some(parameters) => are_parameters(parameters),
        None => false,
    }
}

/// `;key=value;key`, where a value is a number, a token, a string, bytes, a boolean or a date. What a value may
/// look like is checked as far as it takes to find its end.
fn are_parameters(mut rest: &[u8]) -> bool {
    while !rest.iter().all(|byte| *byte == b' ') {
        let Some(parameter) = rest.strip_prefix(b";") else { return false };
        let parameter = &parameter[count(parameter, |byte| byte == b' ')..];
        let starts_key = |byte: u8| byte.is_ascii_lowercase() || byte == b'*';
        let in_key = |byte: u8| starts_key(byte) || byte.is_ascii_digit() || b"_-.".contains(&byte);
        if count(parameter, starts_key) == 0 {
            return false;
        }
        rest = &parameter[count(parameter, in_key)..];
        if let Some(value) = rest.strip_prefix(b"=") {
            let Some(length) = length_of_value(value) else { return false };
            rest = &value[length..];
        }
    }
    true
}

/// `None` if it is no value.
fn length_of_value(value: &[u8]) -> Option<usize> {
    let length = match value.first()? {
        b'"' => {
            let mut escaped = false;
            let end = value[1..].iter().position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            });
            return Some(end? + 2);
        }
        b':' => return Some(value[1..].iter().position(|byte| *byte == b':')? + 2),
        b'?' => return value.get(1).filter(|byte| b"01".contains(byte)).map(|_| 2),
        _ => count(value, |byte| byte.is_ascii_graphic() && !b";,\"=".contains(&byte)),
    };
    (length > 0).then_some(length)
}

fn count(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| wanted(**byte)).count()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn says(lines: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&INCREMENTAL, HeaderValue::from_static(line));
        }
        is_incremental(&headers, &INCREMENTAL)
    }

    #[test]
    fn true_is_one_structured_boolean_with_or_without_parameters() {
        for line in
            ["?1", " ?1 ", "?1;a", "?1; a=1;b=\"x;\\\"y\";c=:YQ==:;d=?0 ", "?1;*k-1.x=tok/en"]
        {
            assert!(says(&[line]), "{line}");
        }
        for line in [
            "",
            "?0",
            "1",
            "true",
            "?",
            "?11",
            "?1x",
            "?1, ?1",
            "?1 ;a",
            "?1;",
            "?1;A",
            "?1;a=",
            "?1;a=\"x",
            "?1;a=?2",
            "?1;a b",
            "\"?1\"",
            "?1;a=1,?1",
            "?T",
        ] {
            assert!(!says(&[line]), "{line}");
        }
        assert!(!says(&["?1", "?1"]));
        assert!(!says(&[]));
    }
}
