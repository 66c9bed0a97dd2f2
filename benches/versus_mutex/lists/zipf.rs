//! W4: popular and rare keys.

use kit::{contenders::MutexGroup, workloads::zipf};
use shardflight::Group;

use crate::session::{Contender, Session, Workload};

pub(crate) fn measure(session: &mut Session) {
    session.compare(&Workload {
        name: "W4 Zipf, 64 tasks",
        parts: &[""],
        ops: 64 * 250,
        contenders: vec![
            Contender::new("shardflight", |ops| zipf::tasks::<Group<u64, u64>>(64, ops)),
            Contender::new("mutex", |ops| zipf::tasks::<MutexGroup<u64, u64>>(64, ops)).goal(0.5),
        ],
    });
    session.compare(&Workload {
        name: "W4 Zipf, 256 tasks",
        parts: &[""],
        ops: 256 * 80,
        contenders: vec![
            Contender::new("shardflight", |ops| zipf::tasks::<Group<u64, u64>>(256, ops)),
            Contender::new("mutex", |ops| zipf::tasks::<MutexGroup<u64, u64>>(256, ops)).goal(0.5),
        ],
    });
}
