//! The verdict: joins the lost connections with the hands of the dead and the blows, and the deaths
//! with what was done to whom.
//!
//! It never gives the server the benefit of the doubt: a loss that does not join is a fault.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::book::{Book, Exit, Life, by_cause};
use super::fault::{Fault, Faults};
use super::load::{Loss, Tally};
use super::rampage::Blow;

/// What is to be said about a campaign.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Losses that were in the hands of a child that was hit.
    pub excused: usize,
    /// Losses that ended between the blow and the end of a child that had nothing in its slot: it
    /// had accepted and had not come to write it down. At most one for each such child.
    pub excused_in_passing: usize,
    pub unexcused: Vec<String>,
    /// Deaths that nothing that was done explains.
    pub unexplained: Vec<String>,
    /// Children that were taken for silent with nothing done to them, and left in good order.
    pub innocents: usize,
    /// How often each fault came to pass: a blow that met a living child, a request that a child
    /// has read.
    pub faults: BTreeMap<Fault, usize>,
    /// For each child that was killed while the pool had a fixed size: from the blow to the parent's
    /// knowledge of the death, and to its successor's first word.
    pub replacements: Vec<[Duration; 2]>,
}

/// What happened to each life, beside what the journal says.
struct Histories<'a> {
    book: &'a Book,
    /// The blows that met it, by its place in the book.
    blows: HashMap<usize, Vec<Blow>>,
}

impl<'a> Histories<'a> {
    fn new(book: &'a Book, blows: &[Blow]) -> Self {
        let mut of_pid: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, life) in book.lives.iter().enumerate() {
            of_pid.entry(life.pid).or_default().push(index);
        }
        let mut met: HashMap<usize, Vec<Blow>> = HashMap::new();
        for blow in blows {
            // The pid may have had several lives: the last that had begun.
            let lives = of_pid.get(&blow.pid).into_iter().flatten().rev();
            let mut begun = lives.filter(|&&index| book.lives[index].forked <= blow.at);
            if let Some(&index) = begun.next()
                && end(&book.lives[index]) >= blow.at
            {
                met.entry(index).or_default().push(*blow);
            }
        }
        Self { book, blows: met }
    }

    fn blows(&self, index: usize) -> &[Blow] {
        self.blows.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Everything that was done to that child or by it.
    fn faults(&self, index: usize) -> Faults {
        let exit = self.book.lives[index].exit.as_ref();
        let own = exit.map_or(Faults::default(), |exit| exit.hand.faults);
        let blows = self.blows(index).iter();
        blows.fold(own, |faults, blow| faults.with(blow.fault))
    }
}

fn end(life: &Life) -> Duration {
    life.exit.as_ref().map_or(Duration::MAX, |exit| exit.at)
}

/// Judges a campaign, all of whose children are dead. `fixed` is the size of the pool, if it has one.
pub fn judge(tally: &Tally, book: &Book, blows: &[Blow], fixed: Option<usize>) -> Verdict {
    let histories = Histories::new(book, blows);
    let mut verdict = Verdict::default();
    verdict.excuse(tally, &histories);
    verdict.explain(&histories);
    if let Some(size) = fixed {
        verdict.measure(&histories, size);
    }
    verdict
}

impl Verdict {
    fn excuse(&mut self, tally: &Tally, histories: &Histories<'_>) {
        let mut of_port: HashMap<u16, Vec<usize>> = HashMap::new();
        let mut empty = Vec::new();
        for (index, life) in histories.book.lives.iter().enumerate() {
            match life.exit.as_ref().map_or(0, |exit| exit.hand.port) {
                0 if !histories.blows(index).is_empty() => empty.push(index),
                0 => {}
                port => of_port.entry(port).or_default().push(index),
            }
        }
        for loss in &tally.losses {
            let in_hand = of_port.get_mut(&loss.port).and_then(|indices| {
                let at = indices.iter().position(|&index| {
                    let exit = histories.book.lives[index].exit.as_ref();
                    exit.is_some_and(|exit| joins(exit, loss))
                        && histories.faults(index).are_costly()
                })?;
                Some(indices.swap_remove(at))
            });
            if in_hand.is_some() {
                self.excused += 1;
                continue;
            }
            let passing = empty.iter().position(|&index| {
                let from = histories.blows(index)[0].at;
                loss.before <= end(&histories.book.lives[index]) && from <= loss.ended
            });
            match passing {
                Some(at) => {
                    empty.swap_remove(at);
                    self.excused_in_passing += 1;
                }
                None => self.unexcused.push(format!("{loss:?}")),
            }
        }
    }

