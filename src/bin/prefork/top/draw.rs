//! Draws the view on a terminal of any size. Changes nothing of it.

use super::{
    table::Column,
    view::{Mode, TopList, TopView},
};
use crate::{
    snapshot::{ChildEntry, ChildrenSection, DeathEntry, ListenerEntry, plain, time},
    status,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Paragraph, Row, Table, TableState},
};

const HEADER: u16 = 4;
const DETAILS: u16 = 12;

const KEYS: &str = "q quit  / filter  s sort  Enter details  t stack  d deaths  x retire  ? help";

const HELP: &str = "\
  Up Down PgUp PgDn   choose (also k, j; g and G for the first and the last)
  s S, Left Right     sort by another column
  r                   reverse the order
  /                   show only children that have these words; Esc shows all
  Enter               details of the child, with the last death in its slot
  t                   where the child is now: its stack, in the details
  J K                 scroll the details
  d, Tab              the last deaths, and back
  x                   retire the child: it goes when its successor is ready
  p, Space            pause
  q, Ctrl-C           quit

Any key goes back.";

pub(super) fn draw(frame: &mut Frame<'_>, view: &TopView) {
    let most = frame.area().height / 2;
    let details = match (view.has_details, view.sight()) {
        (false, _) => 0,
        (true, None) => DETAILS.min(most),
        // A stack is long.
        (true, Some(_)) => most,
    };
    let areas = [
        Constraint::Length(HEADER),
        Constraint::Min(1),
        Constraint::Length(details),
        Constraint::Length(1),
    ];
    let [header, list, below, footer] = Layout::vertical(areas).areas(frame.area());
    draw_header(frame, header, view);
    match (view.mode, view.shown) {
        (Mode::Help, _) => frame.render_widget(Paragraph::new(HELP), list),
        (_, TopList::Children) => draw_children(frame, list, view),
        (_, TopList::Deaths) => draw_deaths(frame, list, view),
    }
    if details > 0 {
        let block = Block::bordered().title(" details ");
        let lines = details_of(view);
        let hidden = lines
            .len()
            .saturating_sub(usize::from(details.saturating_sub(2)));
        let scrolled = u16::try_from(view.scrolled.min(hidden)).unwrap_or(0);
        let text = Paragraph::new(lines).scroll((scrolled, 0));
        frame.render_widget(text.block(block), below);
    }
    frame.render_widget(footer_of(view), footer);
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, view: &TopView) {
    let snapshot = &view.snapshot;
    let server = &snapshot.server;
    let stage = match &view.stale {
        Some(reason) => format!("no answer: {}", plain(reason)).red().bold(),
        None => status::stage(snapshot).bold(),
    };
    let lines = vec![
        Line::from(vec![
            format!("process {}  ", server.pid).into(),
            stage,
            format!(
                "  up {}  epoch {}",
                time(server.uptime_seconds),
                server.epoch
            )
            .into(),
            (if view.is_paused { "  paused" } else { "" }).yellow(),
        ]),
        bar(&snapshot.children, area.width),
        Line::from(format!(
            "connections {} taken, {} lost  a second {}  queued {}",
            snapshot.counters.connections,
            snapshot.counters.lost_connections,
            status::rates(snapshot),
            queued(&snapshot.listeners),
        )),
        Line::from(vec![
            "busy, the last minute ".dim(),
            spark(&snapshot.history.busy, snapshot.children.max).into(),
        ]),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

/// How many clients wait, as far as that is known.
fn queued(listeners: &[ListenerEntry]) -> String {
    let known: Vec<_> = listeners.iter().filter_map(|one| one.queued).collect();
    let sum: u64 = known.iter().sum();
    match known.len() {
        0 => "unknown".to_owned(),
        all if all == listeners.len() => sum.to_string(),
        _ => format!("{sum} and unknown"),
    }
}

/// The children as a bar: a cell for each, or for several.
fn bar(children: &ChildrenSection, width: u16) -> Line<'static> {
    let text = format!(
        " {} busy {} free of at most {}",
        children.busy, children.free, children.max
    );
    let room = usize::from(width).saturating_sub(text.len() + 2).min(60);
    let max = children.max.max(children.total).max(1);
    let cells = |count: u64| {
        let cells = count.saturating_mul(room as u64).div_ceil(max);
        usize::try_from(cells).unwrap_or(room).min(room)
    };
    let others = children.starting + children.reserved + children.stopping;
    let (busy, both, all) = (
        cells(children.busy),
        cells(children.busy + others),
        cells(children.busy + others + children.free),
    );
    Line::from(vec![
        "[".into(),
        "#".repeat(busy).green(),
        "+".repeat(both - busy).yellow(),
        "-".repeat(all - both).cyan(),
        " ".repeat(room - all).into(),
        "]".into(),
        text.into(),
    ])
}

/// The numbers as columns of one cell each; a dot where there is none.
fn spark(numbers: &[Option<u64>], most: u64) -> String {
    const UNKNOWN: char = '·';
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |number: &Option<u64>| {
        let Some(number) = number.map(|number| number.min(most)) else {
            return UNKNOWN;
        };
        let level = (number * 8).div_ceil(most.max(1));
        let level = usize::try_from(level).unwrap_or(0);
        LEVELS.get(level).copied().unwrap_or(' ')
    };
    numbers.iter().map(level).collect()
}

fn draw_children(frame: &mut Frame<'_>, area: Rect, view: &TopView) {
    let head = Column::ALL.map(|column| {
        let arrow = match (column == view.by, view.is_reversed) {
            (false, _) => "",
            (true, false) => " v",
            (true, true) => " ^",
        };
        format!("{}{arrow}", column.name())
    });
    let rows = view.rows();
    let rows = rows.iter().map(|slot| {
        let cells = Column::ALL.map(|column| column.text(slot));
        Row::new(cells).style(style_of(slot))
    });
    let widths = Column::ALL.map(|column| match column.width() {
        0 => Constraint::Min(4),
        width => Constraint::Length(width),
    });
    draw_table(
        frame,
        area,
        view,
        (head.to_vec(), widths.to_vec()),
        rows.collect(),
    );
}

fn style_of(slot: &ChildEntry) -> Style {
    match slot.state.as_str() {
        "busy" => Style::new().fg(Color::Green),
        "starting" | "stopping" => Style::new().fg(Color::Yellow),
        "reserved" => Style::new().fg(Color::Magenta),
        _ => Style::new(),
    }
}

fn draw_deaths(frame: &mut Frame<'_>, area: Rect, view: &TopView) {
    let head = ["AGO", "PID", "CAUSE", "AGE", "CONNS", "STATUS"].map(str::to_owned);
    let now = view.snapshot.server.now;
    let rows = view.snapshot.deaths.iter().map(|death| {
        Row::new([
            time((now - death.at).max(0.0)),
            death.pid.to_string(),
            plain(&death.cause),
            time(death.age_seconds),
            death.connections.to_string(),
            death.how(),
        ])
    });
    let widths = [8, 8, 14, 8, 9, 30].map(Constraint::Length);
    draw_table(
        frame,
        area,
        view,
        (head.to_vec(), widths.to_vec()),
        rows.collect(),
    );
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &TopView,
    (head, widths): (Vec<String>, Vec<Constraint>),
    rows: Vec<Row<'_>>,
) {
    let head = Row::new(head).style(Style::new().add_modifier(Modifier::REVERSED));
    let table = Table::new(rows, widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED));
    let mut state = TableState::default().with_selected(view.at());
    frame.render_stateful_widget(table, area, &mut state);
}

