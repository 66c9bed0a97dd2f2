//! Feature `moka`: a cache in front.

#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod moka;

#[cfg(loom)]
use self::model as backend;
#[cfg(not(loom))]
use self::moka as backend;

mod builder;
mod clock;
mod kept;
mod lifetimes;
mod loads;
mod many;
mod read_through;
#[cfg(feature = "tokio")]
mod spawning;

#[cfg(not(loom))]
pub use self::moka::Configured;
pub use self::{
    backend::Settings, builder::ReadThroughBuilder, kept::Kept, lifetimes::EarlyRefresh,
    read_through::ReadThrough,
};
