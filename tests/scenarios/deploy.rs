//! The configurations in `docs/deploy`, as the programs that they are for read them, and what becomes
//! of clients when a server behind them stops.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::example::stop;
use crate::support::{
    Address, SOON, Scenarios, Server, Signal, World, pause, scenarios, try_connect, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    haproxy_takes_its_configuration,
    nginx_takes_its_configuration,
    the_manifests_follow_the_schema,
    the_manifests_leave_time_to_stop,
    envoys_configuration_names_all_that_it_uses,
    behind_haproxy_a_stop_loses_no_request,
    behind_nginx_a_stop_loses_no_request,
    the_kubelets_stop_loses_no_request,
];

const HAPROXY: &str = "/usr/sbin/haproxy";
const NGINX: &str = "/usr/sbin/nginx";
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/deploy")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy(name)).unwrap()
}

fn is_installed(files: &[&str]) -> bool {
    let missing = files.iter().find(|file| !Path::new(file).exists());
    if let Some(missing) = missing {
        eprintln!("skipped: there is no {missing}");
    }
    missing.is_none()
}

// The checks of the programs themselves.

fn haproxy_takes_its_configuration(world: &mut World) {
    if !is_installed(&[HAPROXY]) {
        return;
    }
    let launch = world.command(HAPROXY).args(&["-c", "-f"]);
    succeeds(&launch.arg(deploy("haproxy/haproxy.cfg")).spawn());
}

fn nginx_takes_its_configuration(world: &mut World) {
    if !is_installed(&[NGINX, NGINX_STREAM]) {
        return;
    }
    // It looks whether it can write its files, in a place of the test's.
    let directory = world.tempdir();
    let files = format!("pid {}/nginx.pid;", directory.display());
    let launch = world.command(NGINX).args(&["-t", "-g", &files, "-c"]);
    let launch = launch.arg(deploy("nginx/nginx.conf")).arg("-p");
    succeeds(&launch.arg(directory).spawn());
}

fn succeeds(checked: &Server) {
    let status = checked.wait(SOON);
    let said = checked.stdout() + &checked.stderr();
    assert!(status.success(), "{status}\n{said}");
}

/// By the package `kubernetes-validate` of Python, which has the schemas in it.
fn the_manifests_follow_the_schema(world: &mut World) {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&search).map(|path| path.join("kubernetes-validate"));
    let Some(validate) = paths.find(|path| path.exists()) else {
        return eprintln!("skipped: there is no kubernetes-validate (pip install it)");
    };
    let launch = world.command(validate).arg("--strict");
    succeeds(&launch.arg(deploy("kubernetes/hello.yaml")).spawn());
}

// What no schema knows.

/// The number after `key` in a text.
fn number(text: &str, key: &str) -> u64 {
    let at = text.find(key).unwrap_or_else(|| panic!("no {key}"));
    let digits = text[at + key.len()..].trim_start_matches([' ', '{']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap();
    digits[..end].parse().unwrap()
}

/// The kubelet waits for longer than the sleep of preStop and the server's `shutdown_timeout`
/// together, and the pod has what a restricted cluster asks for.
fn the_manifests_leave_time_to_stop(_: &mut World) {
    let text = read("kubernetes/hello.yaml");
    let grace = number(&text, "terminationGracePeriodSeconds:");
    let sleep = number(&text, "sleep: { seconds:");
    let shutdown = prefork_server::Config::default().shutdown_timeout.as_secs();
    assert!(grace > sleep + shutdown, "{grace} s");
    for line in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "capabilities: { drop: [ALL] }",
        "seccompProfile: { type: RuntimeDefault }",
        "readinessProbe:",
        "livenessProbe:",
        "startupProbe:",
        "kind: PodDisruptionBudget",
        "kind: HorizontalPodAutoscaler",
        "maxUnavailable: 0",
    ] {
        assert!(text.contains(line), "no {line}");
    }
}

/// Envoy itself cannot be had as a package here.
fn envoys_configuration_names_all_that_it_uses(_: &mut World) {
    let text = read("envoy/envoy.yaml");
    let after = |key: &str| -> Vec<String> {
        let found = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key));
        found.map(|name| name.trim().to_owned()).collect()
    };
    let clusters = after("cluster_name:");
    for used in after("cluster:") {
        assert!(clusters.contains(&used), "{used} is none of {clusters:?}");
        assert!(after("- name:").contains(&used), "{used} has no cluster");
    }
    assert!(!text.contains('\t'), "YAML has no tabs");
}

// Stops under load.

