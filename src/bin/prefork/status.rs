//! `prefork status`: the state of a running server as text, or as the JSON that it tells. Keeps
//! nothing.

use crate::{
    args::StatusArgs,
    exit::CliError,
    fetch, flags,
    snapshot::{DeathEntry, ListenerEntry, StatusDocument, plain, time},
};
use prefork_server::StatusAddress;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

pub(crate) fn status(of: &StatusArgs) -> Result<(), CliError> {
    let address = address(of.status.as_ref(), of.config.as_deref())?;
    let failed = |reason: String| CliError::no_status(&address.to_string(), &reason);
    let text = fetch::status(&address).map_err(|error| failed(error.to_string()))?;
    let snapshot = StatusDocument::read(&text).map_err(failed)?;
    if of.json {
        writeln!(io::stdout(), "{}", text.trim_end())?;
        return Ok(());
    }
    for line in summary(&snapshot) {
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(())
}

/// Where the server tells its status: by flag, variable or file.
pub(crate) fn address(
    flag: Option<&StatusAddress>,
    config: Option<&Path>,
) -> Result<StatusAddress, CliError> {
    if let Some(address) = flag {
        return Ok(address.clone());
    }
    let settings = flags::without_flags(config)?;
    let missing = "no status address: add --status ADDRESS, or --config FILE with the key `status`";
    settings.status().ok_or_else(|| CliError::usage(missing))
}

fn summary(snapshot: &StatusDocument) -> Vec<String> {
    let mut lines = vec![server(snapshot), children(snapshot), connections(snapshot)];
    lines.extend(snapshot.listeners.iter().map(listener));
    lines.extend(counted("refused", &snapshot.counters.refused_connections));
    lines.extend(counted("deaths", &snapshot.counters.deaths));
    lines.extend(longest(snapshot));
    let now = snapshot.server.now;
    lines.extend(snapshot.deaths.first().map(|death| last_death(death, now)));
    lines
}

/// The stage of a server, in words.
pub(crate) fn stage(snapshot: &StatusDocument) -> String {
    let server = &snapshot.server;
    let ready = match (server.ready, server.drained) {
        (true, _) => "ready",
        (false, true) => "drained",
        (false, false) => "not ready",
    };
    let stage = match server.reloading {
        true => "reloading",
        false => &server.stage,
    };
    match server.saturated_for_seconds {
        Some(seconds) => format!("{stage}, {ready}, saturated for {}", time(seconds)),
        None => format!("{stage}, {ready}"),
    }
}

fn server(snapshot: &StatusDocument) -> String {
    let server = &snapshot.server;
    format!(
        "server      process {}, {}, up {}, epoch {}, version {}",
        server.pid,
        stage(snapshot),
        time(server.uptime_seconds),
        server.epoch,
        plain(&server.crate_version),
    )
}

fn children(snapshot: &StatusDocument) -> String {
    let children = &snapshot.children;
    let also = [
        (children.starting, "starting"),
        (children.reserved, "reserved"),
        (children.stopping, "stopping"),
    ];
    let also = also.iter().filter(|(count, _)| *count > 0);
    let also: String = also
        .map(|(count, state)| format!(", {count} {state}"))
        .collect();
    format!(
        "children    {} busy, {} free{also}; {} of at most {}, spare {} to {}",
        children.busy,
        children.free,
        children.total,
        children.max,
        children.spare_min,
        children.spare_max,
    )
}

fn connections(snapshot: &StatusDocument) -> String {
    let counters = &snapshot.counters;
    let saturated = match counters.saturations {
        0 => String::new(),
        times => format!(
            "; saturated {times} times, {}",
            time(counters.saturated_seconds)
        ),
    };
    format!(
        "connections {} taken, {} lost; a second: {}{saturated}",
        counters.connections,
        counters.lost_connections,
        rates(snapshot),
    )
}

/// The rates over each span of time.
pub(crate) fn rates(snapshot: &StatusDocument) -> String {
    let spans = ["1s", "10s", "60s"].map(|span| {
        let rate = snapshot.rates.connections_per_second.get(span);
        match rate.copied().flatten() {
            Some(rate) => format!("{rate:.1} ({span})"),
            None => format!("- ({span})"),
        }
    });
    spans.join(", ")
}

fn listener(listener: &ListenerEntry) -> String {
    let name = plain(&listener.name);
    match listener.queued {
        Some(queued) => format!("listener    {name}, {queued} queued"),
        None => format!("listener    {name}, queue unknown"),
    }
}

/// The counts that are not zero.
fn counted(what: &str, counts: &BTreeMap<String, u64>) -> Option<String> {
    let counts = counts.iter().filter(|(_, count)| **count > 0);
    let counts: Vec<_> = counts
        .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
        .collect();
    (!counts.is_empty()).then(|| format!("{what:11} {}", counts.join(", ")))
}

/// The child that has had its connection for longest.
fn longest(snapshot: &StatusDocument) -> Option<String> {
    let busy = snapshot.slots.iter();
    let busy = busy.filter_map(|slot| Some((slot.busy_seconds?, slot)));
    let (seconds, slot) = busy.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    let text = [slot.peer.as_deref(), slot.text.as_deref()];
    let text: Vec<_> = text.into_iter().flatten().map(plain).collect();
    let text = text.join(" ");
    Some(format!(
        "longest     {}, child {} {text}",
        time(seconds),
        slot.pid
    ))
}

fn last_death(death: &DeathEntry, now: f64) -> String {
    let ago = time((now - death.at).max(0.0));
    let stuck = match &death.stuck_in {
        Some(place) => format!(", stuck in {}", plain(place)),
        None => String::new(),
    };
    let line = death.last_lines.last();
    let line = line.map_or(String::new(), |line| format!(": {}", plain(line)));
    format!(
        "last death  {ago} ago, child {}, {} ({}){stuck}{line}",
        death.pid,
        death.cause.replace('_', " "),
        death.how(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    #[test]
    fn a_summary_has_what_an_operator_asks() {
        let lines = summary(&snapshot());
        assert_eq!(
            lines,
            [
                "server      process 4711, serving, ready, up 2 h, epoch 2, version 0.1.0",
                "children    1 busy, 1 free, 1 stopping; 3 of at most 50, spare 1 to 2",
                "connections 120 taken, 1 lost; a second: 12.0 (1s), 11.2 (10s), - (60s)",
                "listener    127.0.0.1:8080, 4 queued",
                "listener    /run/x, queue unknown",
                "refused     3 too old",
                "deaths      1 culled, 1 killed",
                "longest     30.0 s, child 4713 ",
                "last death  9.5 s ago, child 4713, overtime (signal: 9 (SIGKILL)), stuck in render \
                 at src/page.rs:7: \u{fffd}[31mred",
            ]
        );
    }

    #[test]
    fn an_empty_status_is_no_reason_to_panic() {
        assert_eq!(summary(&StatusDocument::default()).len(), 3);
    }
}
