//! What is measured: the workloads, in the order of the table.

mod calls;
mod herd;
mod hot_key;
mod in_flight;
mod memory;
mod scale;
mod thread_herd;
mod zipf;

use crate::harness::sample::Session;

pub(crate) fn measure(session: &mut Session) {
    calls::measure(session);
    zipf::measure(session);
    herd::measure(session);
    thread_herd::measure(session);
    hot_key::measure(session);
    in_flight::measure(session);
    memory::measure(session);
    scale::measure(session);
}
