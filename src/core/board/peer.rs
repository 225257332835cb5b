//! The address of a peer as numbers of a slot, and back. Any numbers can be read.

use super::PEER_WORDS;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A peer without an internet address, or none.
const NONE: u64 = 0;
const V4: u64 = 4;
const V6: u64 = 6;

pub(super) fn encode(peer: Option<SocketAddr>) -> [u64; PEER_WORDS] {
    let Some(peer) = peer else {
        return [NONE, 0, 0];
    };
    let (kind, scope, address) = match peer {
        SocketAddr::V4(v4) => (V4, 0, u128::from(u32::from(*v4.ip()))),
        SocketAddr::V6(v6) => (V6, v6.scope_id(), u128::from(*v6.ip())),
    };
    let head = kind | u64::from(peer.port()) << 16 | u64::from(scope) << 32;
    // OK to cut: each is one half.
    [head, (address >> 64) as u64, address as u64]
}

pub(super) fn decode(words: [u64; PEER_WORDS]) -> Option<SocketAddr> {
    let [head, high, low] = words;
    // OK to cut: each is a field of its own.
    let (port, scope) = ((head >> 16) as u16, (head >> 32) as u32);
    let address = u128::from(high) << 64 | u128::from(low);
    match head & 0xffff {
        V4 => Some((IpAddr::V4(Ipv4Addr::from_bits(low as u32)), port).into()),
        V6 => Some(SocketAddrV6::new(Ipv6Addr::from_bits(address), port, 0, scope).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_comes_back() {
        for text in [
            "127.0.0.1:80",
            "255.255.255.255:65535",
            "[::1]:1",
            "[fe80::1%3]:22",
            "[2001:db8:1:2:3:4:5:6]:443",
        ] {
            let address = text.parse().unwrap();
            assert_eq!(decode(encode(Some(address))), Some(address));
        }
        assert_eq!(decode(encode(None)), None);
        assert_eq!(decode([0; PEER_WORDS]), None);
    }

    proptest! {
        /// Numbers that were not encoded here make an address or none, and that address comes back.
        #[test]
        fn any_numbers_can_be_read(head: u64, high: u64, low: u64, kind in 0..8_u64) {
            let found = decode([head & !0xffff | kind, high, low]);
            prop_assert_eq!(decode(encode(found)), found);
        }
    }
}
