//! What a wrapper and a reference take from the server within.

use super::*;

/// Returns other values than the defaults do, and records its calls.
#[derive(Default)]
struct Inner {
    told: Vec<&'static str>,
    send_ack: Option<Duration>,
}

impl ChildServer for Inner {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }
    fn start(&mut self) -> io::Result<()> {
        self.told.push("start");
        Ok(())
    }
    fn stop(&mut self) {
        self.told.push("stop");
    }
    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }
    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.send_ack = interval;
    }
    fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
        Ok(())
    }
    fn before_stop(&mut self) {
        self.told.push("before_stop");
    }
    fn begin_drain(&mut self) {
        self.told.push("begin_drain");
    }
    fn is_queued(&mut self) -> bool {
        true
    }
    fn close_listeners(&mut self) {
        self.told.push("close_listeners");
    }
    fn lost(&mut self) -> Option<io::Error> {
        Some(io::Error::other("lost"))
    }
    fn reload(&mut self) -> io::Result<()> {
        self.told.push("reload");
        Ok(())
    }
    fn execs(&mut self) -> bool {
        true
    }
    fn own_group(&mut self) -> bool {
        true
    }
    fn only_kills_group(&mut self) -> bool {
        true
    }
    fn stop_signal(&mut self) -> Signal {
        Signal::Quit
    }
    fn reopen_signal(&mut self) -> Option<Signal> {
        Some(Signal::Window)
    }
    fn reopen(&mut self) -> io::Result<()> {
        self.told.push("reopen");
        Ok(())
    }
    fn refusals(&mut self) -> Refusals {
        Refusals::new([4, 3, 2, 1])
    }
    fn can_shed(&mut self) -> bool {
        true
    }
    fn set_all_busy(&mut self, all_busy: bool) {
        self.told
            .push(if all_busy { "all busy" } else { "not all" });
    }
    fn listeners(&mut self) -> Vec<ListenerStatus> {
        let name = "here".to_owned();
        vec![ListenerStatus {
            name,
            queued: None,
            limit: None,
            oldest: None,
        }]
    }
}

/// Implements only the required methods.
struct Wrapper(Option<Inner>);

impl ChildServer for Wrapper {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        self.0.as_mut().map(|inner| inner as &mut dyn ChildServer)
    }
    fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
        Ok(())
    }
}

/// Checks every method that a wrapper or a reference takes from the inner server.
fn has_all_of_inner(server: &mut dyn ChildServer) {
    let interval = Some(Duration::from_secs(1));
    server.start().expect("a start");
    server.set_send_ack(interval);
    server.begin_drain();
    server.before_stop();
    server.set_all_busy(true);
    server.close_listeners();
    server.reload().expect("settings");
    server.reopen().expect("logs");
    server.stop();
    assert!(server.can_shed());
    assert_eq!(server.send_ack(), interval);
    assert!(server.execs());
    assert!(server.own_group());
    assert!(server.only_kills_group());
    assert_eq!(server.stop_signal(), Signal::Quit);
    assert_eq!(server.reopen_signal(), Some(Signal::Window));
    assert!(server.is_queued());
    assert!(server.lost().is_some());
    assert_eq!(server.refusals(), Refusals::new([4, 3, 2, 1]));
    assert_eq!(server.listeners().len(), 1);
}

#[test]
fn a_wrapper_has_what_it_does_not_write_from_the_inner_server() {
    let mut wrapper = Wrapper(Some(Inner::default()));
    has_all_of_inner(&mut wrapper);
    let told = wrapper.0.map(|inner| inner.told);
    let all = [
        "start",
        "begin_drain",
        "before_stop",
        "all busy",
        "close_listeners",
        "reload",
        "reopen",
        "stop",
    ];
    assert_eq!(told, Some(all.to_vec()));
    has_all_of_inner(&mut &mut Inner::default());
    let boxed: Box<dyn ChildServer> = Box::new(Wrapper(Some(Inner::default())));
    has_all_of_inner(&mut Box::new(boxed));
}

/// The methods in a block of source, from its head to the end at the same depth.
fn methods<'a>(text: &'a str, head: &str) -> Vec<&'a str> {
    let (_, block) = text.split_once(head).expect("the block is there");
    let depth = head.len() - head.trim_start().len();
    let end = format!("\n{:1$}}}\n", "", depth);
    let (block, _) = block.split_once(&*end).expect("it ends");
    let methods = block
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("fn "));
    methods.filter_map(|rest| rest.split('(').next()).collect()
}

/// A method that is not in these lists would have its default through a reference or a box, and no
/// test would see it.
#[test]
fn every_method_of_a_server_is_forwarded_and_tried() {
    let declared = methods(include_str!("../server.rs"), "pub trait ChildServer {");
    assert!(declared.len() > 20, "{declared:?}");
    let forwarding = include_str!("forward.rs");
    let head = "        impl<S: ChildServer + ?Sized> ChildServer for $type {";
    assert_eq!(methods(forwarding, head), declared);
    for name in &declared {
        let call = format!("(**self).{name}(");
        assert!(forwarding.contains(&call), "{name} is not forwarded");
    }
    let own = include_str!("tests.rs");
    assert_eq!(methods(own, "impl ChildServer for Inner {"), declared);
    let (_, tried) = own.split_once("fn has_all_of_inner(").expect("it is here");
    let (tried, _) = tried.split_once("\n}\n").expect("it ends");
    // Every wrapper writes these two itself.
    let given = declared
        .iter()
        .filter(|name| !["inner", "resume_accept"].contains(name));
    for name in given {
        let call = format!("server.{name}(");
        assert!(tried.contains(&call), "{name} is not tried");
    }
}

#[test]
fn what_is_missing_both_ways_is_an_error_of_the_start() {
    let error = Wrapper(None).start().expect_err("an error");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    let set = || Wrapper(None).set_send_ack(None);
    assert!(std::panic::catch_unwind(set).is_err());
    assert_eq!(Wrapper(None).send_ack(), None);
    assert!(!Wrapper(None).execs());
    assert!(!Wrapper(None).own_group());
    assert!(!Wrapper(None).only_kills_group());
    assert_eq!(Wrapper(None).stop_signal(), Signal::Interrupt);
    assert_eq!(Wrapper(None).reopen_signal(), Some(Signal::User1));
    assert!(Wrapper(None).lost().is_none());
    assert!(Wrapper(None).listeners().is_empty());
    assert!(!Wrapper(None).is_queued());
    assert!(!Wrapper(None).can_shed());
    Wrapper(None).set_all_busy(true);
    assert!(Wrapper(None).reload().is_ok());
    assert!(Wrapper(None).reopen().is_ok());
    Wrapper(None).begin_drain();
    Wrapper(None).close_listeners();
    Wrapper(None).stop();
}
