//! W5: many followers of one flight, polled by hand, on tokio, and as OS threads.

use event_listener::Event;
use kit::{
    contenders::{BareHerd, CondvarGroup, MutexGroup, Seats},
    workloads::{
        herd::{PHASES, on_tokio, phases},
        thread_herd::resume,
    },
};
use shardflight::Group;
use tokio::sync::Notify;

use crate::session::{Contender, Session, Workload};

pub(crate) fn measure(session: &mut Session) {
    session.compare(&Workload {
        name: "W5 1,000 followers",
        parts: &PHASES,
        ops: 5 * 1_000,
        contenders: vec![
            Contender::new("shardflight", |ops| phases::<Group<u64, u64>>(1_000, ops)),
            Contender::new("mutex", |ops| phases::<MutexGroup<u64, u64>>(1_000, ops)).goal(0.85),
            Contender::new("bare event-listener", |ops| phases::<BareHerd<Event>>(1_000, ops)),
            Contender::new("bare tokio Notify", |ops| phases::<BareHerd<Notify>>(1_000, ops)),
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
    let mut compare = |name, contenders| {
        let workload = Workload { name, parts: &[""], ops: 1_000, contenders };
        session.compare_rounds(&workload, rounds);
    };
    compare(
        "W5 1,000 OS threads",
        vec![
            Contender::new("shardflight", |count| resume::<Group<u64, u64>>(false, count)),
            Contender::new("mutex", |count| resume::<Plain>(false, count)).goal(1.5),
            Contender::new("bare Condvar", |count| resume::<BareHerd<Seats>>(false, count)),
            Contender::new("bare event-listener", |count| resume::<BareHerd<Event>>(false, count)),
        ],
    );
    compare(
        "W5 1,000 OS threads, pinned",
        vec![
            Contender::new("shardflight", |count| resume::<Group<u64, u64>>(true, count)),
            Contender::new("mutex", |count| resume::<Plain>(true, count)).goal(1.5),
            Contender::new("bare Condvar", |count| resume::<BareHerd<Seats>>(true, count)),
            Contender::new("bare event-listener", |count| resume::<BareHerd<Event>>(true, count)),
        ],
    );
}
