//! The numbers of the metrics that this process counts: in a child with a slot those of its page of
//! the board, otherwise some of its own. Adds to them; the parent reads them and adds them up.
//!
//! The thread that serves adds without a locked instruction, which would take ten times as long; no
//! other thread writes to its row. All other threads share a second row, and do lock.

#![allow(unsafe_code)]

#[cfg(feature = "status")]
use crate::core::metrics::Declared;
use crate::core::{
    board::{OTHERS_AT, ROW_AT},
    metrics::{INTEGERS, Metric, MetricNumbers, NUMBERS, Schema},
};
use std::{
    cell::Cell,
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed},
    },
};

thread_local! {
    /// In the thread of a child that serves: its row. Null in every other.
    static ROW: Cell<*const AtomicU64> = const { Cell::new(ptr::null()) };
}

/// The row of all other threads. The process's own unless it is a child with a slot.
static OTHERS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// The process's own.
static OWN: [AtomicU64; NUMBERS] = [const { AtomicU64::new(0) }; NUMBERS];

static SCHEMA: Mutex<Schema> = Mutex::new(Schema::new());

/// Whether a metric was ever declared.
static IS_COUNTING: AtomicBool = AtomicBool::new(false);

fn schema() -> MutexGuard<'static, Schema> {
    // OK to go on after a panic: a metric is declared or not.
    SCHEMA.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Declares a metric.
pub(crate) fn declare<T>(declare: impl FnOnce(&mut Schema) -> T) -> T {
    IS_COUNTING.store(true, Relaxed);
    declare(&mut schema())
}

/// Whether there can be anything in the rows.
pub(super) fn is_counting() -> bool {
    IS_COUNTING.load(Relaxed)
}

/// The metrics of this process, with these numbers added to its own.
pub(crate) fn show(mut numbers: MetricNumbers) -> Vec<Metric> {
    numbers.add(&own());
    schema().show(&numbers)
}

/// What was declared, for the program after an upgrade.
#[cfg(target_os = "linux")]
pub(crate) fn described() -> Vec<String> {
    schema().described()
}

/// Whether the numbers of a program that has declared this mean the same here.
#[cfg(target_os = "linux")]
pub(crate) fn agrees(described: &[String]) -> bool {
    schema().agrees(described)
}

/// The words of what this process has counted itself.
#[cfg(target_os = "linux")]
pub(crate) fn own_words() -> Vec<u64> {
    match is_counting() {
        true => own().words().collect(),
        false => Vec::new(),
    }
}

/// What this process has counted itself, and what the numbers are called, once there are any.
#[cfg(feature = "status")]
pub(crate) fn counted() -> Option<(MetricNumbers, Vec<Declared>)> {
    is_counting().then(|| (own(), schema().declared()))
}

fn own() -> MetricNumbers {
    MetricNumbers::read(|at| OWN[at].load(Relaxed))
}

/// In a new child, in the thread that serves: from now on the numbers are those of this slot.
///
/// # Safety
///
/// The words are those of a slot, and stay mapped until the process ends or [`leave`] is called.
pub(super) unsafe fn enter(slot: &[AtomicU64]) {
    ROW.set(slot[ROW_AT..][..NUMBERS].as_ptr());
    let others = slot[OTHERS_AT..][..NUMBERS].as_ptr();
    OTHERS.store(others.cast_mut(), Relaxed);
}

/// In a process that a child has forked, and which is no child: its numbers are its own.
pub(super) fn leave() {
    ROW.set(ptr::null());
    OTHERS.store(ptr::null_mut(), Relaxed);
}

/// Adds to a whole number.
///
/// # Panics
///
/// When there is no such number.
#[inline]
pub(crate) fn add(at: usize, more: u64) {
    assert!(at < INTEGERS);
    let row = ROW.get();
    if row.is_null() {
        others(at).fetch_add(more, Relaxed);
    } else {
        // SAFETY: `enter` promises that the row is mapped, and this is within it.
        let number = unsafe { &*row.add(at) };
        number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
    }
}

/// Adds to a sum, which stays finite: what would change that is left out.
///
/// # Panics
///
/// When there is no such sum.
#[inline]
pub(crate) fn add_to_sum(at: usize, more: f64) {
    let at = INTEGERS + at;
    assert!(at < NUMBERS);
    let after = |bits| {
        let sum = f64::from_bits(bits) + more;
        if sum.is_finite() { sum.to_bits() } else { bits }
    };
    let row = ROW.get();
    if row.is_null() {
        // OK to ignore: it is always changed.
        let _ = others(at).fetch_update(Relaxed, Relaxed, |bits| Some(after(bits)));
    } else {
        // SAFETY: as above.
        let sum = unsafe { &*row.add(at) };
        sum.store(after(sum.load(Relaxed)), Relaxed);
    }
}

#[cold]
fn others(at: usize) -> &'static AtomicU64 {
    let row = OTHERS.load(Relaxed);
    if row.is_null() {
        return &OWN[at];
    }
    // SAFETY: `enter` promises that the row is mapped, and the caller of this that this is within
    // it.
    unsafe { &*row.add(at) }
}

/// Lets this thread count as one that serves does, for a measurement.
#[cfg(feature = "bench-internals")]
pub(crate) fn enter_nowhere() {
    let words: Vec<_> = (0..OTHERS_AT + NUMBERS)
        .map(|_| AtomicU64::new(0))
        .collect();
    // SAFETY: the words are never freed.
    unsafe { enter(words.leak()) };
}
