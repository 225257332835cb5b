//! What a process shows of itself in ps: the name of its server, and what it does. Formats into
//! memory of a fixed size; reads no clock and writes to no other process's memory.

use std::{
    fmt::{self, Write},
    net::IpAddr,
};

/// How long a title can be, in bytes.
pub(crate) const LONGEST: usize = 127;
/// How long the name of a thread can be.
const LONGEST_NAME: usize = 15;
/// How much of the name of a server is shown, so that the rest has room.
const SERVER: usize = 40;
const DAY: u64 = 24 * 60 * 60;

/// What a process does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Activity {
    Starting,
    Free,
    /// It has had a connection in hand since this time, in seconds of Unix.
    Busy {
        peer: Option<IpAddr>,
        since: u64,
    },
    /// It is the parent of that many.
    Parent {
        busy: usize,
        children: usize,
    },
}

impl Activity {
    /// In a few letters.
    fn short(&self, f: &mut impl Write) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("new"),
            Self::Free => f.write_str("free"),
            Self::Busy { .. } => f.write_str("busy"),
            Self::Parent { busy, children } => write!(f, "{busy}/{children}"),
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Starting => f.write_str("starting"),
            Self::Free => f.write_str("free"),
            Self::Busy { peer: None, since } => write!(f, "busy since {}", TimeOfDay(since)),
            Self::Busy {
                peer: Some(peer),
                since,
            } => write!(f, "busy {peer} since {}", TimeOfDay(since)),
            Self::Parent { busy, children } => write!(f, "parent, {busy} busy of {children}"),
        }
    }
}

/// The time of the day in UTC: `12:03:07Z`.
struct TimeOfDay(u64);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.0 % DAY;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{hour:02}:{minute:02}:{:02}Z", second % 60)
    }
}

/// The titles of one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Title {
    server: String,
}

impl Title {
    /// For a server of that name. Control characters would confuse a terminal.
    pub(crate) fn new(server: &str) -> Self {
        let printable = |char: char| if char.is_control() { '?' } else { char };
        let server: String = server.chars().map(printable).collect();
        Self {
            server: beginning(&server, SERVER).to_owned(),
        }
    }

    /// `name: busy 192.0.2.1 since 12:03:07Z`.
    pub(crate) fn text(&self, activity: Activity) -> TitleText {
        let mut text = TitleText::new();
        // OK to ignore: a text takes what fits.
        let _ = write!(text, "{}: {activity}", self.server);
        text
    }

    /// The same in the 15 bytes that the kernel keeps of a thread's name: `name: busy`.
    pub(crate) fn short(&self, activity: Activity) -> TitleText {
        let mut state = TitleText::new();
        let _ = activity.short(&mut state);
        let room = LONGEST_NAME.saturating_sub(state.length + 2);
        let mut text = TitleText::new();
        let _ = write!(text, "{}: ", beginning(&self.server, room));
        let _ = activity.short(&mut text);
        text
    }
}

/// The longest beginning of at most `bytes` bytes.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev();
    let mut ends = end.filter(|at| text.is_char_boundary(*at));
    &text[..ends.next().unwrap_or(0)]
}

/// A title: it is written at each connection, so it needs no allocation.
#[derive(Clone, Copy)]
pub(crate) struct TitleText {
    bytes: [u8; LONGEST],
    length: usize,
}

impl TitleText {
    fn new() -> Self {
        Self {
            bytes: [0; LONGEST],
            length: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Takes what fits.
impl Write for TitleText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = beginning(text, LONGEST - self.length).as_bytes();
        self.bytes[self.length..self.length + fits.len()].copy_from_slice(fits);
        self.length += fits.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn long(server: &str, activity: Activity) -> String {
        String::from_utf8(Title::new(server).text(activity).bytes().to_vec()).unwrap()
    }

    fn short(server: &str, activity: Activity) -> String {
        String::from_utf8(Title::new(server).short(activity).bytes().to_vec()).unwrap()
    }

    fn busy(peer: &str, since: u64) -> Activity {
        Activity::Busy {
            peer: peer.parse().ok(),
            since,
        }
    }

    #[test]
    fn a_title_says_who_does_what_since_when() {
        let noon = 20_000 * DAY + 12 * 3600 + 3 * 60 + 7;
        let parent = Activity::Parent {
            busy: 3,
            children: 10,
        };
        for (activity, expected, name) in [
            (Activity::Starting, "web: starting", "web: new"),
            (Activity::Free, "web: free", "web: free"),
            (
                busy("192.0.2.1", noon),
                "web: busy 192.0.2.1 since 12:03:07Z",
                "web: busy",
            ),
            (
                busy("2001:db8::7", DAY - 1),
                "web: busy 2001:db8::7 since 23:59:59Z",
                "web: busy",
            ),
            (busy("", 0), "web: busy since 00:00:00Z", "web: busy"),
            (parent, "web: parent, 3 busy of 10", "web: 3/10"),
        ] {
            assert_eq!(long("web", activity), expected);
            assert_eq!(short("web", activity), name);
        }
    }

    #[test]
    fn a_long_name_leaves_room_for_what_the_process_does() {
        let name = "é".repeat(60);
        assert!(long(&name, busy("::1", 0)).ends_with(": busy ::1 since 00:00:00Z"));
        assert_eq!(short(&name, Activity::Free), "éééé: free");
        assert_eq!(short("images", busy("", 0)), "images: busy");
        assert_eq!(short("thumbnails", busy("", 0)), "thumbnail: busy");
    }

    #[test]
    fn a_name_cannot_control_a_terminal() {
        assert_eq!(long("a\u{1b}[2J\0b", Activity::Free), "a?[2J?b: free");
    }

    proptest! {
        #[test]
        fn any_title_fits_and_is_one_line(
            name: String, peer: Option<IpAddr>, since: u64, busy: usize, children: usize,
        ) {
            for activity in [Activity::Busy { peer, since }, Activity::Parent { busy, children }] {
                let title = long(&name, activity);
                prop_assert!(title.len() <= LONGEST && !title.contains(char::is_control));
                prop_assert!(title.ends_with(&activity.to_string()), "{}", title);
                let name = short(&name, activity);
                prop_assert!(!name.contains(char::is_control));
                prop_assert!(name.len() <= LONGEST_NAME || name.starts_with(": "), "{}", name);
            }
        }
    }
}
