//! A runtime in each child: axum on tokio, many connections at a time.
//!
//! cargo run --release -p axum-example
//! curl http://127.0.0.1:8082/
//! Other paths: /sleep/5 waits asynchronously, /stuck hangs its child.
//!
//! The runtime is made in the child. Tokio supports that only if the parent has never used it
//! before the fork; this parent does not.
//!
//! One connection should wake only one child, which needs a thread of its own. A listener in the
//! epoll of a runtime is not exclusive: every connection wakes every child, and all but one find
//! nothing. An exclusive epoll inside the runtime's does not help, since the kernel respects the
//! flag only for a thread that waits on that epoll directly. So a separate thread waits, accepts,
//! and passes connections to the runtime.

#[path = "../../common/mod.rs"]
mod common;

use common::{Flags, Result, Usage};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use lexopt::ValueExt;
use nix::{
    libc,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use prefork_server::{Acker, ChildServer, Comm, Error, Operation};
use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch},
    task::JoinSet,
    time::sleep,
};

const ABOUT: &str = "A runtime in each child: axum, many connections at a time.";
const OWN_FLAGS: &str = "  --in-hand N              most connections in hand in a child (16)\n";
/// How long a client may take for the head of its next request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long current requests may take after the child was told to stop.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to pause when descriptors or memory run out.
const SHORTAGE: Duration = Duration::from_millis(100);

fn app() -> Router {
    let pid = std::process::id();
    Router::new()
        .route("/", get(async move || format!("Hello from child {pid}.\n")))
        .route("/sleep/{seconds}", get(doze))
        .route("/stuck", get(stuck))
}

/// Waits asynchronously, as all code in a runtime should: other requests continue.
async fn doze(Path(seconds): Path<f32>) -> std::result::Result<String, StatusCode> {
    let time = Duration::try_from_secs_f32(seconds).map_err(|_| StatusCode::BAD_REQUEST)?;
    sleep(time).await;
    Ok(format!(
        "Slept {seconds} s in child {}.\n",
        std::process::id()
    ))
}

/// Blocks the runtime, which code in a runtime must not do: no ACK is sent any more, and with a
/// `--timeout` the child is replaced.
async fn stuck() -> &'static str {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// A connection, and the permit for one more connection that it occupies.
type Accepted = (TcpStream, Option<OwnedSemaphorePermit>);

/// Waits for connections in its own thread.
struct Acceptor {
    listener: Arc<TcpListener>,
    /// Readable when the child should leave.
    leave: OwnedFd,
    permits: Arc<Semaphore>,
    runtime: runtime::Handle,
    acker: Acker,
    accepted: mpsc::UnboundedSender<Accepted>,
    /// How many more connections the child takes; `None` is no limit.
    left: Option<u64>,
}

impl Acceptor {
    /// Accepts until the child should leave or has reached its limit.
    ///
    /// Only a child that can take a connection waits for one: a full child would take the wake-up
    /// from others.
    fn run(mut self) -> io::Result<()> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let exclusive = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        epoll.add(&*self.listener, EpollEvent::new(exclusive, 0))?;
        epoll.add(&self.leave, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        // This loop has its own wait, so it must say itself that the start has succeeded.
        let _ = self.acker.not_busy();
        while self.left != Some(0) {
            let Some(permit) = self.permit() else {
                return Ok(());
            };
            let Some(stream) = self.wait(&epoll)? else {
                return Ok(());
            };
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
            if self.accepted.send((stream, Some(permit))).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gets the permit for one more connection: at once, or, after saying BUSY, as soon as one has
    /// ended. `None` when the child leaves.
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let permits = Arc::clone(&self.permits);
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::Closed) => None,
            Err(TryAcquireError::NoPermits) => {
                // OK to ignore here and elsewhere: the waits notice that the parent is gone.
                let _ = self.acker.busy();
                let permit = self.runtime.block_on(permits.acquire_owned()).ok()?;
                let _ = self.acker.not_busy();
                Some(permit)
            }
        }
    }

    /// The next connection; `None` when the child should leave.
    fn wait(&self, epoll: &Epoll) -> io::Result<Option<TcpStream>> {
        loop {
            let mut events = [EpollEvent::empty(); 2];
            let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            if events[..count].iter().any(|event| event.data() == 1) {
                return Ok(None);
            }
            if let Some(stream) = accept(&self.listener)? {
                return Ok(Some(stream));
            }
        }
    }
}

