//! What the observer of a layer is told of each request: how it was answered, and why.

use std::{borrow::Cow, sync::Arc};

use http::Response;

use super::{Alone, Coalesced, Policy, Refusal, layer::Shared};
use crate::{
    Answered,
    observer::{Watch, tell_of_no_flight},
};

/// What is to be told of a request that runs alone. Without an observer it is nothing.
pub(super) struct Report {
    shared: Option<Arc<Shared>>,
    retries: u32,
}

impl Report {
    pub(super) fn new(shared: &Arc<Shared>, retries: u32) -> Self {
        Self { shared: shared.watch().map(|_| Arc::clone(shared)), retries }
    }

    pub(super) fn alone(&self, why: &Alone) {
        if let Some(shared) = &self.shared {
            shared.report_alone(why, self.retries);
        }
    }
}

impl Shared {
    fn watch(&self) -> Option<&Watch> {
        self.group.core().table().watch()
    }

    /// Of a request that came to a flight. An error of the service is the request's own.
    #[inline]
    pub(super) fn report<B, E>(&self, response: &Result<Response<B>, E>, retries: u32) {
        if self.watch().is_some() {
            let how = response.as_ref().ok().and_then(|response| response.extensions().get());
            self.report_how(how.unwrap_or(&Coalesced::Alone(Alone::Failed)), retries);
        }
    }

    pub(super) fn report_alone(&self, why: &Alone, retries: u32) {
        if let Some(watch) = self.watch() {
            let reason = why.reason(&self.policy);
            tell(watch, Answered::Alone { reason: &reason }, retries);
        }
    }

    fn report_how(&self, how: &Coalesced, retries: u32) {
        let Some(watch) = self.watch() else { return };
        match how {
            Coalesced::Led { followers } => {
                tell(watch, Answered::Led { followers: *followers }, retries);
            }
            Coalesced::Joined => tell(watch, Answered::Joined, retries),
            Coalesced::Alone(why) => self.report_alone(why, retries),
            Coalesced::Refused(refusal) => {
                tell(watch, Answered::Refused { reason: &refusal.reason() }, retries);
            }
        }
    }
}

fn tell(watch: &Watch, answered: Answered<'_>, retries: u32) {
    tell_of_no_flight(watch, |observer| observer.request(answered, retries));
}

impl Alone {
    /// A label: clients must not be able to make up new ones.
    fn reason(&self, policy: &Policy) -> Cow<'static, str> {
        match self {
            Self::Method => "method".into(),
            Self::Body => "body".into(),
            Self::Header(name) if policy.lists(name) => format!("header:{name}").into(),
            // Any name, where the policy lets headers that it does not list run alone.
            Self::Header(_) => "header".into(),
            Self::Authority => "authority".into(),
            Self::Policy => "policy".into(),
            Self::Remembered => "remembered".into(),
            Self::Status(status) => format!("status:{}", status.as_str()).into(),
            // One that the rules for responses name.
            Self::ResponseHeader(name) => format!("response_header:{name}").into(),
            Self::TooLarge => "too_large".into(),
            Self::Stream => "stream".into(),
            Self::Failed => "error".into(),
            Self::Reentrant => "reentrant".into(),
            Self::Varies => "varies".into(),
        }
    }
}

impl Refusal {
    fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Panicked(_) => "panicked".into(),
            Self::TooManyFollowers => "too_many_followers".into(),
            Self::Failed { status, .. } => format!("failed:{}", status.as_str()).into(),
        }
    }
}
