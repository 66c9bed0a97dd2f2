//! W5: many followers of one flight, polled by hand, on tokio, and as OS threads.

use kit::{
    contenders::{CondvarGroup, MutexGroup},
    rounds::Parts,
    workloads::{
        herd::{PHASES, on_tokio, phases},
        thread_herd::resume,
    },
};
use shardflight::Group;

use crate::session::{Contender, Session, Workload};

pub(crate) fn measure(session: &mut Session) {
    session.compare(&Workload {
        name: "W5 1,000 followers",
        parts: &PHASES,
        ops: 5 * 1_000,
        contenders: vec![
            Contender::new("shardflight", |ops| phases::<Group<u64, u64>>(1_000, ops)),
            Contender::new("mutex", |ops| phases::<MutexGroup<u64, u64>>(1_000, ops)).goal(0.85),
        ],
    });
    session.compare(&Workload {
        name: "W5 tokio, 10,000 tasks",
        parts: &[""],
        ops: 10_000,
        contenders: vec![
            Contender::new("shardflight", on_tokio::<Group<u64, u64>>),
            Contender::new("mutex", on_tokio::<MutexGroup<u64, u64>>).goal(1.0),
        ],
    });
    threads(session);
}

fn threads(session: &mut Session) {
    type Plain = CondvarGroup<u64, u64, false>;

    let rounds = session.options.rounds();
    for (name, own, mutex) in [
        (
            "W5 1,000 OS threads",
            (|count| resume::<Group<u64, u64>>(false, count)) as fn(u64) -> Parts,
            (|count| resume::<Plain>(false, count)) as fn(u64) -> Parts,
        ),
        (
            "W5 1,000 OS threads, pinned",
            (|count| resume::<Group<u64, u64>>(true, count)),
            (|count| resume::<Plain>(true, count)),
        ),
    ] {
        let contenders =
            vec![Contender::new("shardflight", own), Contender::new("mutex", mutex).goal(1.5)];
        let workload = Workload { name, parts: &[""], ops: 1_000, contenders };
        session.compare_rounds(&workload, rounds);
    }
}
