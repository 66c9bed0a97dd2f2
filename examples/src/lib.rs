//! What the example programs share: a service with a database behind it, and its measurements.

pub mod customers;
pub mod database;
pub mod measure;
pub mod orders;
pub mod progress;
pub mod reports;
