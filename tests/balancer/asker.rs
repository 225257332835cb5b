//! A program in the balancer's network that asks hosts for their metrics on behalf of the scenario,
//! which is in none.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::network::Network;
use crate::support::{Args, Server, World};

/// How long a host may take, dead ones among them.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running one.
#[derive(Debug)]
pub struct Asker {
    process: Server,
    path: PathBuf,
}

impl Asker {
    pub fn start(world: &mut World, network: &Network) -> Self {
        let path = world.tempdir().join("asker");
        // That of an earlier one may be there.
        let _ = std::fs::remove_file(&path);
        let own = std::env::current_exe().expect("our own path");
        let own = own.to_str().expect("a path of characters").to_owned();
        let launch = network.command(world, &own).args(&["--program", "asker"]);
        let process = launch.arg("--path").arg(&path).spawn();
        process.expect_stdout("its socket", |text| text.contains("open"));
        Self { process, path }
    }

    /// The metrics of the host with this number.
    pub fn metrics(&self, number: u8) -> io::Result<String> {
        let mut client = UnixStream::connect(&self.path)?;
        client.write_all(&[number])?;
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        Ok(text)
    }

    pub fn end(self) {
        self.process.kill9();
    }
}

/// Serves one after the other, until it is killed.
pub fn asker(args: Args) -> ExitCode {
    let listener = UnixListener::bind(args.value("--path").expect("a path"));
    let listener = listener.expect("a socket at the path");
    println!("open");
    for client in listener.incoming().flatten() {
        // OK to ignore: the client reads half an answer, and asks again.
        let _ = serve(client);
    }
    ExitCode::SUCCESS
}

fn serve(mut client: UnixStream) -> io::Result<()> {
    let mut number = [0];
    client.read_exact(&mut number)?;
    let address = SocketAddr::from(([10, 83, 0, number[0]], 9100));
    let mut host = TcpStream::connect_timeout(&address, PATIENCE)?;
    host.set_read_timeout(Some(PATIENCE))?;
    host.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    io::copy(&mut host, &mut client).map(drop)
}
