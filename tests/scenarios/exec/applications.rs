//! A Flask application and a Plack application as children, by the servers of `examples/languages`: under
//! `ExecServer`, and under `prefork run`, whichever the module above is.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Served, ready, ready_children, served, stop_ready};
use crate::support::{Address, SOON, Scenarios, Signal, World, connect, pause, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    a_flask_application_is_served,
    a_plack_application_is_served,
    a_reload_of_an_application_loses_no_request,
];

/// The first of `interpreters` that has what `question` asks for, and prints a path then.
fn interpreter(interpreters: &[&str], question: &[&str]) -> Option<String> {
    interpreters.iter().find_map(|name| {
        let asked = Command::new(name)
            .args(question)
            .stdin(Stdio::null())
            .output();
        let asked = asked.ok().filter(|asked| asked.status.success())?;
        String::from_utf8(asked.stdout).ok()
    })
}

/// Starts two children that run `server`, a file of `examples/languages`, with `application`.
fn spawn(world: &mut World, interpreter: &str, server: &str, application: &str) -> Served {
    let languages = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/languages");
    let server = languages.join(server);
    let flags = ["--start-servers", "2", "--timeout", "10000"];
    let launch = super::launch(world, &flags).arg(interpreter).arg(server);
    let launch = launch.arg(application).env("PYTHONPATH", languages);
    served(launch.env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The status line and the body of the answer to a request in parts, which are sent one by one.
fn ask(address: &Address, parts: &[&str]) -> (String, String) {
    let mut client = connect(address);
    for part in parts {
        client.write_all(part.as_bytes()).unwrap();
    }
    let answer = client.read_rest();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    (status.to_owned(), body.to_owned())
}

/// It answers, takes a body that comes in parts, and is replaced when it crashes.
fn serves_an_application(server: &Served) {
    let address = server.address();
    let children = ready_children(server, 2);
    let (status, body) = ask(&address, &["GET / HTTP/1.1\r\n", "Host: here\r\n\r\n"]);
    assert_eq!(status, "HTTP/1.0 200 OK");
    let pid = body.trim().strip_prefix("hello from ");
    let pid: u32 = pid.and_then(|pid| pid.parse().ok()).expect("a pid");
    assert!(children.contains(&pid), "{pid} is none of {children:?}");
    let upload = [
        "POST /upper HTTP/1.1\r\nContent-Length: 10\r\n\r\n",
        "hello",
        "world",
    ];
    let (status, body) = ask(&address, &upload);
    assert_eq!((&*status, &*body), ("HTTP/1.0 200 OK", "HELLOWORLD"));
    let (status, _) = ask(&address, &["GET /nowhere HTTP/1.0\r\n\r\n"]);
    assert!(status.starts_with("HTTP/1.0 "), "{status}");

    let mut client = connect(&address);
    client.write_all(b"GET /crash HTTP/1.0\r\n\r\n").unwrap();
    client.gone();
    // A stop before the parent has seen the crash would be taken for its cause.
    until("the parent to report it", SOON, || {
        server.stderr().contains(" has died: ").then_some(())
    });
    let (status, _) = ask(&address, &["GET / HTTP/1.0\r\n\r\n"]);
    assert_eq!(status, "HTTP/1.0 200 OK");
    let report = stop_ready(server);
    assert_eq!(report.count("Killed"), 1, "{report:?}");
}

/// A Flask application, if there is a Python for it.
fn flask(world: &mut World) -> Option<Served> {
    let question = &["-c", "import flask, sys; sys.stdout.write(sys.executable)"];
    let Some(python) = interpreter(&["python3", "/usr/bin/python3"], question) else {
        println!("skipped: there is no Python 3 with Flask");
        return None;
    };
    Some(spawn(world, &python, "wsgi.py", "hello_flask:application"))
}

fn a_flask_application_is_served(world: &mut World) {
    if let Some(server) = flask(world) {
        serves_an_application(&server);
    }
}

/// The program is run again twice while clients ask: each is answered, by old children or by new ones.
fn a_reload_of_an_application_loses_no_request(world: &mut World) {
    world.deadline(Duration::from_secs(150));
    let Some(server) = flask(world) else {
        return;
    };
    let address = server.address();
    let ends = AtomicBool::new(false);
    let client = || {
        while !ends.load(Ordering::Relaxed) {
            let (status, _) = ask(&address, &["GET / HTTP/1.0\r\n\r\n"]);
            assert_eq!(status, "HTTP/1.0 200 OK");
            // The interpreters that start need the processor, too.
            pause(Duration::from_millis(20));
        }
    };
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(client)));
        for _ in 0..2 {
            let old = until("children", SOON, || some_ready(&server));
            server.signal(Signal::SIGHUP);
            until("new children only", 6 * SOON, || {
                let new = some_ready(&server)?;
                new.iter().all(|pid| !old.contains(pid)).then_some(())
            });
        }
        ends.store(true, Ordering::Relaxed);
    });
    assert!(stop_ready(&server).count("Reloaded") >= 4);
}

/// The children, two at least, if all of them are ready.
fn some_ready(server: &Served) -> Option<Vec<u32>> {
    ready(server).filter(|children| children.len() >= 2)
}

fn a_plack_application_is_served(world: &mut World) {
    let question = &["-MPlack::Builder", "-MPlack::Request", "-e", "print $^X"];
    let Some(perl) = interpreter(&["perl", "/usr/bin/perl"], question) else {
        return println!("skipped: there is no Perl with Plack");
    };
    let application = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/languages/hello.psgi");
    let server = spawn(world, &perl, "psgi.pl", application);
    serves_an_application(&server);
}