/// Accepts a connection if there is one.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            Ok(Some(stream))
        }
        Err(error) => match (error.kind(), error.raw_os_error()) {
            (ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted, _) => {
                Ok(None)
            }
            (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
                eprintln!("cannot accept for now: {error}");
                thread::sleep(SHORTAGE);
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

/// Sends ACKs to the parent for as long as the runtime runs.
async fn send_acks(acker: Acker, interval: Duration) {
    loop {
        sleep(interval).await;
        let _ = acker.ack();
    }
}

/// Serves one client; once the child is told to stop, until the current request has been answered.
async fn serve(app: Router, (stream, permit): Accepted, mut stopping: watch::Receiver<bool>) {
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
        return;
    };
    let requested = Notify::new();
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request| {
        requested.notify_one();
        app.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        // A graceful shutdown at once ends a connection that waits for a request, even for the
        // first one, whose client expects an answer.
        () = told(&mut stopping, &requested) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Errors of clients are not worth a warning.
    if let Err(error) = served {
        log::debug!("connection ended: {error}");
    }
    drop(permit);
}

/// Waits until the child should end its connections and this one has had a request.
async fn told(stopping: &mut watch::Receiver<bool>, requested: &Notify) {
    // An error also means that the child leaves.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    requested.notified().await;
}

struct AxumServer {
    address: String,
    port: u16,
    in_hand: usize,
    max_requests: u64,
    send_ack: Option<Duration>,
    listener: Option<TcpListener>,
}

impl AxumServer {
    fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// The child, in its runtime.
    async fn serve(&self, comm: &Comm, listener: TcpListener) -> io::Result<()> {
        if let Some(interval) = self.send_ack {
            tokio::spawn(send_acks(comm.acker(), interval));
        }
        // Readable when the child should leave.
        #[allow(
            deprecated,
            reason = "sound with a borrowed descriptor; the successor is unsafe"
        )]
        let leave = AsyncFd::with_interest(comm.as_fd(), Interest::READABLE)?;
        let listener = Arc::new(listener);
        let permits = Arc::new(Semaphore::new(self.in_hand));
        let (sender, mut accepted) = mpsc::unbounded_channel();
        let acceptor = Acceptor {
            listener: Arc::clone(&listener),
            leave: comm.as_fd().try_clone_to_owned()?,
            permits: Arc::clone(&permits),
            runtime: runtime::Handle::current(),
            acker: comm.acker(),
            accepted: sender,
            left: (self.max_requests > 0).then_some(self.max_requests),
        };
        let acceptor = thread::Builder::new().spawn(move || acceptor.run())?;

        let (stop, stopping) = watch::channel(false);
        let app = app();
        let mut in_hand = JoinSet::new();
        // Ends when the thread has ended and all its connections are being served.
        loop {
            tokio::select! {
                next = accepted.recv() => match next {
                    Some(connection) => {
                        in_hand.spawn(serve(app.clone(), connection, stopping.clone()));
                    }
                    None => break,
                },
                // The thread sees it as well, unless it waits for a permit.
                ready = leave.readable() => {
                    ready?.clear_ready();
                    if comm.shutdown_requested() {
                        permits.close();
                    }
                }
                Some(_) = in_hand.join_next() => {}
            }
        }
        let ended = acceptor.join();
        // A wake-up for a connection may have been spent on a thread that was told to stop, so it
        // tries once more. A thread that was full did not wait, and without a parent no new
        // connection is taken.
        let may_be_queued = comm.shutdown_requested() && in_hand.len() < self.in_hand;
        if may_be_queued
            && !comm.is_orphaned()
            && let Some(stream) = accept(&listener)?
        {
            in_hand.spawn(serve(app, (stream, None), stopping));
        }
        drop(listener);
        // For whatever reason it leaves, it takes no more connections.
        let _ = comm.busy();
        stop.send_replace(true);
        while !in_hand.is_empty() {
            tokio::select! {
                _ = in_hand.join_next() => {}
                // If the parent has died, `kill_timeout` is left from here.
                ready = leave.readable() => {
                    ready?.clear_ready();
                    comm.shutdown_requested();
                }
            }
        }
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread that accepts has panicked")))
    }
}

impl ChildServer for AxumServer {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        let name = format!("{}:{}", self.address, self.port);
        let listener = TcpListener::bind((self.address.as_str(), self.port))
            .map_err(|error| Error::new(Operation::Bind, name, error))?;
        listener.set_nonblocking(true)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn stop(&mut self) {
        self.listener = None;
    }

    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }

    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.send_ack = interval;
    }

    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        let listener = self.listener.take().ok_or(ErrorKind::NotConnected)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.serve(comm, listener))
    }
}

/// Takes `--in-hand` and its value.
fn take_in_hand(args: &mut Vec<OsString>) -> Result<usize> {
    match common::take_value(args, "--in-hand")? {
        Some(value) => Ok(value.parse::<NonZeroUsize>()?.get()),
        None => Ok(16),
    }
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let in_hand = take_in_hand(&mut args)?;
    let usage = Usage {
        own_flags: OWN_FLAGS,
        max_requests: 10_000,
        ..Usage::new(ABOUT, 8082)
    };
    let flags = Flags::parse_from(&usage, args)?;
    let server = AxumServer {
        address: flags.address.clone(),
        port: flags.port,
        in_hand,
        max_requests: flags.max_requests,
        send_ack: None,
        listener: None,
    };
    let prefork = flags.builder(server).kill_timeout(KILL_TIMEOUT).start()?;
    let address = prefork
        .server()
        .local_addr()
        .ok_or_else(|| io::Error::other("no address"))?;
    let hint = format!("try: curl http://{address}/ and http://{address}/sleep/3");
    common::run(prefork, &[address.to_string()], &hint)
}
