//! The attributes of a running server: read and set at any time, and what a change leads to. Normalises
//! nothing itself.

use super::*;

macro_rules! attribute_accessors {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident, $set:ident: $type:ty $(as $read:ty)? = $default:expr => $facts:tt;
    )*) => {
        /// The attributes, which can be read and set at any time. The getters return the value in
        /// force.
        impl Monitor {
            $(
                $(#[doc = $doc])*
                #[doc = facts!($default, $facts)]
                pub fn $name(&self) -> read_type!($type $(, $read)?) {
                    read!(self.attributes.$name $(, $read)?)
                }

                #[doc = concat!("Sets [`", stringify!($name), "`](Self::", stringify!($name), ").")]
                pub fn $set(&mut self, value: $type) {
                    self.attributes.set(|asked| asked.$name = value);
                    self.attributes_changed();
                }
            )*
        }
    };
}
with_attributes!(attribute_accessors);

impl Monitor {
    pub(crate) fn with_attributes(attributes: Attributes) -> Self {
        Self {
            begun_with: Some(attributes.asked().clone()),
            attributes,
            ..Self::default()
        }
    }

    /// The attributes as they were asked for, including values that make no sense.
    pub fn config(&self) -> &Config {
        self.attributes.asked()
    }

    /// Sets all attributes at once, as after reading a file of settings again.
    ///
    /// When each takes effect says its row: those that are read at the start only do not.
    pub fn set_config(&mut self, config: Config) {
        self.attributes.set(|asked| *asked = config);
        self.attributes_changed();
    }

    /// Sets an attribute from text, and has the numbers of children checked against the new value.
    pub(crate) fn set_from_text(
        &mut self,
        attribute: &Attribute,
        text: &str,
    ) -> Result<(), String> {
        let mut asked = self.config().clone();
        attribute.set(&mut asked, text)?;
        self.attributes.set(|config| *config = asked);
        self.attributes_changed();
        if !self.shutdown {
            self.post_known(PostedState::Forkoff);
        }
        Ok(())
    }

    /// Acts on changed attributes: warns once of each value that makes no sense, and updates the
    /// surplus and the timer of the timeout check. A default that gives way to what was asked for is
    /// no mistake of the program.
    pub(crate) fn attributes_changed(&mut self) {
        let unreported = self.attributes.take_unreported();
        for change in unreported.iter().filter(|change| !change.is_of_default()) {
            let (name, from, to) = (change.name, change.from, change.to);
            self.notice(
                Notice::Attribute(name),
                format_args!("{name} {from} makes no sense, using {to}"),
            );
        }
        self.observe_surplus();
        self.watch_clocks();
        self.plan_age_check();
        self.memory_watch
            .set(self.attributes.max_memory > 0, self.now);
        if self.timeout_check.is_outdated(self.attributes.timeout) {
            self.arm_timeout_check();
        }
        if self.lacks_children() {
            self.post_known(PostedState::Forkoff);
        }
    }

    /// Whether a running pool has fewer spare children than it is to have, and room for more. An idle
    /// one has no other event by which it would notice.
    fn lacks_children(&self) -> bool {
        let (census, room) = (self.pool.census(), self.room(0));
        let is_short = census.idle() < self.attributes.min_spare_servers && room > 0;
        is_short && census.live() > 0 && !self.shutdown && !self.child
    }
}
