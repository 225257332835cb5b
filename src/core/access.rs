//! Who may connect: rules about addresses, and about the users of UNIX sockets. Compares; asks no
//! socket and looks up no name.

use super::network::Network;
use std::net::IpAddr;

/// Rules for one kind of name: what is denied is denied, and where anything is allowed all else is
/// denied.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Rules<T> {
    allowed: Vec<T>,
    denied: Vec<T>,
}

impl<T> Default for Rules<T> {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            denied: Vec::new(),
        }
    }
}

impl<T> Rules<T> {
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
    addresses: Rules<Network>,
    users: Rules<u32>,
    groups: Rules<u32>,
}

impl Access {
    /// Everybody may connect.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows these addresses.
    #[must_use]
    pub fn allow(mut self, addresses: Network) -> Self {
        self.addresses.allowed.push(addresses);
        self
    }

    /// Denies these addresses.
    #[must_use]
    pub fn deny(mut self, addresses: Network) -> Self {
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

    /// Allows processes of this group, at a UNIX socket. It is the process's group, not one of its
    /// supplementary ones. A process must be allowed by its user as well, if any user is.
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
        let is = |range: &Network| address.is_some_and(|address| range.contains(address));
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

    fn range(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
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
}
