//! The body of a one-click request, which mail programs post in either form of HTML (RFC 8058, section 3.2). Pure.

/// Name and value of the only field of a form; unset for a form with more, and for anything else.
pub(super) fn only_field(content_type: Option<&str>, body: &[u8]) -> Option<(String, String)> {
    let (media_type, parameters) = content_type?.split_once(';').unwrap_or((content_type?, ""));
    let mut fields = match media_type.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => url::form_urlencoded::parse(body).into_owned().collect(),
        "multipart/form-data" => multipart(&parameter(parameters, "boundary")?, std::str::from_utf8(body).ok()?)?,
        _ => Vec::new(),
    };
    let field = fields.pop()?;
    fields.is_empty().then_some(field)
}

/// The fields of a multipart form (RFC 7578), none of which is a file.
fn multipart(boundary: &str, body: &str) -> Option<Vec<(String, String)>> {
    // Some programs end their lines with LF alone.
    let body = format!("\n{}", body.replace("\r\n", "\n"));
    let delimiter = format!("\n--{boundary}");
    let mut parts = body.split(&delimiter);
    // What stands before the first boundary means nothing.
    parts.next()?;
    let mut fields = Vec::new();
    for part in parts {
        if part.starts_with("--") {
            return Some(fields);
        }
        fields.push(field(part.trim_start_matches([' ', '\t']).strip_prefix('\n')?)?);
    }
    // The last boundary is missing: who knows what else is.
    None
}

fn field(part: &str) -> Option<(String, String)> {
    let (head, value) = part.split_once("\n\n")?;
    let disposition = head.split('\n').find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (kind, parameters) = disposition.split_once(';')?;
    let name = parameter(parameters, "name").filter(|_| kind.trim().eq_ignore_ascii_case("form-data"))?;
    Some((name, value.to_owned()))
}

/// The value of a parameter of a header, in quotes or without.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
    })?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (!value.is_empty() && value.len() <= 70).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
    const PARTS: Option<&str> = Some("multipart/form-data; boundary=---FormBoundaryjWmhtjORrn");

    fn one_click() -> Option<(String, String)> {
        Some(("List-Unsubscribe".into(), "One-Click".into()))
    }

    /// The example of RFC 8058, section 8.2.
    const EXAMPLE: &str = "-----FormBoundaryjWmhtjORrn\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\n\
                           One-Click\r\n-----FormBoundaryjWmhtjORrn--\r\n";

    #[test]
    fn one_click_is_read_in_both_forms() {
        assert_eq!(only_field(FORM, b"List-Unsubscribe=One-Click"), one_click());
        let charset = Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8");
        assert_eq!(only_field(charset, b"List-Unsubscribe=One-Click"), one_click());
        assert_eq!(only_field(PARTS, EXAMPLE.as_bytes()), one_click());
        assert_eq!(only_field(PARTS, EXAMPLE.replace("\r\n", "\n").as_bytes()), one_click());
        let quoted = Some("multipart/form-data; charset=utf-8; boundary=\"---FormBoundaryjWmhtjORrn\"");
        let more = EXAMPLE.replace("\r\n\r\n", "\r\nContent-Type: text/plain\r\n\r\n");
        assert_eq!(only_field(quoted, format!("preamble\r\n{more}epilogue").as_bytes()), one_click());
    }

    #[test]
    fn anything_else_is_not() {
        let two = EXAMPLE.replace(
            "-----FormBoundaryjWmhtjORrn--",
            "-----FormBoundaryjWmhtjORrn\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n-----FormBoundaryjWmhtjORrn--",
        );
        for (content_type, body) in [
            (None, "List-Unsubscribe=One-Click"),
            (Some("text/plain"), "List-Unsubscribe=One-Click"),
            (Some("application/json"), "{\"List-Unsubscribe\":\"One-Click\"}"),
            (FORM, ""),
            (FORM, "List-Unsubscribe=One-Click&more=1"),
            (FORM, "List-Unsubscribe=One-Click&List-Unsubscribe=One-Click"),
            (PARTS, ""),
            (PARTS, "List-Unsubscribe=One-Click"),
            (PARTS, two.as_str()),
            (PARTS, EXAMPLE.trim_end_matches("--\r\n")),
            (Some("multipart/form-data"), EXAMPLE),
            (Some("multipart/form-data; boundary=another"), EXAMPLE),
        ] {
            assert_eq!(only_field(content_type, body.as_bytes()), None, "{content_type:?} {body}");
        }
        assert_ne!(only_field(FORM, b"List-Unsubscribe=one-click"), one_click());
        assert_eq!(only_field(PARTS, &[0xff, 0xfe]), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = only_field(PARTS, &body);
            let _ = only_field(FORM, &body);
        }

        #[test]
        fn a_cut_example_is_refused(length in 0..EXAMPLE.len() - 4) {
            prop_assert_eq!(only_field(PARTS, &EXAMPLE.as_bytes()[..length]), None);
        }
    }
}
