//! Calls from ever more threads, on what `docs/scale.md` argues.

use kit::{
    contenders::MutexGroup,
    workloads::scale::{NEW_KEY, OWN_KEY, ZIPF_KEY, calls, floor, joins, threads},
};
use shardflight::Group;

use crate::session::{Contender, Session, Workload};

type Own = Group<u64, u64>;
type Mutexed = MutexGroup<u64, u64>;

pub(crate) fn measure(session: &mut Session) {
    let parts: Vec<&'static str> = threads().map(|n| &*format!("{n:>3} threads").leak()).collect();
    let parts: &'static [&'static str] = parts.leak();
    let rounds = 2 * session.options.rounds();
    let mut compare = |name, contenders| {
        let workload = Workload { name, parts, ops: 10_000, contenders };
        session.compare_rounds(&workload, rounds);
    };
    compare(
        "scale, keys never seen before",
        vec![
            Contender::new("shardflight", |ops| calls::<Own>(ops, NEW_KEY)),
            Contender::new("mutex", |ops| calls::<Mutexed>(ops, NEW_KEY)),
            Contender::new("raw DashMap", |ops| floor(ops, NEW_KEY)),
        ],
    );
    compare(
        "scale, 16 keys of each thread's own",
        vec![
            Contender::new("shardflight", |ops| calls::<Own>(ops, OWN_KEY)),
            Contender::new("mutex", |ops| calls::<Mutexed>(ops, OWN_KEY)),
            Contender::new("raw DashMap", |ops| floor(ops, OWN_KEY)),
        ],
    );
    compare(
        "scale, Zipf keys",
        vec![
            Contender::new("shardflight", |ops| calls::<Own>(ops, ZIPF_KEY)),
            Contender::new("mutex", |ops| calls::<Mutexed>(ops, ZIPF_KEY)),
        ],
    );
    compare(
        "scale, join and leave one flight",
        vec![
            Contender::new("shardflight", joins::<Own>),
            Contender::new("mutex", joins::<Mutexed>),
        ],
    );
}
