//! What a confinement costs at each fork: a pool whose children take every step that a server of root
//! takes, compared with one whose children take none.

use crate::{
    added::{self, Pools},
    common::verdict::{Target, hold},
};
use nix::unistd::Uid;
use prefork_server::{Confinement, Resource};

/// All the kinds of steps but a session of one's own, which costs what a process group costs.
pub(crate) fn confinement() -> Confinement {
    Confinement::new()
        .process_group()
        .limit(Resource::OpenFiles, 256, 256)
        .limit(Resource::CoreSize, 0, 0)
        .limit(Resource::CpuTime, 3600, 3600)
        .nice(1)
        .oom_score_adj(100)
        .umask(0o077)
        .chroot("/var")
        .directory("/")
        .user("nobody")
        .capabilities(["net_raw"])
        .no_new_privs()
}

pub(crate) fn cost() {
    if !Uid::effective().is_root() {
        println!("confinement: skipped, it takes root to change users");
        return;
    }
    let more = added::compare(&Pools {
        title: format!("Confinement: {}", confinement()),
        roles: ["ours", "confined"],
        others: [1, 1],
        with: "confined",
    });
    hold(
        "CPU time that a confinement adds to a fork, µs",
        Target::AtMost(150.0),
        more,
    );
}