    fn explain(&mut self, histories: &Histories<'_>) {
        for (index, life) in histories.book.lives.iter().enumerate() {
            let faults = histories.faults(index);
            for fault in Fault::ALL.into_iter().filter(|&fault| faults.has(fault)) {
                *self.faults.entry(fault).or_default() += 1;
            }
            let Some(exit) = &life.exit else {
                self.unexplained.push(format!("{life:?} has not ended"));
                continue;
            };
            match explanation(exit, faults) {
                Explanation::Done => {}
                Explanation::Innocent => self.innocents += 1,
                Explanation::None => self.unexplained.push(format!("{life:?} after {faults:?}")),
            }
        }
    }

    /// In a pool of a fixed size each fork beyond it needs a death, and they follow in order.
    fn measure(&mut self, histories: &Histories<'_>, size: usize) {
        let lives = &histories.book.lives;
        let successors = lives.iter().skip(size);
        for (&index, successor) in histories.book.ends.iter().zip(successors) {
            let killed = histories.blows(index).first();
            if let (Some(blow), Some(up)) = (killed, successor.up) {
                let known = end(&lives[index]) - blow.at;
                self.replacements.push([known, up - blow.at]);
            }
        }
    }
}

/// Whether the dead child had this connection: the port is the same, and it had it while that lived.
fn joins(exit: &Exit, loss: &Loss) -> bool {
    exit.hand.since >= loss.came && exit.hand.since <= loss.ended && loss.before <= exit.at
}

enum Explanation {
    Done,
    Innocent,
    None,
}

fn explanation(exit: &Exit, faults: Faults) -> Explanation {
    let fault = match (exit.code, exit.signal) {
        (_, Some(9)) => Some(Fault::Kill),
        (_, Some(11)) => Some(Fault::Segv),
        (_, Some(6)) => Some(Fault::Abort),
        (Some(0), _) => Some(Fault::ExitZero),
        (Some(1), _) => Some(Fault::ExitOne),
        (Some(101), _) => Some(Fault::Panic),
        _ => None,
    };
    let explained = fault.is_some_and(|fault| faults.has(fault));
    let stuck = faults.has(Fault::Stop) || faults.has(Fault::Spin);
    let deaf = stuck || faults.has(Fault::MaskInt);
    let orderly = exit.code == Some(0) || exit.signal == Some(9) && deaf;
    let done = match exit.cause.as_str() {
        "Killed" | "Finished" | "Failed" | "FailedStart" | "Closed" => explained,
        "TimedOut" => explained || stuck,
        "Shutdown" => explained || orderly,
        _ => false,
    };
    match exit.cause.as_str() {
        _ if done => Explanation::Done,
        "TimedOut" if exit.code == Some(0) => Explanation::Innocent,
        _ => Explanation::None,
    }
}

/// Panics unless the server's own report, which it prints, agrees with its journal.
#[track_caller]
pub fn compare_with_the_report(report: &str, book: &Book) {
    let (deaths, _) = report
        .split_once("; words: ")
        .expect("the end of the deaths");
    let (forks, deaths) = deaths.split_once(" forked, ").expect("the forks");
    assert_eq!(forks, book.lives.len().to_string(), "forks in {report}");
    assert!(deaths.starts_with("0 failed forks"), "{report}");
    let (_, deaths) = deaths.split_once("deaths:").expect("the deaths");
    let words: Vec<&str> = deaths.split_whitespace().collect();
    let number = |text: &str| text.parse::<u64>().expect("a number of deaths");
    let reported = words.chunks(2).map(|pair| (pair[1], number(pair[0])));
    assert_eq!(
        reported.collect::<HashMap<_, _>>(),
        by_cause(book),
        "deaths in {report}"
    );
    assert_eq!(
        book.ends.len(),
        book.lives.len(),
        "as many have died as were forked"
    );
}
