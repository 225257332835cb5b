//! Which clients count as one, and how many connections one may have. Compares numbers; knows no
//! connection.

use std::{net::IpAddr, num::NonZeroU64};

/// The limit of connections of one client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PeerLimit {
    /// How many connections; 0 means no limit.
    pub(crate) most: usize,
    /// How many bits of an address name a client.
    pub(crate) v4: u8,
    pub(crate) v6: u8,
}

impl Default for PeerLimit {
    fn default() -> Self {
        Self {
            most: 0,
            v4: Self::LONGEST_V4,
            v6: Self::LONGEST_V6,
        }
    }
}

impl PeerLimit {
    const LONGEST_V4: u8 = 32;
    /// A client with one IPv6 address has all addresses with the same first 64 bits.
    const LONGEST_V6: u8 = 64;

    /// Sets how many bits name a client: at most 32, and 64.
    pub(crate) fn set_prefix(&mut self, v4: u8, v6: u8) {
        self.v4 = v4.min(Self::LONGEST_V4);
        self.v6 = v6.min(Self::LONGEST_V6);
    }

    /// A number for the client of an address, the same for all addresses that count as one; `None`
    /// if there is no limit.
    pub(crate) fn key(self, address: IpAddr) -> Option<NonZeroU64> {
        /// No address of the internet begins like this, in IPv6.
        const V4: u64 = 1 << 32;
        let bits = match address.to_canonical() {
            IpAddr::V4(v4) => V4 | (u64::from(v4.to_bits()) & first_bits(self.v4 + 32)),
            // OK to cut: no more than this many bits count.
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 & first_bits(self.v6),
        };
        let some = NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN);
        (self.most > 0).then_some(some)
    }

    /// Whether a client that now has so many connections, this one included, has too many.
    pub(crate) fn is_exceeded(self, connections: usize) -> bool {
        self.most > 0 && connections > self.most
    }
}

/// A mask of the first `count` of 64 bits.
fn first_bits(count: u8) -> u64 {
    !u64::MAX.checked_shr(count.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(v4: u8, v6: u8) -> PeerLimit {
        let mut limit = PeerLimit {
            most: 2,
            ..PeerLimit::default()
        };
        limit.set_prefix(v4, v6);
        limit
    }

    fn are_one(limit: PeerLimit, a: &str, b: &str) -> bool {
        let [a, b] = [a, b].map(|address| limit.key(address.parse().unwrap()).unwrap());
        a == b
    }

    #[test]
    fn a_client_is_named_by_the_first_bits_of_its_address() {
        let usual = limit(32, 64);
        assert!(are_one(usual, "192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!are_one(usual, "192.0.2.1", "192.0.2.2"));
        assert!(are_one(usual, "2001:db8::1", "2001:db8::ffff:2"));
        assert!(!are_one(usual, "2001:db8::1", "2001:db8:0:1::1"));
        let wide = limit(24, 32);
        assert!(are_one(wide, "192.0.2.1", "192.0.2.255"));
        assert!(!are_one(wide, "192.0.2.1", "192.0.3.1"));
        assert!(are_one(wide, "2001:db8::1", "2001:db8:ffff::1"));
        let all = limit(0, 0);
        assert!(are_one(all, "1.2.3.4", "255.255.255.255"));
        assert!(!are_one(all, "1.2.3.4", "::1"), "not of the same family");
    }

    #[test]
    fn more_bits_than_there_are_mean_all() {
        assert_eq!(limit(255, 128), limit(32, 64));
    }

    #[test]
    fn zero_is_no_limit() {
        let none = PeerLimit::default();
        assert_eq!(none.key("192.0.2.1".parse().unwrap()), None);
        assert!(!none.is_exceeded(usize::MAX));
        let two = limit(32, 64);
        assert_eq!([2, 3].map(|count| two.is_exceeded(count)), [false, true]);
    }

    proptest! {
        /// Two addresses have the same number exactly if their first bits are the same.
        #[test]
        fn no_two_clients_share_a_number(a: u32, flipped in 0_u8..32, v4 in 0_u8..=32) {
            let [one, other] = [a, a ^ 1 << (31 - flipped)]
                .map(|bits| limit(v4, 64).key(IpAddr::from(bits.to_be_bytes())));
            prop_assert_eq!(one == other, flipped >= v4);
        }

        #[test]
        fn nor_do_those_of_ipv6(a: u128, flipped in 0_u8..128, v6 in 0_u8..=64) {
            let a = a | 1 << 127;
            let [one, other] = [a, a ^ 1 << (127 - flipped)]
                .map(|bits| limit(32, v6).key(IpAddr::from(bits.to_be_bytes())));
            prop_assert_eq!(one == other, flipped >= v6);
        }
    }
}
