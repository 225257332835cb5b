//! The children as a table in HTML, for a browser without scripts. Whatever a child or a client has
//! written is escaped.

use super::{
    names,
    picture::{Picture, ShownChild},
};
use crate::core::time::Time;
use std::fmt::Write;

const HEADS: [&str; 8] = [
    "Slot",
    "Pid",
    "State",
    "Busy for",
    "Connections",
    "Age",
    "Client",
    "What it does",
];

/// The table.
pub(crate) fn render(picture: &Picture) -> String {
    let mut text = String::from("<table aria-labelledby=\"h-table\"><thead><tr>");
    for head in HEADS {
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "<th scope=\"col\">{head}</th>");
    }
    text.push_str("</tr></thead><tbody>");
    for child in &picture.children {
        row(&mut text, child, picture.now);
    }
    text.push_str("</tbody></table>");
    text
}

fn row(text: &mut String, child: &ShownChild, now: Time) {
    let description = child.description.as_ref();
    let peer = description.and_then(|description| description.peer);
    let seconds = |since: Time| format!("{:.1} s", now.since(since).as_secs_f64());
    let cells = [
        child.slot.to_string(),
        child.row.pid().to_string(),
        names::state(child.state).to_owned(),
        child.since.map(seconds).unwrap_or_default(),
        child.requests.to_string(),
        seconds(Time::at_nanoseconds(child.row.start_time)),
        peer.map(|peer| peer.to_string()).unwrap_or_default(),
        description.map_or("", |found| &found.text).to_owned(),
    ];
    text.push_str("<tr>");
    for cell in cells {
        let _ = write!(text, "<td>{}</td>", escaped(&cell));
    }
    text.push_str("</tr>");
}

fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(char),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_html() {
        let text = escaped("</noscript><script>alert('\"&')</script>");
        assert!(!text.contains(['<', '>', '"', '\'']), "{text}");
        assert!(text.contains("&quot;&amp;&#39;"), "{text}");
    }
}
