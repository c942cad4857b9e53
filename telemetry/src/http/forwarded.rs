//! Whom a request is from, when proxies stand between.
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The client's address: the peer's, or, if the peer is a trusted proxy, what proxies pass on in `Forwarded`
/// (RFC 7239) or else in `X-Forwarded-For`. Both lists are read from their end, which the nearest proxy wrote: the first
/// address that is no trusted proxy's is the client's, and what is no address is skipped. Whatever stands before it may
/// have been written by anybody.
pub(crate) fn client(
    peer: Option<IpAddr>,
    trusted: &[IpNet],
    forwarded: &[&str],
    x_forwarded_for: &[&str],
) -> Option<IpAddr> {
    let peer = peer?.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return Some(peer);
    }
    let mut addresses: Vec<IpAddr> = if forwarded.is_empty() {
        let elements = x_forwarded_for.iter().flat_map(|line| line.split(','));
        elements.filter_map(address).collect()
    } else {
        let elements = forwarded.iter().flat_map(|line| split(line, ','));
        elements.filter_map(forwarded_for).collect()
    };
    addresses.reverse();
    let client = addresses.iter().find(|address| !is_trusted(address));
    // All trusted: the one that is furthest away began it.
    Some(*client.or(addresses.last()).unwrap_or(&peer))
}

/// Parts of `text` between `separator`s that stand outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let ends = c == separator && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        ends
    })
}

/// The address of the `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    split(element, ';').find_map(|pair| {
        let (name, node) = pair.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("for");
        named.then(|| address(node)).flatten()
    })
}

/// An address with or without quotes, brackets and port; not `unknown`, and no obfuscated name.
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"').trim();
    let bare = node
        .strip_prefix('[')
        .and_then(|node| node.strip_suffix(']'));
    let ip = bare.unwrap_or(node).parse::<IpAddr>().ok();
    let ip = ip.or_else(|| Some(node.parse::<SocketAddr>().ok()?.ip()))?;
    Some(ip.to_canonical())
}

/// The host of an authority, without brackets, and its port.
pub(crate) fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside of brackets is part of an address.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.1.2.3";

    fn client_of(peer: &str, forwarded: &[&str], x_forwarded_for: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let peer = Some(peer.parse().unwrap());
        client(peer, &trusted, forwarded, x_forwarded_for)
            .unwrap()
            .to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let lists: (&[&str], &[&str]) = (&["for=203.0.113.7"], &["203.0.113.8"]);
        assert_eq!(client_of("192.0.2.1", lists.0, lists.1), "192.0.2.1");
        assert_eq!(client_of(PROXY, lists.0, lists.1), "203.0.113.7");
        assert_eq!(client_of("::ffff:10.1.2.3", &[], lists.1), "203.0.113.8");
        assert_eq!(client_of(PROXY, &[], &[]), PROXY);
        assert_eq!(client(None, &[], &[], &["203.0.113.8"]), None);
    }

    #[test]
    fn what_is_no_address_is_skipped() {
        for (list, expected) in [
            ("203.0.113.7:4711", "203.0.113.7"),
            ("203.0.113.7", "203.0.113.7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("\"203.0.113.7\"", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("", PROXY),
            (" , ,", PROXY),
            ("unknown", PROXY),
            ("unknown, 203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, unknown, , x:y", "203.0.113.7"),
            ("203.0.113.7:port", PROXY),
            ("203.0.113.700", PROXY),
            // Whatever a client wrote itself stands before its own address.
            ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7, 10.9.9.9", "203.0.113.7"),
            ("10.7.7.7, 10.9.9.9", "10.7.7.7"),
        ] {
            assert_eq!(client_of(PROXY, &[], &[list]), expected, "{list}");
        }
        let lines = ["203.0.113.7", "203.0.113.8, 10.9.9.9"];
        assert_eq!(client_of(PROXY, &[], &lines), "203.0.113.8");
    }

    #[test]
    fn the_standard_header_is_read_by_its_grammar() {
        for (list, expected) in [
            ("for=203.0.113.7;proto=https;by=10.1.2.3", "203.0.113.7"),
            (
                "proto=http; For=\"[2001:db8:cafe::17]:4711\"",
                "2001:db8:cafe::17",
            ),
            ("for=_hidden, for=unknown", PROXY),
            ("for=203.0.113.7, for=_hidden", "203.0.113.7"),
            (
                "for=198.51.100.1, for=203.0.113.7, for=10.9.9.9",
                "203.0.113.7",
            ),
            (
                "for=\"203.0.113.7:80\";host=\"a,for=198.51.100.1\"",
                "203.0.113.7",
            ),
            (
                "for=\"203.0.113.7\";host=\"a\\\",for=198.51.100.1\"",
                "203.0.113.7",
            ),
            ("by=203.0.113.7", PROXY),
        ] {
            assert_eq!(
                client_of(PROXY, &[list], &["192.0.2.9"]),
                expected,
                "{list}"
            );
        }
    }

    #[test]
    fn a_host_loses_brackets_and_port() {
        assert_eq!(host_and_port("a"), ("a", None));
        assert_eq!(host_and_port("a:80"), ("a", Some(80)));
        assert_eq!(host_and_port("[::1]"), ("::1", None));
        assert_eq!(host_and_port("[::1]:8080"), ("::1", Some(8080)));
        assert_eq!(host_and_port("a:b"), ("a", None));
        assert_eq!(host_and_port(""), ("", None));
    }
}
