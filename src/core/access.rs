//! Who may connect: rules about addresses, and about the users of UNIX sockets. Compares; asks no
//! socket and looks up no name.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// ```
/// use prefork_server::servers::Cidr;
///
/// let office: Cidr = "192.0.2.0/24".parse()?;
/// assert!(office.contains("192.0.2.77".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Cidr {
    /// The bits behind the prefix are zero.
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// The addresses whose first `length` bits are those of `address`.
    ///
    /// `None` if the address has fewer bits: 32, or 128 for IPv6.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = first(address.to_canonical(), length)?;
        Some(Self { address, length })
    }

    /// Whether `address` is in the range. An IPv4 address within IPv6 counts as IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && first(address, self.length) == Some(self.address)
    }
}

/// The first `length` bits of an address, the others zero; `None` if it has fewer.
fn first(address: IpAddr, length: u8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => {
            let rest = 32_u32.checked_sub(length.into())?;
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let rest = 128_u32.checked_sub(length.into())?;
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    })
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }
}

/// Text that is no range of addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NoCidr(String);

impl fmt::Display for NoCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no range of addresses", self.0)
    }
}

impl std::error::Error for NoCidr {}

impl FromStr for Cidr {
    type Err = NoCidr;

    fn from_str(text: &str) -> Result<Self, NoCidr> {
        parse(text).ok_or_else(|| NoCidr(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Cidr> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(Cidr::from);
    };
    // `parse` would take a sign.
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| digits)?;
    let address: IpAddr = address.parse().ok()?;
    // The length would be that of another kind of address.
    let is_mapped = address.to_canonical() != address;
    Cidr::new(address, length).filter(|_| !is_mapped)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Rules for one kind of name: what is denied is denied, and where anything is allowed all else is
/// denied.
#[derive(Clone, Debug, Eq, PartialEq)]
struct NameRules<T> {
    allowed: Vec<T>,
    denied: Vec<T>,
}

impl<T> Default for NameRules<T> {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            denied: Vec::new(),
        }
    }
}

impl<T> NameRules<T> {
    fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty()
    }

    fn admit(&self, mut is: impl FnMut(&T) -> bool) -> bool {
        let denied = self.denied.iter().any(&mut is);
        !denied && (self.allowed.is_empty() || self.allowed.iter().any(is))
    }
}

/// Which clients may connect: see [`access`](crate::servers::StreamServer::access).
///
/// What is denied is denied. Where any address is allowed, all other addresses are denied; the same
/// holds for users. A client without an address, or without a user, is denied where one must be
/// allowed.
///
/// ```
/// use prefork_server::servers::Access;
///
/// let access = Access::new()
///     .allow("10.0.0.0/8".parse()?)
///     .deny("10.66.0.0/16".parse()?);
/// # let _ = access;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access {
    addresses: NameRules<Cidr>,
    users: NameRules<u32>,
    groups: NameRules<u32>,
}

impl Access {
    /// Everybody may connect.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows these addresses.
    #[must_use]
    pub fn allow(mut self, addresses: Cidr) -> Self {
        self.addresses.allowed.push(addresses);
        self
    }

    /// Denies these addresses.
    #[must_use]
    pub fn deny(mut self, addresses: Cidr) -> Self {
        self.addresses.denied.push(addresses);
        self
    }

