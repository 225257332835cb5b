//! What signals ask for, alone and together, and the table against that of the documents.

use super::*;

fn arrived(signals: &[(Signal, u64)]) -> Arrived {
    let mut arrived = Arrived::default();
    for (signal, count) in signals {
        arrived[index(*signal).expect("a row")] = *count;
    }
    arrived
}

fn leads(leads: &[(Signal, &str)]) -> SignalStates {
    let own = |(signal, state): &(Signal, &str)| (*signal, (*state).to_owned());
    leads.iter().map(own).collect()
}

#[test]
fn each_signal_asks_for_what_its_row_says() {
    let none = SignalStates::new();
    let alone = |signal| demands(&arrived(&[(signal, 2)]), &none);
    for stop in [Signal::Terminate, Signal::Interrupt] {
        assert_eq!(alone(stop).stops, 2);
    }
    assert_eq!(alone(Signal::Quit).unbounded_stops, 2);
    assert!(alone(Signal::Hangup).reload);
    assert!(alone(Signal::User1).reopen);
    assert!(alone(Signal::User2).upgrade);
    assert_eq!(alone(Signal::BackgroundRead).raise, 2);
    assert_eq!(alone(Signal::BackgroundWrite).lower, 2);
    assert!(alone(Signal::Child).deaths);
    for nothing in [
        Signal::Pipe,
        Signal::FileSize,
        Signal::Window,
        Signal::Alarm,
    ] {
        assert_eq!(alone(nothing), Demands::default(), "{nothing:?}");
    }
}

#[test]
fn a_signal_leads_to_its_state_once_however_often_it_came() {
    let leads = leads(&[(Signal::Hangup, "reread"), (Signal::User1, "reopen")]);
    let heard = arrived(&[(Signal::Hangup, 3), (Signal::User1, 1)]);
    let expected = Demands {
        states: vec!["reread".to_owned(), "reopen".to_owned()],
        ..Demands::default()
    };
    let demands = demands(&heard, &leads);
    assert_eq!(demands.states.len(), 2);
    assert!(
        expected
            .states
            .iter()
            .all(|state| demands.states.contains(state))
    );
    assert!(!demands.reopen, "the subclass has taken the signal");
}

#[test]
fn a_signal_that_a_subclass_has_taken_shuts_nothing_down_but_deaths_are_looked_for() {
    let leads = leads(&[(Signal::Terminate, "drain"), (Signal::Child, "child")]);
    let heard = arrived(&[(Signal::Terminate, 1), (Signal::Child, 1)]);
    let expected = Demands {
        deaths: true,
        states: vec!["drain".to_owned(), "child".to_owned()],
        ..Demands::default()
    };
    assert_eq!(demands(&heard, &leads), expected);
    // The other signal still belongs to the framework.
    let heard = arrived(&[(Signal::Terminate, 1), (Signal::Interrupt, 1)]);
    assert_eq!(demands(&heard, &leads).stops, 1);
}

/// With `handle_signals` off everything is left as the program has it, except for SIGCHLD;
/// `resize_signals` changes nothing but the two signals that it names.
#[test]
fn the_attributes_say_which_signals_are_taken_over() {
    let takes = |handle_signals, resize_signals| TakenSignals {
        handle_signals,
        resize_signals,
    };
    for row in &TABLE {
        for resize in [false, true] {
            let off = takes(false, resize).action(row);
            let is_child = row.signal == Signal::Child;
            assert_eq!(off == InParent::NotIgnored, is_child, "{row:?}");
            assert_eq!(off == InParent::Left, !is_child, "{row:?}");
        }
        let resizes = [Signal::BackgroundRead, Signal::BackgroundWrite].contains(&row.signal);
        let (off, on) = (
            takes(true, false).action(row),
            takes(true, true).action(row),
        );
        match resizes {
            true => assert_eq!((off, on), (InParent::Ignored, InParent::Handled)),
            false => assert_eq!((off, on), (row.parent, row.parent)),
        }
    }
}

#[test]
fn each_signal_has_one_row() {
    for (at, row) in TABLE.iter().enumerate() {
        assert_eq!(index(row.signal), Some(at), "{:?}", row.signal);
    }
    for signal in [Signal::Kill, Signal::Stop, Signal::Abort, Signal::Continue] {
        assert_eq!(index(signal), None, "{signal:?}");
    }
}

