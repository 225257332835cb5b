//! What the status helper answers: the documents of the record and the board at this moment. Reads
//! both; opens no socket.

use super::http::{Answer, Request, Status};
use crate::{
    core::{
        board::SharedView,
        status::{
            Stage,
            agent::{self, Taken},
            document,
            history::History,
            openmetrics::{self, Format},
            picture::{Context, Look, Picture, Readiness},
            record::Record,
            table,
        },
        time::Time,
    },
    sys::{clock::Clock, record_memory::RecordMemory},
};
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// It asks for `status.json` by itself.
const PAGE: &str = include_str!("page.html");

/// How late the parent's next turn may be until the server counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// The answers of one server.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) memory: RecordMemory,
    pub(super) view: SharedView,
    pub(super) clock: Clock,
    history: History,
    readiness: Readiness,
    taken: Taken,
    /// The last record that could be read.
    last: Record,
}

impl Answers {
    pub(super) fn new(memory: RecordMemory, view: SharedView, clock: Clock) -> Self {
        Self {
            memory,
            view,
            clock,
            history: History::default(),
            readiness: Readiness::default(),
            taken: Taken::default(),
            last: Record::default(),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// When the next sample is due.
    pub(super) fn sample_at(&self) -> Time {
        self.history.next_at()
    }

    /// Takes a sample, if one is due.
    pub(super) fn sample(&mut self) {
        if self.sample_at() <= self.now() {
            let (picture, _) = self.look();
            self.history.keep(picture.sample());
            self.last = picture.record;
        }
    }

    fn record(&mut self) -> Record {
        let record = self.memory.read();
        record.unwrap_or_else(|| std::mem::take(&mut self.last))
    }

    fn judge(&mut self, record: &Record) -> bool {
        let now = self.now();
        let has_child = record.has_ready_child();
        self.readiness.judge(record.stage(), has_child, now)
    }

    /// What there is to show, and whether the server is ready.
    fn look(&mut self) -> (Picture, bool) {
        let look = Look::at(&*self.view.0, self.now());
        let record = self.record();
        let is_ready = self.judge(&record);
        let picture = Picture::new(look, record, &*self.view.0, self.now());
        self.taken.note(&picture);
        (picture, is_ready)
    }

    /// Makes a text of what there is to show.
    fn show<R>(&mut self, render: impl FnOnce(&Context<'_>) -> R) -> R {
        let (picture, is_ready) = self.look();
        let rendered = render(&Context {
            picture: &picture,
            history: &self.history,
            is_ready,
        });
        self.last = picture.record;
        rendered
    }

    /// The answer to a request.
    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        match &*request.path {
            "/" => self.page(),
            "/status.json" => document(self.show(document::render)),
            "/metrics" => self.metrics(Format::for_accept(&request.accept)),
            "/health" => self.health(),
            "/ready" => self.ready(),
            _ => Answer::of(Status::NotFound),
        }
    }

    /// The line for HAProxy's agent-check.
    pub(super) fn agent(&mut self) -> String {
        let (picture, is_ready) = self.look();
        let line = agent::line(&picture, is_ready, self.taken);
        self.last = picture.record;
        line
    }

    /// The page, whose one script and one style are let in by a number that nobody can guess.
    fn page(&mut self) -> Answer {
        let table = self.show(|context| table::render(context.picture));
        let nonce = format!("{:016x}", RandomState::new().hash_one(self.now()));
        let fields = format!(
            "Content-Security-Policy: default-src 'none'; script-src 'nonce-{nonce}'; \
             style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n"
        );
        Answer {
            content_type: "text/html; charset=utf-8",
            fields,
            ..document(
                PAGE.replace("{{nonce}}", &nonce)
                    .replace("{{table}}", &table),
            )
        }
    }

    fn metrics(&mut self, format: Format) -> Answer {
        Answer {
            content_type: format.content_type(),
            ..document(self.show(|context| openmetrics::render(context, format)))
        }
    }

    /// Whether the parent's loop turns.
    fn health(&self) -> Answer {
        let late = self.now().since(self.memory.due());
        if late < STUCK_AFTER {
            return Answer::text(Status::Ok, "alive");
        }
        let text = format!("the parent has been stuck for {:.0} s", late.as_secs_f64());
        Answer::text(Status::ServiceUnavailable, &text)
    }

    fn ready(&mut self) -> Answer {
        let record = self.record();
        let (is_ready, stage) = (self.judge(&record), record.stage());
        self.last = record;
        match (is_ready, stage) {
            (true, _) => Answer::text(Status::Ok, "ready"),
            (false, Stage::Serving) => {
                Answer::text(Status::ServiceUnavailable, "no child is ready")
            }
            (false, stage) => Answer::text(Status::ServiceUnavailable, stage.as_str()),
        }
    }
}

fn document(body: String) -> Answer {
    Answer {
        status: Status::Ok,
        content_type: "application/json",
        fields: String::new(),
        body,
    }
}
