//! What a slot says of its child, made from numbers that the child has written. A child may write
//! anything: each value is brought into its range here.

use super::{LINE, PEER_WORDS, TEXT_BYTES, TEXT_WORDS, peer};
use crate::core::{board::layout, time::Time, time_limits::InHand, wire::BoardEntry};
use std::{fmt, net::SocketAddr, time::Duration};

/// No child was queued for longer, or has more time for a connection, than this.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The first line of a slot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SlotNotes {
    /// The serial, and whether the child is busy. The notes are those of a child only if
    /// [`BoardEntry::is_of`] says so.
    pub(crate) entry: BoardEntry,
    /// How many connections the child has taken.
    pub(crate) requests: u64,
    /// Since when it has the connection in hand; `None` if it has none.
    pub(crate) since: Option<Time>,
    /// Until when the child has asked to go on with it; at most a day from now.
    pub(crate) extended_until: Option<Time>,
    /// How long the last connection was queued; `None` if that is not known.
    pub(crate) queued: Option<Duration>,
    /// Whether it is to be replaced.
    pub(crate) due: bool,
}

impl SlotNotes {
    /// What the time limits need to know of the connection in hand.
    pub(crate) fn in_hand(&self) -> InHand {
        InHand {
            since: self.since,
            extended_until: self.extended_until,
        }
    }

    /// Reads the words of a slot's first line.
    pub(crate) fn new(words: &[u64; LINE], now: Time) -> Self {
        Self {
            entry: BoardEntry::from_bits(words[layout::ENTRY_AT]),
            requests: words[layout::REQUESTS_AT],
            since: time(words[layout::SINCE_AT]).map(|since| since.min(now)),
            extended_until: time(words[layout::EXTENDED_AT]).map(|until| until.min(now + LONGEST)),
            queued: duration(words[layout::QUEUED_AT]).map(|queued| queued.min(LONGEST)),
            due: words[layout::DUE_AT] != 0,
        }
    }
}

/// A time as a word; 0 stands for none.
pub(crate) fn time_bits(time: Option<Time>) -> u64 {
    time.map_or(0, |time| duration_bits(Some(time.since_start())))
}

fn time(word: u64) -> Option<Time> {
    duration(word).map(Time::at)
}

/// A duration as a word: one more than its nanoseconds, since 0 stands for none.
pub(crate) fn duration_bits(duration: Option<Duration>) -> u64 {
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    duration.map_or(0, |duration| nanoseconds(duration).saturating_add(1))
}

fn duration(word: u64) -> Option<Duration> {
    word.checked_sub(1).map(Duration::from_nanos)
}

/// The client that a child serves, and what its handler says about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Description {
    /// The internet address of the client.
    pub(crate) peer: Option<SocketAddr>,
    /// The text of the handler: valid UTF-8, without control characters.
    pub(crate) text: String,
}

impl Description {
    pub(crate) fn peer_words(peer: Option<SocketAddr>) -> [u64; PEER_WORDS] {
        peer::encode(peer)
    }

    /// The words of a text, and its length: as much as fits, cut between two characters.
    pub(crate) fn text_words(text: &str) -> ([u64; TEXT_WORDS], usize) {
        let length = floor_boundary(text, TEXT_BYTES);
        let mut bytes = [0; TEXT_BYTES];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        let (chunks, _) = bytes.as_chunks();
        let mut words = [0; TEXT_WORDS];
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_ne_bytes(*chunk);
        }
        (words, length)
    }

    /// Reads the words of a description.
    pub(crate) fn new(peer: [u64; PEER_WORDS], length: u64, text: &[u64; TEXT_WORDS]) -> Self {
        let length = usize::try_from(length).map_or(TEXT_BYTES, |length| length.min(TEXT_BYTES));
        let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let text = String::from_utf8_lossy(&bytes[..length]);
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        Self {
            peer: peer::decode(peer),
            text: text.chars().map(shown).collect(),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "a connection from {peer}")?,
            None => f.write_str("a connection")?,
        }
        match &*self.text {
            "" => Ok(()),
            text => write!(f, ": {text}"),
        }
    }
}

