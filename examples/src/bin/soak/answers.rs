//! What callers are told, and whether they may be.

use std::{any::Any, sync::Arc};

use examples::ledger::{Called, Execution, Key, Value};
use shardflight::{CallError, Outcome, Role};

use crate::{Answer, Soak, choices::Options, kind::Kind};

/// What the panics of this program's works begin with.
pub(crate) const ON_PURPOSE: &str = "on purpose, keys ";

pub(crate) fn panic_on_purpose(keys: &[Key]) -> ! {
    let ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
    panic!("{ON_PURPOSE}{}", ids.join(" "))
}

/// Whether that was said by work of this key.
pub(crate) fn is_of(key: &Key, text: &str) -> bool {
    let ids = text.strip_prefix(ON_PURPOSE);
    ids.is_some_and(|ids| ids.split(' ').any(|id| id.parse() == Ok(key.id())))
}

pub(crate) fn text(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("something else")
}

impl Soak {
    pub(crate) fn check_answer(
        &self,
        kind: Kind,
        key: &Key,
        own: &Arc<Execution>,
        called: &Called,
        options: Options,
        answer: Answer,
    ) {
        match answer {
            Err(error) => self.is_right(kind, key, options, &error),
            Ok((value, role)) => {
                self.count(Kind::Answered);
                if options.fresh {
                    self.count(Kind::FreshAnswered);
                }
                self.ledger.answered(called, &value);
                match role {
                    Some(role) => {
                        if let Role::Led { followers: 1.. } = role {
                            self.count(Kind::LedForOthers);
                        }
                        self.ledger.played(own, &value, role);
                    }
                    // It may have gone on with another's work.
                    None if value.is_relay() || value.is_of(own) => {}
                    None => {
                        // A task that is dropped, or gives up in time, leaves its handle behind, which is
                        // not counted.
                        let may_give_up = kind == Kind::Spawn && options.timeout.is_some();
                        if kind != Kind::Task && !may_give_up {
                            value.joined();
                        }
                        // The work of a handle is its task's, which may have been dropped.
                        self.check(kind.has_handle() || !own.has_begun(), || {
                            format!("G2: work of key {} ran in vain", key.id())
                        });
                    }
                }
            }
        }
    }

    /// Whether a call with these options may be told that.
    pub(crate) fn is_right(&self, kind: Kind, key: &Key, options: Options, error: &CallError) {
        let (end, is_right) = match error {
            CallError::Panicked(panicked) => (Kind::Panicked, is_of(key, panicked.message())),
            CallError::Cancelled => (Kind::Cancelled, options.fails || kind.has_handle()),
            CallError::TimedOut => (Kind::TimedOut, options.timeout.is_some()),
            CallError::TooManyFollowers => {
                (Kind::TooManyFollowers, options.max_followers.is_some())
            }
            _ => (Kind::Cancelled, false),
        };
        self.count(end);
        self.check(is_right, || format!("a call of key {} was told: {error:?}", key.id()));
    }

    pub(crate) fn is_recursion(&self, key: &Key, answer: Result<Outcome<Value>, CallError>) {
        let error = answer.err();
        self.check(error == Some(CallError::Reentrant), || {
            format!("G13: work of key {} called itself and got {error:?}", key.id())
        });
    }

    pub(crate) fn is_on_purpose(&self, key: &Key, payload: &(dyn Any + Send)) {
        self.count(Kind::Panicked);
        let text = text(payload);
        self.check(is_of(key, text), || format!("G8: a call of key {} panicked: {text}", key.id()));
    }

    pub(crate) fn is_on_purpose_of_any(&self, payload: &(dyn Any + Send)) {
        self.count(Kind::Panicked);
        let text = text(payload);
        self.check(text.starts_with(ON_PURPOSE), || format!("run_many panicked: {text}"));
    }
}

pub(crate) fn told(outcome: Outcome<Value>) -> (Value, Option<Role>) {
    (outcome.value, Some(outcome.role))
}

pub(crate) fn untold(value: Value) -> (Value, Option<Role>) {
    (value, None)
}