    /// Allows processes of this user, at a UNIX socket.
    #[must_use]
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.users.allowed.push(uid);
        self
    }

    /// Denies processes of this user, at a UNIX socket.
    #[must_use]
    pub fn deny_user(mut self, uid: u32) -> Self {
        self.users.denied.push(uid);
        self
    }

    /// Allows processes of this group, at a UNIX socket.
    ///
    /// It is the process's group, not one of its supplementary ones. A process must be allowed by
    /// its user as well, if any user is.
    #[must_use]
    pub fn allow_group(mut self, gid: u32) -> Self {
        self.groups.allowed.push(gid);
        self
    }

    /// Denies processes of this group, at a UNIX socket.
    #[must_use]
    pub fn deny_group(mut self, gid: u32) -> Self {
        self.groups.denied.push(gid);
        self
    }

    /// Whether a client of this address may connect.
    pub(crate) fn admits_address(&self, address: Option<IpAddr>) -> bool {
        let is = |range: &Cidr| address.is_some_and(|address| range.contains(address));
        self.addresses.is_empty() || self.addresses.admit(is)
    }

    /// Whether there are rules about users or groups.
    pub(crate) fn asks_for_users(&self) -> bool {
        !(self.users.is_empty() && self.groups.is_empty())
    }

    /// Whether a client of this user and group may connect.
    pub(crate) fn admits_user(&self, ids: Option<(u32, u32)>) -> bool {
        let uid = |rule: &u32| ids.is_some_and(|(uid, _)| uid == *rule);
        let gid = |rule: &u32| ids.is_some_and(|(_, gid)| gid == *rule);
        self.users.admit(uid) && self.groups.admit(gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_contains_what_begins_as_it_does() {
        for (range_of, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3/8", "10.9.9.9", "9.255.255.255"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "::1", "127.0.0.1"),
            ("::1", "::1", "::2"),
        ] {
            assert!(range(range_of).contains(ip(inside)), "{range_of}");
            assert!(!range(range_of).contains(ip(outside)), "{range_of}");
        }
    }

    /// A socket of both families reports IPv4 clients by an address within IPv6.
    #[test]
    fn an_ipv4_address_within_ipv6_is_ipv4() {
        assert!(range("127.0.0.0/8").contains(ip("::ffff:127.0.0.1")));
        assert!(!range("::/0").contains(ip("::ffff:127.0.0.1")));
        assert_eq!(range("::ffff:127.0.0.1"), range("127.0.0.1"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "example.org/8",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/256",
        ] {
            let error = Cidr::from_str(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")));
        }
        assert_eq!(Cidr::new(ip("1.2.3.4"), 33), None);
    }

    #[test]
    fn what_is_denied_is_denied_and_else_what_is_allowed_is_allowed() {
        let access = Access::new()
            .allow(range("10.0.0.0/8"))
            .deny(range("10.66.0.0/16"));
        for (address, admitted) in [("10.1.1.1", true), ("10.66.1.1", false), ("9.1.1.1", false)] {
            assert_eq!(access.admits_address(Some(ip(address))), admitted);
        }
        assert!(
            !access.admits_address(None),
            "none is not one that is allowed"
        );
        let only_denied = Access::new().deny(range("::/0"));
        assert!(only_denied.admits_address(None));
        assert!(only_denied.admits_address(Some(ip("9.1.1.1"))));
        assert!(!only_denied.admits_address(Some(ip("::1"))));
        assert!(Access::new().admits_address(None) && Access::new().admits_user(None));
    }

    #[test]
    fn users_and_groups_must_both_be_admitted() {
        let access = Access::new().allow_user(1).allow_user(2).deny_group(9);
        assert!(access.asks_for_users() && !Access::new().asks_for_users());
        for (ids, admitted) in [
            (Some((1, 1)), true),
            (Some((2, 9)), false),
            (Some((3, 1)), false),
            (None, false),
        ] {
            assert_eq!(access.admits_user(ids), admitted, "{ids:?}");
        }
        let group = Access::new().allow_group(5).deny_user(0);
        assert!(group.admits_user(Some((1, 5))) && !group.admits_user(Some((0, 5))));
        assert!(!group.admits_user(Some((1, 6))));
    }

    proptest! {
        /// A range contains an address exactly if it is the same up to the bit where it may differ.
        #[test]
        fn a_range_ends_at_its_bit(bits: u128, length in 0_u8..=128, flipped in 0_u8..128) {
            let address = |bits: u128| IpAddr::from(Ipv6Addr::from_bits(bits));
            // Not within the IPv4 addresses, which are another family.
            let bits = bits | 1 << 127;
            let range = Cidr::new(address(bits), length).unwrap();
            let other = bits ^ 1 << (127 - flipped);
            prop_assert!(range.contains(address(bits)));
            if flipped > 0 {
                prop_assert_eq!(range.contains(address(other)), flipped >= length);
            }
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }
    }
}
