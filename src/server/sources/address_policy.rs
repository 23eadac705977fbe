//! The network addresses to which the service may connect when it fetches images.
//!
//! Every client can make the service open connections, so by default only globally reachable unicast addresses are
//! allowed (IANA special-purpose address registries, RFC 6890). An IPv6 address that contains an IPv4 address is
//! checked for both: `::ffff:127.0.0.1` is loopback.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The rule for outgoing connections: globally reachable addresses, and networks that the operator lists.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

impl AddressPolicy {
    /// A policy that also allows the networks `allowed` (the setting ALLOW_NETS), without further checks.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        AddressPolicy { allowed }
    }

    /// Errs with the class of `address` if connections to it are not allowed.
    pub fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        if self.allowed.iter().any(|net| net.contains(&address)) {
            return Ok(());
        }
        match address {
            IpAddr::V4(address) => refusal_v4(address).map_or(Ok(()), Err),
            IpAddr::V6(address) => self.check_v6(address),
        }
    }

    fn check_v6(&self, address: Ipv6Addr) -> Result<(), &'static str> {
        let mut has_embedded = false;
        for inner in embedded_v4(address).into_iter().flatten() {
            has_embedded = true;
            // Allowed networks include their IPv6 forms: with 10.0.0.0/8 listed, ::ffff:10.0.0.1 is the same host.
            self.check(IpAddr::V4(inner))?;
        }
        match refusal_v6(address) {
            Some(_) if has_embedded && address.to_ipv4_mapped().is_some() => Ok(()),
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}

/// The networks of IPv4 that are not globally reachable unicast.
const REFUSED_V4: &[(Ipv4Net, &str)] = &[
    (Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8), "unspecified"),
    (Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8), "private"),
    (Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10), "carrier-grade NAT"),
    (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback"),
    (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local"),
    (Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12), "private"),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 0), 24), "reserved"),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24), "documentation"),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 31, 196, 0), 24), "reserved"),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 52, 193, 0), 24), "reserved"),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 88, 99, 0), 24), "6to4 relay"),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16), "private"),
    (Ipv4Net::new_assert(Ipv4Addr::new(192, 175, 48, 0), 24), "reserved"),
    (Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15), "benchmarking"),
    (Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24), "documentation"),
    (Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24), "documentation"),
    (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast"),
    (Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4), "reserved"),
];

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    REFUSED_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, reason)| *reason)
}

/// The networks inside 2000::/3 that are not globally reachable unicast. All addresses outside 2000::/3 are refused.
const REFUSED_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), "reserved"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), "documentation"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), "documentation"),
];

const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const NAT64_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    if let Some((_, reason)) = REFUSED_V6.iter().find(|(net, _)| net.contains(&address)) {
        // 6to4 is checked by its IPv4 address; Teredo is refused with 2001::/23 in any case.
        return Some(reason);
    }
    if segments[0] & 0xe000 == 0x2000 {
        return None;
    }
    if NAT64.contains(&address) {
        // Checked by its IPv4 address.
        return None;
    }
    Some(match segments[0] {
        0 if address.is_loopback() => "loopback",
        0 if address.is_unspecified() => "unspecified",
        s if s & 0xff00 == 0xff00 => "multicast",
        s if s & 0xffc0 == 0xfe80 => "link-local",
        s if s & 0xffc0 == 0xfec0 => "site-local",
        s if s & 0xfe00 == 0xfc00 => "private",
        _ => "reserved",
    })
}

/// The IPv4 addresses inside an IPv6 address: mapped, compatible, NAT64 (well-known and local-use), 6to4, both of
/// Teredo (server and client), and ISATAP (RFC 5214), whose interface identifier may follow any prefix.
fn embedded_v4(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let s = address.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    if let Some(mapped) = address.to_ipv4_mapped() {
        return [Some(mapped), None];
    }
    if s[..6] == [0; 6] && !address.is_loopback() && !address.is_unspecified() {
        return [Some(pair(s[6], s[7])), None];
    }
    if NAT64.contains(&address) || NAT64_LOCAL.contains(&address) {
        return [Some(pair(s[6], s[7])), None];
    }
    let isatap = (s[4] & 0xfdff == 0 && s[5] == 0x5efe).then(|| pair(s[6], s[7]));
    if s[0] == 0x2002 {
        return [Some(pair(s[1], s[2])), isatap];
    }
    if s[0] == 0x2001 && s[1] == 0 {
        return [Some(pair(s[2], s[3])), Some(pair(!s[6], !s[7]))];
    }
    [isatap, None]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str, policy: &AddressPolicy) -> Option<&'static str> {
        policy.check(address.parse().unwrap()).err()
    }

    #[test]
    fn refuses_every_class_that_is_not_public() {
        let policy = AddressPolicy::default();
        let cases = [
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.169.254", "link-local"),
            ("100.64.0.1", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("192.0.0.8", "reserved"),
            ("192.0.2.1", "documentation"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.9", "documentation"),
            ("192.88.99.1", "6to4 relay"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.250", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::1", "loopback"),
            ("::", "unspecified"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("fc00::1", "private"),
            ("fd12:3456::1", "private"),
            ("ff02::1", "multicast"),
            ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"),
            ("100::1", "reserved"),
            ("2001:2::1", "reserved"),
            // IPv4 inside IPv6: mapped, compatible, NAT64 (both prefixes), 6to4, Teredo (server and client).
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.1.2.3", "private"),
            ("::127.0.0.1", "loopback"),
            ("::ffff:0:10.0.0.1", "reserved"),
            ("64:ff9b::169.254.169.254", "link-local"),
            ("64:ff9b:1::10.0.0.1", "private"),
            ("2002:7f00:1::", "loopback"),
            ("2002:c0a8:101::1", "private"),
            ("2001:0:7f00:1::", "loopback"),
            // ISATAP, with a local and a global identifier, and after a 6to4 prefix.
            ("2606:4700::5efe:7f00:1", "loopback"),
            ("2606:4700::200:5efe:a00:1", "private"),
            ("2002:808:808::5efe:c0a8:101", "private"),
            // Teredo whose client part is the complement of 127.0.0.1, with a public server.
            ("2001:0:808:808::80ff:fffe", "loopback"),
            ("2001:0:808:808::f7f7:f7f7", "reserved"),
        ];
        for (address, reason) in cases {
            assert_eq!(refusal(address, &policy), Some(reason), "{address}");
        }
    }

    #[test]
    fn allows_public_addresses() {
        let policy = AddressPolicy::default();
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "193.0.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2606:4700::5efe:808:808",
            "2002:808:808::1",
        ] {
            assert_eq!(refusal(address, &policy), None, "{address}");
        }
    }

    #[test]
    fn listed_networks_are_allowed_also_through_ipv6() {
        let policy = AddressPolicy::new(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        assert_eq!(refusal("10.9.8.7", &policy), None);
        assert_eq!(refusal("::ffff:10.9.8.7", &policy), None);
        assert_eq!(refusal("::1", &policy), None);
        assert_eq!(refusal("11.0.0.1", &policy), None);
        assert_eq!(refusal("127.0.0.1", &policy), Some("loopback"));
        assert_eq!(refusal("::ffff:127.0.0.1", &policy), Some("loopback"));
    }
}
