//! Feature `tower`: HTTP middleware that collapses identical requests, safely.

mod answer;
mod body;
mod error;
mod execution;
mod future;
mod judge;
mod key;
mod layer;
mod memory;
mod policy;
mod service;

pub use self::{
    answer::{Alone, Coalesced},
    body::ResponseBody,
    error::Refusal,
    future::ResponseFuture,
    key::Key,
    layer::CoalesceLayer,
    policy::{HeaderRule, Policy},
    service::Coalesce,
};
