//! Where clients write down what they asked and what they were told.

use crate::check::model::{Op, Operation, Ret};
use crate::history::History;
use std::sync::{Arc, Mutex, MutexGuard};

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Done(Ret),
    /// Refused before anything was done (redirected, not ready): the same operation may be tried again elsewhere.
    Refused,
    /// No answer, or one that leaves it open: it may take effect at any later time, or never.
    Unknown,
}

/// The history of a run and the operations in it; clones write to the same one.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    history: History,
    operations: Vec<Operation>,
    problems: Vec<String>,
    acked: u64,
}

impl Recorder {
    /// An empty record.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A line that is no operation.
    pub fn note(&self, at_us: u64, what: std::fmt::Arguments<'_>) {
        self.lock().history.event(at_us, "-", what);
    }

    /// A line of one client that is no checked operation.
    pub fn note_of(&self, at_us: u64, who: &str, what: std::fmt::Arguments<'_>) {
        self.lock().history.event(at_us, who, what);
    }

    /// A broken promise: the run fails.
    pub fn problem(&self, at_us: u64, what: String) {
        let mut inner = self.lock();
        inner
            .history
            .event(at_us, "-", format_args!("PROBLEM {what}"));
        if inner.problems.len() < 20 {
            inner.problems.push(what);
        }
    }

    /// An operation begins; returns its number.
    pub fn call(&self, at_us: u64, client: usize, object: u32, op: &Op) -> u64 {
        let mut inner = self.lock();
        let id = inner.operations.len() as u64;
        inner.history.event(
            at_us,
            &format!("c{client}"),
            format_args!("call {id} o{object} {op:?}"),
        );
        inner.operations.push(Operation {
            id,
            object,
            call_us: at_us,
            ret_us: None,
            op: op.clone(),
            ret: None,
        });
        id
    }

    /// An operation ends. `Refused` means that it was never done, by anybody.
    pub fn done(&self, at_us: u64, client: usize, id: u64, outcome: &Outcome) {
        let mut inner = self.lock();
        let who = format!("c{client}");
        match outcome {
            Outcome::Done(ret) => {
                match ret {
                    Ret::List(l) => inner.history.event(
                        at_us,
                        &who,
                        format_args!("ok   {id} {} elements, last {:?}", l.len(), l.last()),
                    ),
                    ret => inner
                        .history
                        .event(at_us, &who, format_args!("ok   {id} {ret:?}")),
                }
                inner.acked += 1;
                let o = &mut inner.operations[id as usize];
                (o.ret_us, o.ret) = (Some(at_us), Some(ret.clone()));
            }
            Outcome::Unknown => inner.history.event(at_us, &who, format_args!("lost {id}")),
            Outcome::Refused => inner.history.event(at_us, &who, format_args!("none {id}")),
        }
        if *outcome == Outcome::Refused {
            // Keeps its number and becomes a read without an answer, which constrains nothing.
            inner.operations[id as usize].op = Op::Get(0);
        }
    }

    /// Number of answered operations.
    pub fn acked(&self) -> u64 {
        self.lock().acked
    }

    /// The operations so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    /// Broken promises noted so far.
    pub fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }

    /// The history's text.
    pub fn text(&self) -> String {
        self.lock().history.text().to_string()
    }

    /// The history's digest and number of lines.
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.history.digest(), inner.history.lines())
    }

    /// Judges all operations with the oracles and the search; what is wrong, if anything, and how many objects the
    /// search gave up on.
    pub fn judge(&self) -> (Vec<String>, usize) {
        use crate::check::{linear, oracle};
        let operations = self.operations();
        let mut problems = self.problems();
        if let Err(broken) = oracle::check_all(&operations) {
            problems.push(format!("oracle: {broken}"));
        }
        let mut given_up = 0;
        for (object, verdict) in linear::check_all(&operations, SEARCH_BUDGET) {
            match verdict {
                linear::Verdict::GaveUp => given_up += 1,
                _ => problems.push(linear::explain(&operations, object, &verdict)),
            }
        }
        (problems, given_up)
    }
}

/// Configurations that the search visits for one object before it gives up: some seconds of one core at worst.
const SEARCH_BUDGET: usize = 400_000;
