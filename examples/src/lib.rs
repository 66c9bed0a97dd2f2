//! What the example programs share: a service with a database behind it, and its measurements; and
//! the book that the soak keeps.

pub mod customers;
pub mod database;
pub mod heap;
pub mod ledger;
pub mod measure;
pub mod orders;
pub mod progress;
pub mod reports;
