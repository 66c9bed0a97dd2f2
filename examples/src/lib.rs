//! What the example programs share: a service with a database behind it, and its measurements; the same
//! with a cache in front, and over HTTP, with a page; a proxy; a
//! service that needs tokens; and the book that the soak keeps.

pub mod customers;
pub mod database;
pub mod heap;
pub mod ledger;
pub mod listen;
pub mod measure;
pub mod orders;
pub mod progress;
pub mod proxy;
pub mod report_server;
pub mod reports;
pub mod scenes;
pub mod tokens;
