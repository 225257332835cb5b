//! The titles that this process shows in ps: of the parent, and of a child. Says what is shown and
//! where; `area` makes the kernel show it. Costs one write to memory, or, where the kernel refuses
//! that, one system call.

#[cfg(target_os = "linux")]
mod area;
#[cfg(not(target_os = "linux"))]
#[path = "no_area.rs"]
mod area;

use super::date;
use crate::core::title::{Activity, Title};
use area::TitleArea;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

/// Where titles of this process are written.
#[derive(Clone, Copy, Debug)]
enum TitlePlace {
    /// What ps takes for the arguments of the process.
    Arguments(&'static TitleArea),
    /// The name of the calling thread, of which 15 bytes are kept.
    Name,
}

impl TitlePlace {
    fn find() -> Self {
        TitleArea::of_this_process().map_or(Self::Name, Self::Arguments)
    }

    fn show(self, title: &Title, activity: Activity) {
        match self {
            Self::Arguments(area) => area.write(title.text(activity).bytes()),
            Self::Name => area::set_name(title.short(activity).bytes()),
        }
    }
}

/// The title of a parent; shows none until it is told to.
#[derive(Debug, Default)]
pub(crate) struct ParentTitle {
    shown: Option<ShownTitle>,
}

#[derive(Debug)]
struct ShownTitle {
    place: TitlePlace,
    name: String,
    title: Title,
    activity: Option<Activity>,
}

impl ShownTitle {
    fn new(name: &str) -> Self {
        Self {
            place: TitlePlace::find(),
            name: name.to_owned(),
            title: Title::new(name),
            activity: None,
        }
    }
}

impl ParentTitle {
    /// Shows a title if it is another one than before. Without a name shows what the process was
    /// started with.
    pub(crate) fn show(&mut self, name: Option<&str>, busy: usize, children: usize) {
        let Some(name) = name else {
            return self.end();
        };
        if self.shown.as_ref().is_none_or(|shown| shown.name != name) {
            self.shown = Some(ShownTitle::new(name));
        }
        let activity = Activity::Parent { busy, children };
        if let Some(shown) = &mut self.shown
            && shown.activity.replace(activity) != Some(activity)
        {
            // Another server of this process may have ended and given it back.
            shown.place = TitlePlace::find();
            shown.place.show(&shown.title, activity);
        }
    }

    /// Shows what the process was started with.
    pub(crate) fn end(&mut self) {
        if let Some(ShownTitle {
            place: TitlePlace::Arguments(area),
            ..
        }) = self.shown.take()
        {
            area.give_back();
        }
    }
}

const STARTING: u8 = 0;
const FREE: u8 = 1;
const BUSY: u8 = 2;

/// The title of a child.
#[derive(Debug)]
pub(crate) struct ChildTitle {
    place: TitlePlace,
    title: Title,
    /// What is shown.
    state: AtomicU8,
}

impl ChildTitle {
    /// In a new child: shows that it is starting.
    pub(crate) fn new(name: &str) -> Self {
        let child = Self {
            place: TitlePlace::find(),
            title: Title::new(name),
            state: AtomicU8::new(STARTING),
        };
        child.place.show(&child.title, Activity::Starting);
        child
    }

    /// A connection was taken.
    pub(crate) fn begin(&self, peer: Option<SocketAddr>) {
        self.state.store(BUSY, Relaxed);
        let peer = peer.map(|peer| peer.ip());
        let since = date::wall_clock().as_secs();
        self.place.show(&self.title, Activity::Busy { peer, since });
    }

    /// The child is busy, with a connection that was shown or with something else.
    pub(crate) fn busy(&self) {
        if self.state.load(Relaxed) != BUSY {
            self.begin(None);
        }
    }

    /// No connection is in hand.
    pub(crate) fn free(&self) {
        if self.state.swap(FREE, Relaxed) != FREE {
            self.place.show(&self.title, Activity::Free);
        }
    }
}
