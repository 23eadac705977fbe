//! A network in ALLOW_NETS.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A network in CIDR notation, such as `10.0.0.0/8` or `fd00::/8`; a plain address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedNet(pub IpNet);

/// The text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a network: write it like 10.0.0.0/8 or fd00::/8")]
pub struct NotANetwork(String);

impl FromStr for AllowedNet {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let plain = || text.trim().parse::<IpAddr>().map(IpNet::from);
        let net = text.trim().parse::<IpNet>().or_else(|_| plain());
        net.map(AllowedNet).map_err(|_| NotANetwork(text.into()))
    }
}

impl fmt::Display for AllowedNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_parse_or_say_how_to_write_them() {
        assert_eq!("10.0.0.0/8".parse::<AllowedNet>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("::1".parse::<AllowedNet>().unwrap().to_string(), "::1/128");
        let all: AllowedNet = "0.0.0.0/0".parse().unwrap();
        let contains = |address: &str| all.0.contains(&address.parse::<IpAddr>().unwrap());
        assert!(contains("203.0.113.1") && !contains("::1"));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/x", "example.com"] {
            assert!(bad.parse::<AllowedNet>().unwrap_err().to_string().contains("write it like"), "{bad}");
        }
    }
}
