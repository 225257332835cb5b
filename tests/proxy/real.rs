//! Real HAProxy and real nginx in front: over IPv4, over IPv6 and over a UNIX socket the handler
//! finds the client that has connected to the proxy.

use crate::headers::{NONE_REFUSED, refusals};
use crate::proxies::Proxy;
use crate::support::{SOON, Scenarios, Server, World, connect, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    haproxy_tells_the_client_in_version_1,
    haproxy_tells_the_client_in_version_2,
    haproxy_passes_a_large_body_on,
    haproxy_checks_with_a_local_header,
    haproxy_that_tells_nothing_is_refused,
    nginx_tells_the_client,
];

/// A server that trusts the proxies of this machine.
fn server(world: &mut World, place: [&str; 2]) -> Server {
    let trust = ["--trust", "127.0.0.1,::1", "--trust-unix-peers"];
    world.spawn("behind", &[&trust[..], &place].concat())
}

const INET: [&str; 2] = ["--address", "127.0.0.1"];

/// One on each kind of address.
fn servers(world: &mut World) -> Vec<Server> {
    let path = world.tempdir().join("socket");
    let places = [
        INET,
        ["--address", "::1"],
        ["--path", path.to_str().unwrap()],
    ];
    places.map(|place| server(world, place)).into()
}

/// Connects through `proxy`, and sees the client's own address arrive.
fn finds_the_client(proxy: &Proxy, version: u8) -> String {
    let mut client = connect(&proxy.address);
    let said = client.ask("proxied");
    let ends = format!("from={} to={} ", client.local_address(), proxy.address);
    assert!(said.contains(&ends), "{said}: not {ends}");
    assert!(
        said.starts_with(&format!("v{version} local=false ")),
        "{said}"
    );
    said
}

fn haproxy_tells_the_client(world: &mut World, options: &str, version: u8) {
    for server in servers(world) {
        for host in ["127.0.0.1", "::1"] {
            let to = server.address();
            let Some(proxy) = Proxy::haproxy(world, host, &to, options) else {
                return;
            };
            let said = finds_the_client(&proxy, version);
            // The names of both logs for one connection.
            assert_eq!(said.contains("id=-"), version == 1, "{said}");
            proxy.stop();
        }
        assert_eq!(refusals(&server), NONE_REFUSED);
    }
}

fn haproxy_tells_the_client_in_version_1(world: &mut World) {
    haproxy_tells_the_client(world, "send-proxy", 1);
}

/// With its checksum, which is checked, and with notes.
fn haproxy_tells_the_client_in_version_2(world: &mut World) {
    let options = "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl";
    haproxy_tells_the_client(world, options, 2);
}

/// What the client sends at once comes with the header in one packet.
fn haproxy_passes_a_large_body_on(world: &mut World) {
    for server in servers(world) {
        let to = server.address();
        let Some(proxy) = Proxy::haproxy(world, "127.0.0.1", &to, "send-proxy-v2") else {
            return;
        };
        let line: String = (0..100_000_u32)
            .map(|n| char::from(b'a' + (n % 23) as u8))
            .collect();
        let mut client = connect(&proxy.address);
        assert!(client.ask(&line) == line, "the answer differs");
        drop(client);
        proxy.stop();
        assert_eq!(refusals(&server), NONE_REFUSED);
    }
}

/// So its checks are no strangers, and the server stays up in its eyes.
fn haproxy_checks_with_a_local_header(world: &mut World) {
    let server = server(world, INET);
    let options = "send-proxy-v2 check-send-proxy check inter 50ms fall 1";
    let Some(proxy) = Proxy::haproxy(world, "127.0.0.1", &server.address(), options) else {
        return;
    };
    let requests =
        |client: &mut crate::support::Client| -> u64 { client.ask("number").parse().unwrap() };
    until("three checks to be served", SOON, || {
        let mut client = connect(&proxy.address);
        (requests(&mut client) > 3).then_some(())
    });
    proxy.stop();
    // A check may have ended while its header was under way, as the proxy was killed.
    let said = refusals(&server);
    assert!(
        said.starts_with("refused: 0 Untrusted, 0 Malformed, 0 Late, "),
        "{said}"
    );
}

/// Its clients are not served under the address of the proxy.
fn haproxy_that_tells_nothing_is_refused(world: &mut World) {
    let server = server(world, INET);
    let Some(proxy) = Proxy::haproxy(world, "127.0.0.1", &server.address(), "") else {
        return;
    };
    let mut client = connect(&proxy.address);
    client.send_line("GET / HTTP/1.0");
    client.gone();
    proxy.stop();
    assert_eq!(
        refusals(&server),
        "refused: 0 Untrusted, 1 Malformed, 0 Late, 0 Ended"
    );
}

fn nginx_tells_the_client(world: &mut World) {
    for server in servers(world) {
        for host in ["127.0.0.1", "::1"] {
            let Some(proxy) = Proxy::nginx(world, host, &server.address()) else {
                return;
            };
            finds_the_client(&proxy, 1);
            proxy.stop();
        }
        // The look whether it listens may have ended before its header was sent.
        let said = refusals(&server);
        assert!(
            said.starts_with("refused: 0 Untrusted, 0 Malformed, 0 Late, "),
            "{said}"
        );
    }
}
