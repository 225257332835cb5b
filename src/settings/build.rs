//! What is made from settings: attributes, confinement, listeners, whole servers. Starts none.

use super::{Setting, Settings, Source, values::Values};
#[cfg(feature = "status")]
use crate::observe::status::StatusAddress;
use crate::{
    core::{access::Access, config::Config, confinement::Confinement},
    servers::{AccessLog, ExecServer, InetdServer, Listen},
};
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// What is made from the settings.
impl Settings {
    fn values(&self) -> Values {
        let mut values = Values::default();
        let set = |entry: &&Setting| entry.source != Source::Default;
        for entry in self.entries.iter().filter(set) {
            // OK to ignore: each value was checked when it was set.
            let _ = entry.key.apply(&mut values, &entry.texts);
        }
        values
    }

    /// The attributes, for [`Builder::config`](crate::Builder::config).
    pub fn config(&self) -> Config {
        self.values().config
    }

    /// What children may do and use, for [`Builder::confinement`](crate::Builder::confinement).
    pub fn confinement(&self) -> Confinement {
        self.values().confinement
    }

    /// Where to listen.
    pub fn listen(&self) -> Vec<Listen> {
        self.values().listen
    }

    /// How many connections may wait to be accepted.
    pub fn backlog(&self) -> i32 {
        self.values().backlog
    }

    /// How many connections a child takes; 0 means no limit.
    pub fn max_requests(&self) -> u64 {
        self.values().max_requests
    }

    /// How many connections one client may have; 0 means no limit.
    ///
    /// For [`InetdServer::max_per_peer`].
    pub fn max_per_peer(&self) -> usize {
        self.values().max_per_peer
    }

    /// How long a connection may have been queued, for [`InetdServer::max_queue_age`].
    pub fn max_queue_age(&self) -> Option<Duration> {
        self.values().max_queue_age
    }

    /// Which addresses may connect, for [`InetdServer::access`].
    pub fn access(&self) -> Access {
        self.values().access
    }

    /// How long a connection may take, for [`InetdServer::deadline`].
    pub fn deadline(&self) -> Option<Duration> {
        self.values().deadline
    }

    /// Where the line of each connection is written, for
    /// [`StreamServer::access_log`](crate::servers::StreamServer::access_log).
    pub fn access_log(&self) -> Option<AccessLog> {
        self.values().access_log()
    }

    /// The program and its arguments.
    pub fn program(&self) -> Vec<String> {
        self.values().program
    }

    /// The path of the control socket, for [`Builder::control`](crate::Builder::control).
    pub fn control(&self) -> Option<PathBuf> {
        self.values().control
    }

    /// Where the status is told, for [`Builder::status`](crate::Builder::status).
    #[cfg(feature = "status")]
    #[cfg_attr(docsrs, doc(cfg(feature = "status")))]
    pub fn status(&self) -> Option<StatusAddress> {
        self.values().status
    }

    /// Where HAProxy's agent-check is answered, for
    /// [`Builder::agent_check`](crate::Builder::agent_check).
    #[cfg(feature = "status")]
    #[cfg_attr(docsrs, doc(cfg(feature = "status")))]
    pub fn agent_check(&self) -> Option<StatusAddress> {
        self.values().agent_check
    }

    /// Whether there is to be a holder, for [`Builder::holder`](crate::Builder::holder).
    #[cfg(feature = "holder")]
    #[cfg_attr(docsrs, doc(cfg(feature = "holder")))]
    pub fn holder(&self) -> bool {
        self.values().holder
    }

    /// The server whose children are this program.
    ///
    /// It has the listeners, the protocol and the stop signal of the settings.
    pub fn exec_server<A: Into<OsString>>(
        &self,
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> ExecServer {
        let values = self.values();
        let server = ExecServer::new(program).args(args);
        let server = server.backlog(values.backlog);
        let server = values.protocol.set_on(server);
        let server = server.stop_signal(values.stop_signal);
        let server = match values.reopen_signal {
            Some(signal) => server.reopen_signal(signal),
            None => server,
        };
        values.listen.into_iter().fold(server, ExecServer::listen)
    }

    /// The server that runs this program for each connection.
    ///
    /// It has the listeners and the limits of the settings.
    pub fn inetd_server<A: Into<OsString>>(
        &self,
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> InetdServer {
        let values = self.values();
        let server = InetdServer::new(program).args(args);
        let server = server.backlog(values.backlog);
        let server = server.max_requests(values.max_requests);
        let server = server.max_per_peer(values.max_per_peer);
        let server = server.max_queue_age(values.max_queue_age);
        let server = server.access(values.access.clone());
        let server = server.deadline(values.deadline);
        let server = match values.access_log() {
            Some(log) => server.access_log(log),
            None => server,
        };
        values.listen.into_iter().fold(server, InetdServer::listen)
    }
}
