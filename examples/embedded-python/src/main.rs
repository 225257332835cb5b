//! A Python interpreter in each child: Rust calls a Python library, with one lock per child instead
//! of one for all, and a hang or crash costs only one child.
//!
//! cargo run --release -p embedded-python
//! Send it lines with `nc 127.0.0.1 7780`; the line `spin` hangs its child.
//!
//! The interpreter is started in the child. Starting it in the parent would be faster, but it would
//! have to be told of each fork (PyOS_BeforeFork and the like), and modules that start threads
//! would not work.

#[path = "../../common/mod.rs"]
mod common;

use common::{Flags, Result, Usage};
use prefork_server::{TcpServer, servers::TcpConn};
use pyo3::{ffi::c_str, prelude::*, types::PyModule};
use std::{
    io::{self, BufRead, BufReader, Write},
    process::ExitCode,
    time::Duration,
};

/// What is served.
const LIBRARY: &std::ffi::CStr = c_str!(include_str!("words.py"));

/// Starts the interpreter and loads the library: once in each child.
fn load() -> io::Result<Py<PyAny>> {
    Python::initialize();
    Python::attach(|python| {
        let library = PyModule::from_code(python, LIBRARY, c_str!("words.py"), c_str!("words"))?;
        Ok(library.getattr("count")?.unbind())
    })
    .map_err(failed)
}

fn failed(error: PyErr) -> io::Error {
    io::Error::other(error)
}

/// Answers each line with the result of the Python library.
fn serve(count: &mut Py<PyAny>, conn: TcpConn) -> io::Result<()> {
    let mut lines = BufReader::new(&conn);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let answer = Python::attach(|python| -> PyResult<String> {
            count.call1(python, (text.trim_end(),))?.extract(python)
        });
        // An exception is an answer; a crash ends only this child.
        let answer = answer.unwrap_or_else(|error| error.to_string());
        writeln!(&conn, "{answer}")?;
        line.clear();
    }
    Ok(())
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let about = "Counts words, in Python. The line `spin` hangs a child.";
    let flags = Flags::parse(&Usage::new(about, 7780))?;
    let server = TcpServer::per_child(load)
        .serve(serve)
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let prefork = flags
        .builder(server)
        .kill_timeout(Duration::from_secs(1))
        .start()?;
    let addresses = prefork.server().local_addrs();
    let first = addresses
        .first()
        .ok_or_else(|| io::Error::other("no address"))?;
    let hint = format!(
        "try: nc {} {}, and say some words",
        first.ip(),
        first.port()
    );
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    common::run(prefork, &addresses, &hint)
}
