//! Who asks, and until when an answer is of use.

use std::net::IpAddr;
use std::time::Instant;

use axum::http::Extensions;

/// Where a request came from, among its extensions; what a proxy in between tells of its clients is not
/// looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ClientAddress(pub(super) IpAddr);

/// Who asks, as far as the server can tell: requests of one client wait for one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Client {
    /// Requests that came through no socket.
    #[default]
    Unknown,
    /// A network address; of IPv6 the first 64 bits, because one customer has all addresses behind them.
    Address(IpAddr),
}

impl Client {
    /// The client behind an address.
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            v4 => v4,
        })
    }
}

/// Who asks, and when the answer must be there.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The one whose share of the queue the request uses.
    pub client: Client,
    /// When the answer must be there.
    pub deadline: Instant,
}

impl Caller {
    /// - `extensions`: of the request.
    pub(super) fn new(extensions: &Extensions, deadline: Instant) -> Self {
        let address = extensions.get::<ClientAddress>();
        Self { client: address.map_or(Client::Unknown, |address| Client::of_address(address.0)), deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_an_ipv4_address_or_a_network_of_ipv6() {
        let client =
            |address: &str| Client::of_address(address.parse().unwrap_or_else(|e| panic!("{address}: {e}")));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
    }
}
