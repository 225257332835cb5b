//! `prefork status` on real servers.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use super::{prefork, tell, text, watched::Watched};
use crate::support::{SOON, Scenarios, World, connect, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    a_status_is_text_or_json,
    a_status_is_found_by_file_or_variable,
    what_tells_no_status_is_named,
];

const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;

fn a_status_is_text_or_json(world: &mut World) {
    let watched = Watched::new(world);
    watched.pids(world);
    let mut held = connect(&watched.server.address());
    held.ask("hello");
    let status = text(&watched.status).to_owned();
    let summary = until("a busy child", SOON, || {
        let summary = tell(world, &["status", "--status", &status], 0);
        summary.contains("\nlongest ").then_some(summary)
    });
    let server = format!(
        "server      process {}, serving, ready, up ",
        watched.server.pid()
    );
    assert!(summary.starts_with(&server), "{summary}");
    for part in [
        "\nchildren    1 busy, 2 free; 3 of at most 50, spare 1 to 5\n",
        "\nconnections 1 taken, 0 lost; a second: ",
        "\nlistener    127.0.0.1:",
        ", 0 queued\n",
        " 127.0.0.1:",
    ] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    let json = tell(world, &["status", "--json", "--status", &status], 0);
    assert!(json.starts_with("{\"version\":1,"), "{json}");
    assert_eq!(json.lines().count(), 1);
    drop(held);
    watched.stop(world);
}

fn a_status_is_found_by_file_or_variable(world: &mut World) {
    let watched = Watched::new(world);
    let file = world.tempdir().join("x.toml");
    fs::write(&file, format!("status = {:?}\n", text(&watched.status))).unwrap();
    let by_file = tell(world, &["status", "--config", text(&file)], 0);
    assert!(by_file.starts_with("server "), "{by_file}");
    let by_variable = prefork(world, &["status"]);
    let by_variable = by_variable.env("PREFORK_STATUS", &watched.status).spawn();
    assert!(by_variable.wait(SOON).success(), "{}", by_variable.stderr());
    let nowhere = tell(world, &["status"], USAGE);
    assert!(nowhere.contains("add --status ADDRESS"), "{nowhere}");
    watched.stop(world);
}

fn what_tells_no_status_is_named(world: &mut World) {
    let missing = tell(world, &["status", "--status", "/no/such"], UNAVAILABLE);
    assert!(missing.starts_with("prefork: /no/such: "), "{missing}");
    assert!(
        missing.contains("is the server running, with this --status?"),
        "{missing}"
    );
    let wrong = tell(world, &["status", "--status", ":9100"], USAGE);
    assert!(wrong.contains("has no host"), "{wrong}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let serving = thread::spawn(move || {
        for answer in ["220 smtp.example\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"] {
            let (mut client, _) = other.accept().unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            // So that the answer is not lost to a reset.
            let mut request = Vec::new();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            std::io::Read::read_to_end(&mut client, &mut request).unwrap();
        }
    });
    let smtp = tell(world, &["status", "--status", &port], UNAVAILABLE);
    assert!(smtp.contains("it does not answer in HTTP"), "{smtp}");
    let http = tell(world, &["status", "--status", &port], UNAVAILABLE);
    assert!(http.contains("404 Not Found"), "{http}");
    serving.join().unwrap();
}