/// Clients that ask again and again, one request a connection.
struct Load {
    stopped: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: &Address, clients: usize) -> Self {
        let (stopped, answered) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let start = |_| {
            let (stopped, answered) = (Arc::clone(&stopped), Arc::clone(&answered));
            let address = address.clone();
            thread::spawn(move || {
                let mut lost = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    match answer(&address) {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(how) => lost.push(how),
                    }
                }
                lost
            })
        };
        let clients = (0..clients).map(start).collect();
        Self {
            stopped,
            answered,
            clients,
        }
    }

    /// Waits until so many more requests were answered.
    fn goes_on(&self, more: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        until("more answers", SOON, || {
            (self.answered.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }

    /// Ends the load, and returns what became of requests that were not answered.
    fn lost(self) -> Vec<String> {
        self.stopped.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        clients.flat_map(|client| client.join().unwrap()).collect()
    }
}

/// Asks once.
fn answer(address: &Address) -> Result<(), String> {
    let ask = || {
        let mut client = try_connect(address)?;
        client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
        client.try_read_line()
    };
    match ask() {
        Ok(Some(line)) if line.starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(line) => Err(format!("answered by {line:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn hello(world: &mut World, more: &[&str]) -> Server {
    world.run_example("hello", &[&["--port", "0"], more].concat())
}

/// A configuration of `docs/deploy` with the addresses of this test, and where it listens for HTTP.
fn with_addresses(world: &World, name: &str, servers: [&Server; 2]) -> (PathBuf, Address) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (http, tcp) = (free(), free());
    let own = |listener: &TcpListener| -> SocketAddr { listener.local_addr().unwrap() };
    let [one, two] = servers.map(|server| server.address().to_string());
    let text = read(name)
        .replace("127.0.0.1:8080", &one)
        .replace("127.0.0.1:8081", &two)
        .replace("bind :8000", &format!("bind {}", own(&http)))
        .replace("bind :7000", &format!("bind {}", own(&tcp)))
        .replace("listen 8000", &format!("listen {}", own(&http)))
        .replace("listen 7000", &format!("listen {}", own(&tcp)));
    let path = world.tempdir().join("configuration");
    fs::write(&path, text).unwrap();
    (path, own(&http).into())
}

/// One of two servers behind a balancer stops while clients ask.
fn a_stop_loses_no_request(address: &Address, servers: [Server; 2]) {
    until("the balancer to serve", SOON, || answer(address).ok());
    let load = Load::start(address, 4);
    load.goes_on(50);
    let [one, two] = servers;
    stop(&one);
    load.goes_on(50);
    let lost = load.lost();
    assert!(lost.is_empty(), "{lost:?}");
    stop(&two);
}

fn behind_haproxy_a_stop_loses_no_request(world: &mut World) {
    if !is_installed(&[HAPROXY]) {
        return;
    }
    let servers = [hello(world, &[]), hello(world, &[])];
    let (path, address) = with_addresses(world, "haproxy/haproxy.cfg", servers.each_ref());
    let launch = world.command(HAPROXY).args(&["-db", "-f"]);
    let proxy = launch.arg(path).spawn();
    a_stop_loses_no_request(&address, servers);
    proxy.kill9();
}

fn behind_nginx_a_stop_loses_no_request(world: &mut World) {
    if !is_installed(&[NGINX, NGINX_STREAM]) {
        return;
    }
    let servers = [hello(world, &[]), hello(world, &[])];
    let (path, address) = with_addresses(world, "nginx/nginx.conf", servers.each_ref());
    let directory = world.tempdir();
    let files = format!(
        "daemon off; master_process off; pid {}/nginx.pid; error_log stderr;",
        directory.display()
    );
    let launch = world.command(NGINX).args(&["-g", &files, "-c"]).arg(path);
    let proxy = launch.arg("-p").arg(directory).spawn();
    a_stop_loses_no_request(&address, servers);
    proxy.kill9();
}

/// Endpoints are removed while preStop sleeps, so clients still come for a moment; then SIGTERM.
fn the_kubelets_stop_loses_no_request(world: &mut World) {
    let server = hello(world, &["--start-servers", "4"]);
    let load = Load::start(&server.address(), 4);
    load.goes_on(100);
    // The sleep of preStop: the last node learns of it before it ends.
    pause(Duration::from_millis(300));
    load.goes_on(50);
    let lost = load.lost();
    assert!(lost.is_empty(), "{lost:?}");
    // One client whose request is under way when the signal comes.
    let address = server.address();
    let mut late = try_connect(&address).unwrap();
    late.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let grace = Duration::from_secs(number(
        &read("kubernetes/hello.yaml"),
        "terminationGracePeriodSeconds:",
    ));
    server.signal(Signal::SIGTERM);
    late.write_all(b"Host: here\r\n\r\n").unwrap();
    assert!(late.read_line().starts_with("HTTP/1.1 200 "));
    drop(late);
    assert!(server.wait(grace).success());
}
