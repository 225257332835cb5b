//! Real proxies, if they are installed: how they are configured and started, in front of a server of
//! the scenario's.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::support::{Address, SOON, Server, World, try_connect, until};

const HAPROXY: &str = "/usr/sbin/haproxy";
const NGINX: &str = "/usr/sbin/nginx";
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A proxy that passes connections on.
pub struct Proxy {
    /// Where clients connect.
    pub address: Address,
    process: Server,
}

impl Proxy {
    /// HAProxy on an address of its own; `options` stand after the server. `None`, and a message,
    /// if it is not installed.
    pub fn haproxy(world: &mut World, host: &str, server: &Address, options: &str) -> Option<Self> {
        if !is_installed(&[HAPROXY]) {
            return None;
        }
        let (address, listener) = listening(host);
        let config = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 30s\n timeout server 30s\n\
             listen front\n bind fd@0\n unique-id-format %pid-%rt\n \
             server back {} {options}\n",
            in_haproxys_words(server),
        );
        let path = written(world, "haproxy.cfg", &config);
        let launch = world.command(HAPROXY).args(&["-db", "-f"]).arg(path);
        let process = launch.stdin(OwnedFd::from(listener)).spawn();
        Some(Self { address, process })
    }

    /// nginx with its stream module, likewise.
    pub fn nginx(world: &mut World, host: &str, server: &Address) -> Option<Self> {
        if !is_installed(&[NGINX, NGINX_STREAM]) {
            return None;
        }
        // It opens its socket itself, so the port must be free once more.
        let (address, listener) = listening(host);
        drop(listener);
        let directory = world.tempdir();
        let config = format!(
            "load_module {NGINX_STREAM};\ndaemon off;\nmaster_process off;\npid {}/nginx.pid;\n\
             error_log stderr;\nevents {{}}\nstream {{ server {{\n listen {address};\n \
             proxy_pass {};\n proxy_protocol on;\n}} }}\n",
            directory.display(),
            in_nginx_words(server),
        );
        let path = written(world, "nginx.conf", &config);
        let launch = world.command(NGINX).arg("-c").arg(path);
        let process = launch.arg("-p").arg(directory).spawn();
        until("nginx to listen", SOON, || try_connect(&address).ok());
        Some(Self { address, process })
    }

    /// Ends it, and whatever it holds.
    pub fn stop(self) {
        self.process.kill9();
    }
}

fn is_installed(files: &[&str]) -> bool {
    let missing = files.iter().find(|file| !Path::new(file).exists());
    if let Some(missing) = missing {
        eprintln!("skipped: there is no {missing}");
    }
    missing.is_none()
}

/// A socket that listens, on a port of the system's choice.
fn listening(host: &str) -> (Address, TcpListener) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    (address.into(), listener)
}

fn written(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.tempdir().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn in_haproxys_words(server: &Address) -> String {
    match server {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix@{}", path.display()),
    }
}

fn in_nginx_words(server: &Address) -> String {
    match server {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}
