//! The names under which a server without a login may be asked.

/// Names that a request's `Host` may carry: the loopback ones, and those that were added.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Allows `also` besides the loopback names.
    #[must_use]
    pub fn new(also: Vec<String>) -> Self {
        Self(
            also.into_iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        )
    }

    /// Whether a request with this `Host` header may be answered; its port does not matter. A page of another site can make a browser connect
    /// here by rebinding its DNS name, but the browser then sends that name and not one of ours.
    #[must_use]
    pub fn allow(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        ["localhost", "127.0.0.1", "[::1]"].contains(&name.as_str()) || self.0.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_allowed() {
        let hosts = Hosts::new(vec!["Box".to_owned()]);
        for allowed in [
            "localhost",
            "localhost:18090",
            "127.0.0.1:1",
            "[::1]:18090",
            "[::1]",
            "BOX:80",
        ] {
            assert!(hosts.allow(allowed), "{allowed}");
        }
        for refused in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:18090",
            "localhost.",
            "box.evil",
            "10.0.0.1",
        ] {
            assert!(!hosts.allow(refused), "{refused}");
        }
    }
}