/// What is known of the child that is chosen, and of a death.
fn details_of(view: &TopView) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let (TopList::Children, Some(slot)) = (view.shown, view.child()) {
        lines.extend(child_lines(slot));
    }
    if let Some((sight, ago)) = view.sight() {
        lines.push(format!("{} ago:", time(ago)).dim().into());
        lines.extend(sight.lines.iter().map(|line| Line::from(plain(line))));
    }
    match (view.shown, view.death()) {
        (TopList::Children, None) => lines.push("no death in its slot".dim().into()),
        (_, Some(death)) => lines.extend(death_lines(death)),
        (TopList::Deaths, None) => {}
    }
    lines
}

fn child_lines(slot: &ChildEntry) -> Vec<Line<'static>> {
    let seconds = |name: &str, seconds: Option<f64>| match seconds {
        Some(seconds) => format!("  {name} {}", time(seconds)),
        None => String::new(),
    };
    let memory = slot.memory_bytes.map_or(String::new(), |bytes| {
        format!("  private memory {} KiB", bytes / 1024)
    });
    let due = if slot.due { "  to be replaced" } else { "" };
    let ready = if slot.ready { "ready" } else { "not ready" };
    let reason = slot.reason.as_deref().map_or(String::new(), |reason| {
        format!("  told to stop: {}", plain(reason))
    });
    vec![
        Line::from(format!(
            "child {} {}  {}, {ready}  epoch {}{due}{reason}{}",
            slot.pid,
            plain(&slot.id),
            plain(&slot.state),
            slot.epoch,
            seconds("for", slot.stopping_seconds),
        )),
        Line::from(format!(
            "{} connections  age {}{}{}{}{memory}",
            slot.connections,
            time(slot.age_seconds),
            seconds("last ACK before", slot.ack_age_seconds),
            seconds("busy for", slot.busy_seconds),
            seconds("queued for", slot.queued_seconds),
        )),
        Line::from(format!(
            "{} {}",
            plain(slot.peer.as_deref().unwrap_or("no client")),
            plain(slot.text.as_deref().unwrap_or(""))
        )),
    ]
}

fn death_lines(death: &DeathEntry) -> Vec<Line<'static>> {
    let in_hand = death.in_hand_seconds.map_or(String::new(), |seconds| {
        format!(", with a connection for {}", time(seconds))
    });
    let mut lines = vec![Line::from(vec![
        Span::from("last death ").dim(),
        Span::from(format!(
            "child {} {}: {} ({}){in_hand}",
            death.pid,
            plain(&death.id),
            plain(&death.cause),
            death.how(),
        )),
    ])];
    let stack = death
        .stack
        .iter()
        .map(|frame| format!("  at {}", plain(frame)));
    let last = death
        .last_lines
        .iter()
        .map(|line| format!("  | {}", plain(line)));
    lines.extend(stack.chain(last).map(Line::from));
    lines
}

fn footer_of(view: &TopView) -> Line<'static> {
    match (view.mode, &view.message) {
        (Mode::Filter, _) => Line::from(format!("/{}_", plain(&view.filter))),
        (Mode::Confirm(pid), _) => {
            Line::from(format!("retire child {pid}? y for yes").yellow().bold())
        }
        (_, Some(message)) => Line::from(plain(message).yellow()),
        _ if !view.filter.is_empty() => {
            Line::from(format!("only {:?}; Esc shows all  {KEYS}", view.filter).dim())
        }
        _ => Line::from(KEYS.dim()),
    }
}

#[cfg(test)]
mod tests;
