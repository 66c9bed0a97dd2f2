//! W1, W2 and W3: calls that nobody joins.

use kit::{
    contenders::{CondvarGroup, MutexGroup, WithStats},
    workloads::calls,
};
use shardflight::Group;

use crate::session::{Contender, Session, Workload};

/// As it comes out of std: a `Mutex` around a `HashMap` with the default hasher.
type StdMutexGroup<K> = MutexGroup<K, u64, std::hash::RandomState>;

pub(crate) fn measure(session: &mut Session) {
    session.compare(&Workload {
        name: "W1 u64, async",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", calls::one_thread::<Group<u64, u64>>),
            Contender::new("mutex", calls::one_thread::<MutexGroup<u64, u64>>).goal(0.333),
            Contender::new("mutex, std's hasher", calls::one_thread::<StdMutexGroup<u64>>)
                .goal(0.333),
            Contender::new("with Stats", calls::one_thread::<WithStats>),
            Contender::new("raw DashMap", calls::floor).goal(1.2),
        ],
    });
    session.compare(&Workload {
        name: "W1 u64, blocking",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", calls::one_blocking::<Group<u64, u64>>),
            Contender::new("mutex", calls::one_blocking::<CondvarGroup<u64, u64, false>>)
                .goal(0.333),
            Contender::new("mutex, counted", calls::one_blocking::<CondvarGroup<u64, u64, true>>),
            Contender::new("with Stats", calls::one_blocking::<WithStats>),
            Contender::new("raw DashMap", calls::floor).goal(1.2),
        ],
    });
    session.compare(&Workload {
        name: "W2 32-byte String by &str",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", calls::strings::<Group<String, u64>>),
            Contender::new("mutex", calls::strings::<MutexGroup<String, u64>>).goal(0.45),
            Contender::new("mutex, std's hasher", calls::strings::<StdMutexGroup<String>>)
                .goal(0.45),
        ],
    });
    session.compare(&Workload {
        name: "W3 distinct keys, 2 threads",
        parts: &[""],
        ops: 10_000,
        contenders: vec![
            Contender::new("shardflight", |ops| calls::threads::<Group<u64, u64>>(2, ops)),
            Contender::new("mutex", |ops| calls::threads::<MutexGroup<u64, u64>>(2, ops)).goal(0.2),
            Contender::new("with Stats", |ops| calls::threads::<WithStats>(2, ops)),
            Contender::new("raw DashMap", |ops| calls::threads_floor(2, ops)),
        ],
    });
    session.compare(&Workload {
        name: "W3 distinct keys, 64 tasks",
        parts: &[""],
        ops: 64 * 1_000,
        contenders: vec![
            Contender::new("shardflight", calls::tasks::<Group<u64, u64>>),
            Contender::new("mutex", calls::tasks::<MutexGroup<u64, u64>>),
        ],
    });
}
