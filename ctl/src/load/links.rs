//! Where a request's signals can be looked at. The service hands out templates at `GET /links`; here they are filled in.

use serde::Deserialize;

/// Templates with placeholders; absent where the service was given none.
#[derive(Debug, Default, Deserialize)]
pub struct Templates {
    pub trace: Option<String>,
    pub logs: Option<String>,
    pub metrics: Option<String>,
    pub profile: Option<String>,
    /// In place of `profile` for an answer that names samples of its own.
    pub span_profile: Option<String>,
}

/// Values of one request, by placeholder name.
pub type Values<'a> = [(&'a str, String)];

/// Puts each `{name}` that has a value in its place, percent-encoded, since every place is inside a URL. Other braces are text:
/// links into Grafana carry JSON.
pub fn expand(template: &str, values: &Values<'_>) -> String {
    let mut url = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, from_brace) = rest.split_at(open);
        url.push_str(before);
        let known = values.iter().find(|(name, _)| {
            from_brace[1..]
                .strip_prefix(name)
                .is_some_and(|after| after.starts_with('}'))
        });
        rest = match known {
            Some((name, value)) => {
                percent_encode(value, &mut url);
                &from_brace[name.len() + 2..]
            }
            None => {
                url.push('{');
                &from_brace[1..]
            }
        };
    }
    url.push_str(rest);
    url
}

/// All but RFC 3986's unreserved characters.
fn percent_encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_and_encoded() {
        let values = [
            ("trace_id", "0af7".to_owned()),
            ("route", "/demo/work".to_owned()),
        ];
        assert_eq!(
            expand("http://v/traces/{trace_id}#span", &values),
            "http://v/traces/0af7#span"
        );
        assert_eq!(
            expand("{route}?a={trace_id}&b={trace_id}", &values),
            "%2Fdemo%2Fwork?a=0af7&b=0af7"
        );
    }

    #[test]
    fn other_braces_stay_as_they_are() {
        let values = [("trace_id", "0af7".to_owned())];
        assert_eq!(
            expand(r#"/explore?panes={"a":{"q":"{trace_id}"}}"#, &values),
            r#"/explore?panes={"a":{"q":"0af7"}}"#
        );
        assert_eq!(expand("{trace} {trace_id", &values), "{trace} {trace_id");
    }
}