/// The end of the longest piece of `text` that has at most this many bytes. As
/// `str::floor_char_boundary`, which is newer than the oldest compiler supported.
fn floor_boundary(text: &str, most: usize) -> usize {
    let mut ends = (0..=most.min(text.len())).rev();
    ends.find(|&end| text.is_char_boundary(end)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_new_slot_says_nothing() {
        assert_eq!(SlotNotes::new(&[0; LINE], at(5)), SlotNotes::default());
        let nothing = Description::new([0; PEER_WORDS], 0, &[0; TEXT_WORDS]);
        assert_eq!(nothing, Description::default());
    }

    #[test]
    fn what_was_written_is_read() {
        let mut words = [0; LINE];
        words[layout::ENTRY_AT] = BoardEntry::of(7).after(true).bits();
        words[layout::REQUESTS_AT] = 12;
        words[layout::SINCE_AT] = time_bits(Some(at(3)));
        words[layout::EXTENDED_AT] = time_bits(Some(at(9)));
        words[layout::QUEUED_AT] = duration_bits(Some(Duration::ZERO));
        words[layout::DUE_AT] = 1;
        let notes = SlotNotes::new(&words, at(5));
        assert!(notes.entry.is_of(7) && notes.entry.is_busy());
        assert_eq!(notes.requests, 12);
        assert_eq!(notes.since, Some(at(3)));
        assert_eq!(notes.extended_until, Some(at(9)));
        assert_eq!(notes.queued, Some(Duration::ZERO));
        assert!(notes.due);
    }

    /// A connection does not begin in the future, and no child is spared without limit.
    #[test]
    fn values_out_of_range_are_brought_into_it() {
        let notes = SlotNotes::new(&[u64::MAX; LINE], at(5));
        assert_eq!(notes.since, Some(at(5)));
        assert_eq!(notes.extended_until, Some(at(5) + LONGEST));
        assert_eq!(notes.queued, Some(LONGEST));
    }

    #[test]
    fn a_description_reads_like_a_sentence() {
        let described = |peer: Option<&str>, text: &str| Description {
            peer: peer.map(|peer| peer.parse().unwrap()),
            text: text.into(),
        };
        let all = described(Some("192.0.2.1:9"), "GET /").to_string();
        assert_eq!(all, "a connection from 192.0.2.1:9: GET /");
        assert_eq!(described(None, "").to_string(), "a connection");
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        for text in [
            "",
            "GET /",
            &"x".repeat(TEXT_BYTES),
            &"é".repeat(TEXT_BYTES),
        ] {
            let (words, length) = Description::text_words(text);
            let read = Description::new([0; PEER_WORDS], length as u64, &words);
            assert!(text.starts_with(&read.text), "{}", read.text);
            assert_eq!(read.text.len(), text.len().min(TEXT_BYTES));
        }
        let (words, length) = Description::text_words(&("x".to_owned() + &"é".repeat(TEXT_BYTES)));
        assert_eq!(length, TEXT_BYTES - 1);
        assert!(
            Description::new([0; PEER_WORDS], length as u64, &words)
                .text
                .ends_with('é')
        );
    }

    proptest! {
        #[test]
        fn any_words_make_notes_in_range(words: [u64; LINE], now: u64) {
            let now = Time::at_nanoseconds(now);
            let notes = SlotNotes::new(&words, now);
            prop_assert!(notes.since.is_none_or(|since| since <= now));
            prop_assert!(notes.extended_until.is_none_or(|until| until <= now + LONGEST));
            prop_assert!(notes.queued.is_none_or(|queued| queued <= LONGEST));
        }

        #[test]
        fn any_words_make_a_text_of_one_line(
            peer: [u64; PEER_WORDS], length: u64, text: [u64; TEXT_WORDS],
        ) {
            let described = Description::new(peer, length, &text);
            prop_assert!(!described.text.contains(char::is_control));
            prop_assert!(described.text.chars().count() <= TEXT_BYTES);
        }
    }
}
