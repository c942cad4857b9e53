//! For servers on loopback that have no login, the viewer and the incident receiver: which names they answer to.
//!
//! A page of another site can make a browser connect to 127.0.0.1, by rebinding its own DNS name to that address. For the browser it is
//! then the page's own server, whose answers the page may read. But the browser sends the page's name as `Host`, and no page can make
//! it send one of ours.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{Error, web};

/// The names a server answers to, kept in its app data for [`allowed_host`].
pub struct Hosts {
    /// Besides the loopback ones; lower case, without port.
    names: Vec<String>,
    refuse: fn(&str) -> Error,
}

impl Hosts {
    /// `localhost`, `127.0.0.1`, `[::1]` and `names`, whatever their case. `refuse` makes the answer to a request with another host, 403
    /// by convention.
    pub fn new(
        names: impl IntoIterator<Item = impl AsRef<str>>,
        refuse: fn(&str) -> Error,
    ) -> Self {
        let names = names
            .into_iter()
            .map(|name| name.as_ref().trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        Self { names, refuse }
    }

    /// Whether a `Host` header, with or without a port, is one of the names.
    pub fn allow(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        ["localhost", "127.0.0.1", "[::1]"].contains(&name.as_str()) || self.names.contains(&name)
    }
}

/// Middleware: passes a request on if it has exactly one `Host`, and that is one of the [`Hosts`] in the app data. Without them it
/// passes none.
pub async fn allowed_host(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut sent = request.headers().get_all(header::HOST);
    let host = match (sent.next(), sent.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let refusal = match request.app_data::<web::Data<Hosts>>() {
        Some(hosts) if hosts.allow(&host) => None,
        Some(hosts) => Some((hosts.refuse)(&host)),
        None => Some(actix_web::error::ErrorForbidden("no host is allowed")),
    };
    match refusal {
        None => Ok(next.call(request).await?.map_into_left_body()),
        Some(refusal) => Ok(request.error_response(refusal).map_into_right_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_allowed() {
        let refuse = |_: &str| actix_web::error::ErrorForbidden("refused");
        let hosts = Hosts::new(["Box ", ""], refuse);
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
            ":80",
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