/// How the documents describe a row.
fn documented(row: &SignalRow) -> String {
    let parent = match (row.parent, row.lead) {
        (InParent::Handled, SignalEffect::Stop) => {
            "a stop within `shutdown_timeout`; the second, SIGKILL to the children that are left"
        }
        (InParent::Handled, SignalEffect::UnboundedStop) => "a stop without a bound",
        (InParent::Handled, SignalEffect::Reload) => "state `reload`",
        (InParent::Handled, SignalEffect::Reopen) => "state `reopen_logs`",
        (InParent::Handled, SignalEffect::Upgrade) => "state `upgrade`",
        (InParent::Resizing, SignalEffect::Raise) => {
            "ignored, unless the program handles it; with `resize_signals`, `max_clients` + 1"
        }
        (InParent::Resizing, SignalEffect::Lower) => {
            "ignored, unless the program handles it; with `resize_signals`, `max_clients` − 1"
        }
        (InParent::NotIgnored, SignalEffect::Deaths) => "handled: looks for deaths",
        (InParent::Ignored, SignalEffect::Nothing) => "ignored, unless the program handles it",
        (InParent::Left, SignalEffect::Nothing) => "left as it is",
        other => panic!("no words for {other:?}"),
    };
    let opt_out = match row.parent {
        InParent::Handled | InParent::Ignored | InParent::Resizing => "yes",
        InParent::NotIgnored | InParent::Left => "–",
    };
    let child = match row.child {
        InChild::Stop => "a handler of its own: it is told to stop",
        InChild::StopIfHandled => "a handler of its own, if the parent has one: it is told to stop",
        InChild::ReopenIfHandled => {
            "a handler of its own, if the parent has one: it reopens its logs"
        }
        InChild::NothingIfHandled => {
            "no effect, if the parent has a handler and the program had the default"
        }
        InChild::IgnoredIfChanged => {
            "ignored, if the parent has changed it and the program had the default"
        }
        InChild::Default => "the default",
        InChild::DefaultIfChanged => "the default, if the parent has changed it",
        InChild::AsBefore => "what it was before the start",
        InChild::AsInParent => "as in the parent",
    };
    format!("| `{:?}` | {parent} | {opt_out} | {child} |", row.signal)
}

#[test]
fn the_table_of_the_documents_is_this_one() {
    let text = include_str!("../../../docs/handlers.md");
    let (_, section) = text.split_once("\n## Signals\n").expect("a section");
    let rows: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .take_while(|line| !line.is_empty())
        .collect();
    let expected: Vec<String> = TABLE.iter().map(documented).collect();
    assert_eq!(rows, expected);
}

/// How the guide for operators begins what a row leads to.
fn for_operators(row: &SignalRow) -> &'static str {
    match row.lead {
        SignalEffect::Stop => "Stops: ",
        SignalEffect::UnboundedStop => "Stops in the same way, without a bound.",
        SignalEffect::Reload => "Reloads: ",
        SignalEffect::Reopen => "Has the parent and all children reopen their logs: ",
        SignalEffect::Upgrade => "Upgrades: ",
        SignalEffect::Raise | SignalEffect::Lower => "Nothing. With `resize_signals`: ",
        SignalEffect::Deaths => "Looks for children that have ended.",
        SignalEffect::Nothing if row.parent == InParent::Left => "Has its default action, ",
        SignalEffect::Nothing => "Nothing.",
    }
}

#[test]
fn the_guide_for_operators_has_each_row() {
    let text = include_str!("../../../docs/operations.md");
    let (_, section) = text.split_once("\n## Signals\n").expect("a section");
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| SIG"));
    let found: Vec<(String, &str)> = rows
        .flat_map(|row| {
            let mut cells = row.split(" | ");
            let names = cells.next().unwrap_or_default();
            let does = cells.next().unwrap_or_default();
            let names = format!("SIG{names}");
            let names: Vec<String> = names.split(", ").map(str::to_owned).collect();
            names.into_iter().map(move |name| (name, does))
        })
        .collect();
    let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
    let mut expected = TABLE.map(|row| row.signal.name()).to_vec();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    for row in &TABLE {
        let of_it = found.iter().find(|(name, _)| name == row.signal.name());
        let (name, does) = of_it.expect("a row");
        assert!(does.starts_with(for_operators(row)), "{name}: {does}");
    }
}

#[test]
fn what_tells_a_child_to_stop_follows_from_the_table() {
    for row in &TABLE {
        let stops = [true, false].map(|handled| stops_a_child(row.signal, handled));
        let expected = match row.child {
            InChild::Stop => [true, true],
            InChild::StopIfHandled => [true, false],
            _ => [false, false],
        };
        assert_eq!(stops, expected, "{row:?}");
        assert_eq!(row.child.stops(), stops[0], "{row:?}");
    }
    assert!(stops_a_child(Signal::Quit, true) && !stops_a_child(Signal::Quit, false));
    assert!(!stops_a_child(Signal::Kill, true), "it ends it");
}
