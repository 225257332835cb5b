//! What keys do to the view, without a terminal.

use super::*;
use crate::snapshot::tests::snapshot;

fn press(view: &mut TopView, keys: &str) {
    for key in keys.chars() {
        let order = view.press(match key {
            '\n' => KeyPress::Enter,
            '\t' => KeyPress::Tab,
            '\u{1b}' => KeyPress::Escape,
            '\u{8}' => KeyPress::Backspace,
            char => KeyPress::Char(char),
        });
        assert_eq!(order, None, "{key}");
    }
}

fn pid(view: &TopView) -> Option<u32> {
    view.at().map(|at| view.rows()[at].pid)
}

#[test]
fn a_child_stays_chosen_wherever_it_moves() {
    let mut view = TopView::new(snapshot(), false);
    assert_eq!(pid(&view), Some(4713), "busy for longest");
    press(&mut view, "j");
    assert_eq!((pid(&view), view.at()), (Some(4712), Some(1)));
    press(&mut view, "r");
    press(&mut view, "sS");
    assert_eq!(pid(&view), Some(4712));
    let mut other = snapshot();
    other.slots[0].busy_seconds = Some(99.0);
    press(&mut view, "r");
    view.update(Ok(other.clone()));
    assert_eq!((pid(&view), view.at()), (Some(4712), Some(0)));
    // It has gone.
    other.slots.remove(0);
    view.update(Ok(other));
    assert_eq!(pid(&view), Some(4713));
    press(&mut view, "G");
    assert_eq!(view.at(), Some(1));
    press(&mut view, "jjjkkkkkk");
    assert_eq!(view.at(), Some(0));
    view.update(Ok(StatusDocument::default()));
    assert_eq!((view.at(), view.child().is_some()), (None, false));
    press(&mut view, "jkgGx\n\t jk");
}

#[test]
fn a_filter_is_typed_kept_and_cleared() {
    let mut view = TopView::new(snapshot(), true);
    press(&mut view, "/free");
    assert_eq!((view.rows().len(), pid(&view)), (1, Some(4799)));
    // In a filter, letters are letters.
    press(&mut view, "q\u{8}\n");
    assert_eq!((view.filter.as_str(), view.is_over()), ("free", false));
    press(&mut view, "\u{1b}");
    assert_eq!(view.rows().len(), 3);
    press(&mut view, "/x\u{1b}");
    assert_eq!((view.filter.as_str(), view.mode), ("", Mode::Browse));
    press(&mut view, "q");
    assert!(view.is_over());
}

#[test]
fn a_child_is_retired_after_a_yes() {
    let mut view = TopView::new(snapshot(), true);
    press(&mut view, "xn");
    assert_eq!(view.mode, Mode::Browse);
    press(&mut view, "x");
    assert_eq!(view.mode, Mode::Confirm(4713));
    assert_eq!(
        view.press(KeyPress::Char('y')),
        Some(UserAction::Retire(4713))
    );
    let mut view = TopView::new(snapshot(), false);
    press(&mut view, "x");
    assert_eq!(view.mode, Mode::Browse);
    assert!(view.message.is_some_and(|text| text.contains("--control")));
}

#[test]
fn a_child_is_looked_at_and_shown_while_it_is_chosen() {
    let mut view = TopView::new(snapshot(), true);
    assert_eq!(
        view.press(KeyPress::Char('t')),
        Some(UserAction::Look(4713))
    );
    assert!(view.has_details, "the stack is there");
    let asking = Some("asking 4713 where it is");
    assert_eq!(view.message.as_deref(), asking);
    view.show_stack(4713, vec!["child 4713 is in x".to_owned(); 3]);
    assert_eq!(view.message, None);
    press(&mut view, "JJJJJK");
    assert_eq!(view.scrolled, 2);
    let mut later = snapshot();
    later.server.now += 2.5;
    view.update(Ok(later));
    assert_eq!(view.sight().map(|(_, ago)| ago), Some(2.5));
    press(&mut view, "j");
    assert!(view.sight().is_none(), "it is of another child");
    press(&mut view, "JJk");
    assert!(view.sight().is_some());
    press(&mut view, "d");
    assert!(view.sight().is_none(), "these are deaths");
    assert_eq!(view.press(KeyPress::Char('t')), None);
    let mut view = TopView::new(snapshot(), false);
    assert_eq!(view.press(KeyPress::Char('t')), None);
    assert!(view.message.is_some_and(|text| text.contains("--control")));
}

#[test]
fn deaths_are_beside_the_children() {
    let mut view = TopView::new(snapshot(), false);
    assert!(view.death().is_none(), "no death in slot 2");
    press(&mut view, "G");
    assert_eq!(view.death().map(|death| death.pid), Some(4713), "in slot 1");
    press(&mut view, "\tG");
    assert_eq!((view.shown, view.at()), (TopList::Deaths, Some(1)));
    press(&mut view, "g");
    assert_eq!(
        view.death().map(|death| death.cause.as_str()),
        Some("overtime")
    );
    press(&mut view, "xd");
    assert_eq!((view.shown, view.mode), (TopList::Children, Mode::Browse));
}

#[test]
fn what_was_told_last_stays_when_the_server_is_silent_or_the_user_pauses() {
    let mut view = TopView::new(snapshot(), false);
    view.update(Err("gone".to_owned()));
    assert_eq!(
        (view.rows().len(), view.stale.as_deref()),
        (3, Some("gone"))
    );
    view.update(Ok(snapshot()));
    assert_eq!(view.stale, None);
    press(&mut view, "p");
    view.update(Ok(StatusDocument::default()));
    assert_eq!(view.rows().len(), 3);
    press(&mut view, "p?");
    assert_eq!(view.mode, Mode::Help);
    press(&mut view, "q");
    assert!(!view.is_over(), "any key leaves the help");
    assert_eq!(view.press(KeyPress::Interrupt), None);
    assert!(view.is_over());
}
