//! Who takes part in which workload, and with which goals, in the order of the table.

mod herd;
mod hot_key;
mod in_flight;
mod memory;
mod scale;
mod unshared;
mod zipf;

use crate::session::Session;

pub(crate) fn measure(session: &mut Session) {
    unshared::measure(session);
    zipf::measure(session);
    herd::measure(session);
    hot_key::measure(session);
    in_flight::measure(session);
    memory::measure(session);
    scale::measure(session);
}
