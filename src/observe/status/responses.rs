//! What the status helper answers: the documents of the record and the board at this moment. Reads
//! both; opens no socket.

use super::http::{HttpRequest, Response, StatusCode};
use crate::{
    core::{
        board::SharedView,
        status::{
            Stage,
            agent::{self, OccupiedAverage},
            document,
            history::History,
            openmetrics::{self, Format},
            picture::{BoardLook, Picture, Readiness, ReportedSums, StatusContext},
            record::StatusRecord,
            table,
        },
        time::Time,
    },
    sys::{clock::Clock, record_memory::RecordMemory},
};
use std::{
    hash::{BuildHasher, RandomState},
    rc::Rc,
    time::Duration,
};

/// It asks for `status.json` by itself.
const PAGE: &str = include_str!("page.html");

/// How late the parent's next turn may be until the server counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A text is told again for so many times as long as it took to make: making one takes a fifth of
/// the helper's time, no matter how often it is asked for.
const KEPT_FOR: u32 = 4;
/// And for no longer than this.
const KEPT_AT_MOST: Duration = Duration::from_secs(1);

/// The texts that take long to make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LargeText {
    Document,
    Table,
    Metrics(Format),
}

impl LargeText {
    fn render(self, context: &StatusContext<'_>) -> String {
        match self {
            Self::Document => document::render(context),
            Self::Table => table::render(context.picture),
            Self::Metrics(format) => openmetrics::render(context, format),
        }
    }
}

/// A text that was made, and until when it is told again.
#[derive(Debug)]
struct CachedText {
    what: LargeText,
    text: Rc<str>,
    until: Time,
}

/// The answers of one server.
#[derive(Debug)]
pub(super) struct Responses {
    pub(super) memory: RecordMemory,
    pub(super) view: SharedView,
    pub(super) clock: Clock,
    history: History,
    readiness: Readiness,
    taken: OccupiedAverage,
    told: ReportedSums,
    /// The last record that could be read.
    last: StatusRecord,
    kept: Vec<CachedText>,
}

impl Responses {
    pub(super) fn new(memory: RecordMemory, view: SharedView, clock: Clock) -> Self {
        Self {
            memory,
            view,
            clock,
            history: History::default(),
            readiness: Readiness::default(),
            taken: OccupiedAverage::default(),
            told: ReportedSums::default(),
            last: StatusRecord::default(),
            kept: Vec::new(),
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

    fn record(&mut self) -> StatusRecord {
        let record = self.memory.read();
        record.unwrap_or_else(|| std::mem::take(&mut self.last))
    }

    fn judge(&mut self, record: &StatusRecord) -> bool {
        let now = self.now();
        let has_child = record.has_ready_child();
        let is_ready = self.readiness.judge(record.stage(), has_child, now);
        is_ready && !record.is_drained()
    }

    /// What there is to show, and whether the server is ready.
    fn look(&mut self) -> (Picture, bool) {
        let look = BoardLook::at(&*self.view.0, self.now());
        let record = self.record();
        let is_ready = self.judge(&record);
        let has_metrics = !record.texts.metrics.is_empty();
        self.told.note(self.view.0.sums(has_metrics));
        let now = self.now();
        let picture = Picture::new(look, record, &mut self.told, now);
        self.taken.note(&picture);
        (picture, is_ready)
    }

    /// Makes a text of what there is to show, unless there is one that is new enough.
    fn text(&mut self, what: LargeText) -> Rc<str> {
        let began = self.now();
        self.kept.retain(|kept| began < kept.until);
        if let Some(kept) = self.kept.iter().find(|kept| kept.what == what) {
            return Rc::clone(&kept.text);
        }
        let text: Rc<str> = self.render(what).into();
        let took = self.now().since(began);
        self.kept.push(CachedText {
            what,
            text: Rc::clone(&text),
            until: self.now() + took.saturating_mul(KEPT_FOR).min(KEPT_AT_MOST),
        });
        text
    }

    /// The next text is made again.
    #[cfg(test)]
    pub(super) fn forget_texts(&mut self) {
        self.kept.clear();
    }

    /// Those that were made stay new for long.
    #[cfg(test)]
    pub(super) fn keep_texts(&mut self) {
        let until = self.now() + Duration::from_secs(600);
        self.kept.iter_mut().for_each(|kept| kept.until = until);
    }

    fn render(&mut self, what: LargeText) -> String {
        let (picture, is_ready) = self.look();
        let rendered = what.render(&StatusContext {
            picture: &picture,
            history: &self.history,
            is_ready,
        });
        self.last = picture.record;
        rendered
    }

    /// The answer to a request.
    pub(super) fn answer(&mut self, request: &HttpRequest) -> Response {
        match &*request.path {
            "/" => self.page(),
            "/status.json" => large("application/json", self.text(LargeText::Document)),
            "/metrics" => self.metrics(Format::for_accept(&request.accept)),
            "/health" => self.health(),
            "/ready" => self.ready(),
            _ => Response::of(StatusCode::NotFound),
        }
    }

    /// The line for HAProxy's agent-check.
    pub(super) fn agent(&mut self) -> String {
        let (picture, is_ready) = self.look();
        let line = agent::line(&picture, is_ready, self.taken);
        self.last = picture.record;
        line
    }

    /// The page, whose one script and one style are let in by a number that cannot be guessed.
    fn page(&mut self) -> Response {
        let table = self.text(LargeText::Table);
        let nonce = format!("{:016x}", RandomState::new().hash_one(self.now()));
        let fields = format!(
            "Content-Security-Policy: default-src 'none'; script-src 'nonce-{nonce}'; \
             style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n"
        );
        let page = PAGE.replace("{{nonce}}", &nonce);
        let page = page.replace("{{table}}", &table);
        Response {
            fields,
            ..large("text/html; charset=utf-8", page.into())
        }
    }

    fn metrics(&mut self, format: Format) -> Response {
        large(format.content_type(), self.text(LargeText::Metrics(format)))
    }

    /// Whether the parent's loop turns.
    fn health(&self) -> Response {
        let late = self.now().since(self.memory.due());
        if late < STUCK_AFTER {
            return Response::text(StatusCode::Ok, "alive");
        }
        let text = format!("the parent has been stuck for {:.0} s", late.as_secs_f64());
        Response::text(StatusCode::ServiceUnavailable, &text)
    }

    fn ready(&mut self) -> Response {
        let record = self.record();
        let (is_ready, stage) = (self.judge(&record), record.stage());
        let is_drained = record.is_drained();
        self.last = record;
        match (is_ready, stage) {
            (true, _) => Response::text(StatusCode::Ok, "ready"),
            (false, Stage::Serving) if is_drained => {
                Response::text(StatusCode::ServiceUnavailable, "drained")
            }
            (false, Stage::Serving) => {
                Response::text(StatusCode::ServiceUnavailable, "no child is ready")
            }
            (false, stage) => Response::text(StatusCode::ServiceUnavailable, stage.as_str()),
        }
    }
}

fn large(content_type: &'static str, body: Rc<str>) -> Response {
    Response {
        status: StatusCode::Ok,
        content_type,
        fields: String::new(),
        body,
        is_large: true,
    }
}
