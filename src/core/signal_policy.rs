//! What the signals of a turn ask for: how often each has come, and whether a shutdown is on. Decides;
//! shuts nothing down and kills nobody.

/// How often each signal has come since the last look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Arrived {
    pub(crate) interrupts: u64,
    pub(crate) terminations: u64,
    /// SIGCHLD: children have ended.
    pub(crate) deaths: u64,
}

/// What whoever sent them wants, the more urgent the greater.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Wish {
    Nothing,
    /// An orderly shutdown.
    Shutdown,
    /// SIGKILL for whoever is left.
    Kill,
}

/// The first SIGTERM or SIGINT asks for a shutdown, every SIGINT after that for the end of patience. In
/// which order those of one turn came is not known: a SIGINT beside another signal is taken for the later.
pub(crate) fn wish(terminations: u64, interrupts: u64, is_shutdown: bool) -> Wish {
    let asked_already = is_shutdown || terminations > 0;
    match (asked_already, interrupts) {
        (true, 1..) | (false, 2..) => Wish::Kill,
        _ if terminations + interrupts > 0 => Wish::Shutdown,
        _ => Wish::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two signals, the last a SIGINT, come to the same whether they come in one turn or in two.
    #[test]
    fn a_second_interrupt_is_one_that_comes_after_any_other_signal() {
        use Wish::{Kill, Nothing, Shutdown};
        // By SIGTERMs 0, 1, 2, and in each row by SIGINTs 0, 1, 2, 3.
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
            let wishes = [0, 1, 2]
                .map(|terminations| [0, 1, 2, 3].map(|int| wish(terminations, int, is_shutdown)));
            assert_eq!(wishes, expected, "with a shutdown: {is_shutdown}");
        }
    }
}
