//! Ranges of internet addresses, read from text such as `10.0.0.0/8`. Compares addresses; resolves
//! no names and makes no system call.

use std::{fmt, net::IpAddr, str::FromStr};

/// A range of internet addresses: `10.0.0.0/8`, `2001:db8::/32`, or the single `192.0.2.7`.
///
/// The bits after the prefix are ignored: `10.1.2.3/8` is `10.0.0.0/8`. An IPv4 address that is
/// written within IPv6 (`::ffff:10.0.0.1`) counts as IPv4, here and in what is compared.
///
/// ```
/// use prefork_server::servers::proxy::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.200.3.4".parse().unwrap()));
/// assert!(!network.contains("11.0.0.1".parse().unwrap()));
/// # Ok::<(), prefork_server::servers::proxy::NetworkError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Network {
    /// The first address.
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// The addresses that share the first `prefix` bits with `address`.
    ///
    /// # Errors
    ///
    /// When the address has fewer bits than that: 32, or 128 for IPv6.
    pub fn new(address: IpAddr, prefix: u32) -> Result<Self, NetworkError> {
        let canonical = address.to_canonical();
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
        let surplus = width(address) - width(canonical);
        let prefix = prefix
            .checked_sub(surplus)
            .filter(|prefix| *prefix <= width(canonical))
            .ok_or_else(|| NetworkError(format!("{address}/{prefix}")))?;
        let address = first(canonical, prefix);
        Ok(Self { address, prefix })
    }

    /// Whether `address` is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        first(address.to_canonical(), self.prefix) == self.address
    }
}

/// How many bits an address of this family has.
fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

/// The address with the bits after the prefix cleared.
fn first(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(prefix));
            IpAddr::V4((v4.to_bits() & mask.unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(prefix));
            IpAddr::V6((v6.to_bits() & mask.unwrap_or(0)).into())
        }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            prefix: width(address),
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let Some((address, prefix)) = text.split_once('/') else {
            let address: IpAddr = text.parse().map_err(|_| wrong())?;
            return Ok(address.into());
        };
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| is_number);
        let address = address.parse().map_err(|_| wrong())?;
        Self::new(address, prefix.ok_or_else(wrong)?).map_err(|_| wrong())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text, or a pair of address and prefix, that is no [`Network`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkError(String);

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no address and no range of addresses such as 10.0.0.0/8",
            self.0
        )
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_range_contains_the_addresses_of_its_prefix() {
        let cases = [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "127.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.2.3.4", true),
            ("::ffff:10.0.0.0/104", "11.2.3.4", false),
        ];
        for (range, address, is_in) in cases {
            let found = network(range).contains(address.parse().unwrap());
            assert_eq!(found, is_in, "{address} in {range}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_text() {
        let wrong = [
            "",
            "/",
            "10/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.0/-1",
            "name",
            " 10.0.0.1",
            "::ffff:10.0.0.0/95",
            "10.0.0.0/99999999999",
        ];
        for text in wrong {
            let error = text.parse::<Network>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        /// By hand: the first bits of both are the same.
        #[test]
        fn a_range_is_what_shares_its_first_bits(a: u32, b: u32, close: u8, prefix in 0..=32_u32) {
            for b in [b, a ^ (1 << (close % 32))] {
                let shared = (a ^ b).leading_zeros();
                let range = Network::new(IpAddr::V4(a.into()), prefix).unwrap();
                prop_assert_eq!(range.contains(IpAddr::V4(b.into())), shared >= prefix);
                prop_assert_eq!(range, network(&range.to_string()));
            }
        }

        #[test]
        fn so_it_is_with_ipv6(a: u128, close: u8, prefix in 0..=128_u32) {
            // Far from IPv4 within IPv6.
            let (a, close) = (a | 1 << 127, close % 127);
            let b = a ^ (1 << close);
            let range = Network::new(IpAddr::V6(a.into()), prefix).unwrap();
            prop_assert!(range.contains(IpAddr::V6(a.into())));
            prop_assert_eq!(range.contains(IpAddr::V6(b.into())), 127 - u32::from(close) >= prefix);
            prop_assert_eq!(range, network(&range.to_string()));
        }
    }
}
