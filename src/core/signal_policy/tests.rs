//! What signals ask for, alone and together, and the table against that of the documents.

use super::*;

fn arrived(signals: &[(Signal, u64)]) -> Arrived {
    let mut arrived = Arrived::default();
    for (signal, count) in signals {
        arrived[index(*signal).expect("a row")] = *count;
    }
    arrived
}

fn leads(leads: &[(Signal, &str)]) -> Leads {
    let own = |(signal, state): &(Signal, &str)| (*signal, (*state).to_owned());
    leads.iter().map(own).collect()
}

/// Two signals, the last of them a SIGINT, have the same result in one turn and in two.
#[test]
fn a_second_interrupt_is_one_that_comes_after_any_other_signal() {
    use Wish::{Kill, Nothing, Shutdown};
    // A row for 0, 1 and 2 SIGTERMs, with a column for 0, 1, 2 and 3 SIGINTs.
    let fresh = [
        [Nothing, Shutdown, Kill, Kill],
        [Shutdown, Kill, Kill, Kill],
        [Shutdown, Kill, Kill, Kill],
    ];
    let under_way = [
        [Nothing, Kill, Kill, Kill],
        [Shutdown, Kill, Kill, Kill],
        [Shutdown, Kill, Kill, Kill],
    ];
    for (is_shutdown, expected) in [(false, fresh), (true, under_way)] {
        let wishes = [0, 1, 2].map(|terminations| {
            [0, 1, 2, 3].map(|interrupts| {
                let arrived = arrived(&[
                    (Signal::Terminate, terminations),
                    (Signal::Interrupt, interrupts),
                ]);
                demands(&arrived, &Leads::new(), is_shutdown).wish
            })
        });
        assert_eq!(wishes, expected, "with a shutdown: {is_shutdown}");
    }
}

#[test]
fn a_signal_leads_to_its_state_once_however_often_it_came() {
    let leads = leads(&[(Signal::Hangup, "reread"), (Signal::User1, "reopen")]);
    let heard = arrived(&[(Signal::Hangup, 3), (Signal::User2, 1)]);
    let expected = Demands {
        states: vec!["reread"],
        ..Demands::default()
    };
    assert_eq!(demands(&heard, &leads, false), expected);
}

#[test]
fn a_signal_that_a_subclass_has_taken_shuts_nothing_down_but_deaths_are_looked_for() {
    let leads = leads(&[(Signal::Terminate, "drain"), (Signal::Child, "child")]);
    let heard = arrived(&[(Signal::Terminate, 1), (Signal::Child, 1)]);
    let expected = Demands {
        wish: Wish::Nothing,
        deaths: true,
        states: vec!["drain", "child"],
    };
    assert_eq!(demands(&heard, &leads, false), expected);
    // The other signal still belongs to the framework, and counts as the first.
    let heard = arrived(&[(Signal::Terminate, 1), (Signal::Interrupt, 1)]);
    assert_eq!(demands(&heard, &leads, false).wish, Wish::Shutdown);
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
fn documented(row: &Row) -> String {
    let parent = match (row.parent, row.lead) {
        (InParent::Handled, Lead::Shutdown) => "state `shutdown`",
        (InParent::Handled, Lead::ShutdownOrKill) => {
            "state `shutdown`; during one, SIGKILL to the children that are left"
        }
        (InParent::NotIgnored, Lead::Deaths) => {
            "not ignored; handled where children have no pidfd: looks for deaths"
        }
        (InParent::Ignored, Lead::Nothing) => "ignored, unless the program handles it",
        (InParent::Left, Lead::Nothing) => "left as it is",
        other => panic!("no words for {other:?}"),
    };
    let opt_out = match row.parent {
        InParent::Handled | InParent::Ignored => "yes",
        InParent::NotIgnored | InParent::Left => "–",
    };
    let child = match row.child {
        InChild::Stop => "a handler of its own: it is told to stop",
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
