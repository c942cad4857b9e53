//! What a part says of itself at `/metrics`: Prometheus' text and OpenMetrics, as far as counters and gauges go.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>. Exemplars and timestamps are passed over.

/// One line: a name, its labels, a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Series {
    /// Empty if the label is not there, as in PromQL.
    pub fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Every series of a page. A line that is none (a comment, half a line) is left out.
pub fn parse(text: &str) -> Vec<Series> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Series> {
    let text = text.trim();
    if text.starts_with('#') {
        return None;
    }
    let end = text.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = text.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => labels(inner)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The labels up to the closing brace, and what follows it. A value may hold any character, escaped by a backslash.
fn labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text.trim_start_matches([',', ' ']);
    while !rest.starts_with('}') {
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquote(quoted)?;
        labels.push((name.trim().to_owned(), value));
        rest = after.trim_start_matches([',', ' ']);
    }
    Some((labels, &rest[1..]))
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, labels: &[(&str, &str)], value: f64) -> Series {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Series {
            name: name.to_owned(),
            labels: labels.collect(),
            value,
        }
    }

    #[test]
    fn a_line_is_name_labels_and_value() {
        let page = "# TYPE a counter\na 3\na{b=\"c\",d=\"\"} 4.5 1700000000000\n\n# EOF\n";
        assert_eq!(
            parse(page),
            [
                series("a", &[], 3.0),
                series("a", &[("b", "c"), ("d", "")], 4.5)
            ]
        );
    }

    #[test]
    fn an_exemplar_is_not_the_value() {
        let line = "x_bucket{le=\"0.005\"} 17 # {trace_id=\"0af7\",span_id=\"b7ad\"} 0.0012 1700000000.123";
        assert_eq!(parse(line), [series("x_bucket", &[("le", "0.005")], 17.0)]);
    }

    #[test]
    fn a_value_may_hold_quotes_braces_and_commas() {
        let line = r#"x{query="rate({a=\"b\"}[1m]), {}\\n",} 1"#;
        let expected = r#"rate({a="b"}[1m]), {}\n"#;
        assert_eq!(parse(line), [series("x", &[("query", expected)], 1.0)]);
    }

    #[test]
    fn half_a_line_is_left_out() {
        assert_eq!(parse("x{a=\"b\nx{a=\"b\"}\nx\nx one"), []);
    }

    #[test]
    fn a_label_that_is_absent_is_empty() {
        assert_eq!(series("x", &[("a", "b")], 1.0).label("c"), "");
    }
}
