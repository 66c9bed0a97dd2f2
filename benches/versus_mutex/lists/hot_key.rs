//! W6: one hot key that threads join and leave.

use kit::{contenders::MutexGroup, workloads::hot_key::hot};
use shardflight::Group;

use crate::session::{Contender, Session, Workload};

pub(crate) fn measure(session: &mut Session) {
    session.compare(&Workload {
        name: "W6 join and leave, 1 thread",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", |ops| hot::<Group<u64, u64>>(1, ops)),
            Contender::new("mutex", |ops| hot::<MutexGroup<u64, u64>>(1, ops)),
        ],
    });
    session.compare(&Workload {
        name: "W6 join and leave, 2 threads",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", |ops| hot::<Group<u64, u64>>(2, ops)),
            Contender::new("mutex", |ops| hot::<MutexGroup<u64, u64>>(2, ops)).goal(1.0),
        ],
    });
}
