//! W6: one hot key that threads join and leave: as many as there are cores here, and so many that some are
//! preempted with a lock in hand.

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
    session.compare_rounds(
        &Workload {
            name: "W6 join and leave, 64 threads",
            parts: &[""],
            // Long enough for each thread to lose its core a few times.
            ops: 10_000,
            contenders: vec![
                Contender::new("shardflight", |ops| hot::<Group<u64, u64>>(64, ops)),
                Contender::new("mutex", |ops| hot::<MutexGroup<u64, u64>>(64, ops)),
            ],
        },
        session.options.rounds(),
    );
}
