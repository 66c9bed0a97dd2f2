//! A service whose tasks need tokens, the authority that issues them, and the cache in between.

mod authority;
mod cache;
mod record;
mod tasks;
mod timeline;

pub use self::{authority::Authority, cache::cached, timeline::Timeline};
