//! The parts of the stack, as docker-compose.yml lists them for the service `probe`: one a line, name, what to ask, and, if a person
//! can go there, the address.

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// `http://` URL that answers 2xx when the part is ready, or `tcp://host:port` that accepts a connection.
    pub ready: String,
    /// Where it is found on the host; empty if it is not published.
    pub address: String,
}

/// Reads `SIGNALBOX_STACK`, and `SIGNALBOX_STACK_…` of each system laid over the base; leaves out what `ABSENT` names (`a|b`: what the
/// light shape does not start).
pub fn from_env() -> Result<Vec<Part>, String> {
    let mut lists: Vec<(String, String)> = std::env::vars()
        .filter(|(name, _)| name == "SIGNALBOX_STACK" || name.starts_with("SIGNALBOX_STACK_"))
        .collect();
    if lists.is_empty() {
        return Err("SIGNALBOX_STACK is not set: this runs in the container `probe`".to_owned());
    }
    lists.sort();
    let absent = std::env::var("ABSENT").unwrap_or_default();
    let parts: Result<Vec<_>, _> = lists.iter().map(|(_, list)| parse(list, &absent)).collect();
    Ok(parts?.into_iter().flatten().collect())
}

fn parse(list: &str, absent: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, rest) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("SIGNALBOX_STACK: `{line}` names no URL"))?;
        let rest = rest.trim();
        let (ready, address) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if !absent.split('|').any(|out| out == name) {
            parts.push(Part {
                name: name.into(),
                ready: ready.into(),
                address: address.trim().into(),
            });
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_name_question_and_address() {
        let parts = parse(
            "\n loki  http://loki:3100/ready\n grafana http://grafana:3000/api/health  http://127.0.0.1:13000 (admin / admin)\n",
            "none",
        );
        assert_eq!(
            parts,
            Ok(vec![
                Part {
                    name: "loki".into(),
                    ready: "http://loki:3100/ready".into(),
                    address: String::new(),
                },
                Part {
                    name: "grafana".into(),
                    ready: "http://grafana:3000/api/health".into(),
                    address: "http://127.0.0.1:13000 (admin / admin)".into(),
                },
            ])
        );
    }

    #[test]
    fn what_is_absent_is_left_out_by_its_whole_name() {
        let names = |absent| -> Vec<String> {
            parse("mimir-1 http://a\nmimir-2 http://b\nminio http://c", absent)
                .into_iter()
                .flatten()
                .map(|part| part.name)
                .collect()
        };
        assert_eq!(names("mimir-2|minio"), ["mimir-1"]);
        assert_eq!(names("mimir"), ["mimir-1", "mimir-2", "minio"]);
    }

    #[test]
    fn a_line_without_a_question_is_an_error() {
        assert!(parse("loki", "").is_err_and(|error| error.contains("loki")));
    }
}
