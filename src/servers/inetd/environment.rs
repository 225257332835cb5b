//! The variables that tell a program who its client is: those of UCSPI and of systemd. Computes;
//! asks the system nothing.

use crate::servers::conn::Peer;
use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr};

/// Variables of these protocols that another server may have set for us.
const STALE: [&str; 16] = [
    "PROTO",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "TCPLOCALHOST",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPREMOTEHOST",
    "TCPREMOTEINFO",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "UNIXLOCALGID",
    "UNIXLOCALPATH",
    "UNIXLOCALUID",
    "UNIXREMOTEEGID",
    "UNIXREMOTEEUID",
    "UNIXREMOTEPID",
];

/// Describes the client in the environment of its program, and nothing else.
pub(super) fn describe(peer: &Peer, environment: &mut BTreeMap<OsString, OsString>) {
    for name in STALE {
        environment.remove(std::ffi::OsStr::new(name));
    }
    let mut set = |name: &str, value: OsString| drop(environment.insert(name.into(), value));
    match (peer.local_address(), peer.remote_address()) {
        (None, None) => describe_unix(peer, set),
        (local, remote) => {
            set("PROTO", "TCP".into());
            set_address(&mut set, local, ["TCPLOCALIP", "TCPLOCALPORT"]);
            set_address(&mut set, remote, ["TCPREMOTEIP", "TCPREMOTEPORT"]);
            set_address(&mut set, remote, ["REMOTE_ADDR", "REMOTE_PORT"]);
        }
    }
}

fn set_address(
    set: &mut impl FnMut(&str, OsString),
    address: Option<SocketAddr>,
    [ip, port]: [&str; 2],
) {
    if let Some(address) = address {
        set(ip, address.ip().to_string().into());
        set(port, address.port().to_string().into());
    }
}

fn describe_unix(peer: &Peer, mut set: impl FnMut(&str, OsString)) {
    set("PROTO", "UNIX".into());
    if let Some(path) = peer.path() {
        set("UNIXLOCALPATH", path.into());
    }
    let Some(credentials) = peer.credentials() else {
        return;
    };
    if let Some(pid) = credentials.pid {
        set("UNIXREMOTEPID", pid.to_string().into());
    }
    set("UNIXREMOTEEUID", credentials.uid.to_string().into());
    set("UNIXREMOTEEGID", credentials.gid.to_string().into());
}

/// The client in a message.
pub(super) fn client(peer: &Peer) -> String {
    match (peer.remote_address(), peer.credentials()) {
        (Some(address), _) => address.to_string(),
        (None, Some(credentials)) => match credentials.pid {
            Some(pid) => format!("process {pid} of user {}", credentials.uid),
            None => format!("a process of user {}", credentials.uid),
        },
        (None, None) => "a client".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::conn::PeerCredentials;

    fn described(peer: &Peer, inherited: &[(&str, &str)]) -> Vec<String> {
        let inherited = inherited.iter();
        let mut environment = inherited
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        describe(peer, &mut environment);
        let assignment =
            |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        environment.into_iter().map(assignment).collect()
    }

    #[test]
    fn a_tcp_client_is_told_in_both_ways() {
        let address = |text: &str| text.parse().ok();
        let peer = Peer::tcp(address("[2001:db8::1]:4711"), address("127.0.0.1:80"));
        assert_eq!(
            described(
                &peer,
                &[("HOME", "/h"), ("TCPREMOTEHOST", "old"), ("PROTO", "UNIX")]
            ),
            [
                "HOME=/h",
                "PROTO=TCP",
                "REMOTE_ADDR=2001:db8::1",
                "REMOTE_PORT=4711",
                "TCPLOCALIP=127.0.0.1",
                "TCPLOCALPORT=80",
                "TCPREMOTEIP=2001:db8::1",
                "TCPREMOTEPORT=4711",
            ]
        );
        assert_eq!(client(&peer), "[2001:db8::1]:4711");
    }

    #[test]
    fn a_client_of_a_unix_socket_is_told_by_its_credentials() {
        let credentials = PeerCredentials::new(Some(7), 1000, 100);
        let peer = Peer::unix(Some("/run/x".into()), Some(credentials));
        assert_eq!(
            described(
                &peer,
                &[("TCPREMOTEIP", "10.0.0.1"), ("REMOTE_ADDR", "10.0.0.1")]
            ),
            [
                "PROTO=UNIX",
                "UNIXLOCALPATH=/run/x",
                "UNIXREMOTEEGID=100",
                "UNIXREMOTEEUID=1000",
                "UNIXREMOTEPID=7",
            ]
        );
        assert_eq!(client(&peer), "process 7 of user 1000");
        assert_eq!(described(&Peer::unix(None, None), &[]), ["PROTO=UNIX"]);
        assert_eq!(client(&Peer::unix(None, None)), "a client");
    }
}
