//! W1 to W8: who takes part in which, and what the page says of it.

use event_listener::Event;
use kit::{
    contenders::{BareCells, BareHerd, BlockingGroup, Parked, Seats, Wakers},
    pin,
    rounds::Parts,
    workloads::{calls, herd, hot_key, in_flight, thread_herd, zipf},
};
use tokio::sync::Notify;

use crate::{
    Options,
    contenders::{
        BareCount, BareDashMap, BareMutexMap, Entrant, Kind, OWN, WorkAlone, async_groups,
        blocking_groups,
    },
};

pub(crate) struct Workload {
    /// What the filter looks at, and the charts are called.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    /// What is timed apart. The last one is the workload's figure.
    pub(crate) parts: &'static [&'static str],
    /// What differs from point to point, if there are several.
    pub(crate) axis: Option<Axis>,
    pub(crate) points: Vec<Point>,
    /// The point with a table and bars of its own.
    pub(crate) shown: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Threads,
    Followers,
    Keys,
}

impl Axis {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Followers => "followers",
            Self::Keys => "keys in flight",
        }
    }

    pub(crate) fn at(self, x: usize) -> String {
        let name = if x == 1 { self.name().trim_end_matches('s') } else { self.name() };
        format!("{} {name}", crate::page::thousands(x as f64))
    }
}

pub(crate) struct Point {
    pub(crate) x: usize,
    /// Operations per sample: enough to time, few enough to interleave finely.
    pub(crate) ops: u64,
    pub(crate) most_rounds: usize,
    /// shardflight comes first.
    pub(crate) entrants: Vec<Entrant>,
}

impl Point {
    fn new(x: usize, ops: u64, entrants: Vec<Entrant>) -> Self {
        Self { x, ops, most_rounds: usize::MAX, entrants }
    }
}

const WORK_READY: &str = "The work is ready at once, so this is the overhead of a call";

const DASHMAP: &str = "raw `DashMap`";
const MUTEX_MAP: &str = "raw `Mutex<HashMap>`";
const TWO_CAS: &str = "two compare-exchange";
const EVENT: &str = "bare event-listener";
const NOTIFY: &str = "bare tokio `Notify`";
const WAKERS: &str = "wakers in a `Vec`";

fn of(name: &'static str, sample: impl Fn(u64) -> Parts + 'static) -> Entrant {
    let kind = if name == OWN { Kind::Own } else { Kind::Peer };
    Entrant::new(name, kind, sample)
}

fn floor(name: &'static str, sample: impl Fn(u64) -> Parts + 'static) -> Entrant {
    Entrant::new(name, Kind::Floor, sample)
}

fn and(mut entrants: Vec<Entrant>, floors: impl IntoIterator<Item = Entrant>) -> Vec<Entrant> {
    entrants.extend(floors);
    entrants
}

/// Powers of two, to twice the cores and at least to 8: on more threads than cores those that hold
/// a lock are preempted now and then.
fn threads() -> impl Iterator<Item = usize> {
    let most = (2 * pin::cores()).max(8);
    (0..).map(|power| 1 << power).take_while(move |&threads| threads <= most)
}

pub(crate) fn workloads(options: &Options) -> Vec<Workload> {
    let wanted = |code: &str| options.workload.as_deref().is_none_or(|part| code.contains(part));
    let all = [
        w1(),
        w1_blocking(),
        w2(),
        w3(),
        w3_tasks(),
        w4("W4-64", "W4: Zipf keys, 64 tasks", 64, 64 * 125),
        w4("W4-256", "W4: Zipf keys, 256 tasks", 256, 256 * 40),
        w5(),
        w5_tokio(),
        w5_threads(),
        w6(),
        w8(options.short),
    ];
    all.into_iter().filter(|workload| wanted(workload.code)).collect()
}

fn w1() -> Workload {
    Workload {
        code: "W1-async",
        title: "W1: a call that nobody joins, u64 key, async",
        about: WORK_READY,
        parts: &[""],
        axis: None,
        points: vec![Point::new(
            1,
            20_000,
            and(
                async_groups!(u64, u64, |G, name| of(name, calls::one_thread::<G>)),
                [
                    floor(DASHMAP, calls::one_thread::<BareDashMap<u64>>),
                    floor(MUTEX_MAP, calls::one_thread::<BareMutexMap<u64>>),
                    floor(TWO_CAS, calls::one_thread::<BareCells>),
                ],
            ),
        )],
        shown: 0,
    }
}

fn w1_blocking() -> Workload {
    Workload {
        code: "W1-blocking",
        title: "W1: a call that nobody joins, u64 key, blocking",
        about: "The same from a thread that is no task. Those that are async only are not in it",
        parts: &[""],
        axis: None,
        points: vec![Point::new(
            1,
            20_000,
            and(
                blocking_groups!(|G, name| of(name, calls::one_blocking::<G>)),
                [
                    floor(DASHMAP, calls::one_blocking::<BareDashMap<u64>>),
                    floor(MUTEX_MAP, calls::one_blocking::<BareMutexMap<u64>>),
                ],
            ),
        )],
        shown: 0,
    }
}

fn w2() -> Workload {
    Workload {
        code: "W2",
        title: "W2: a call that nobody joins, String key of 32 bytes",
        about: "The caller has a `&str`; who needs more than one owned key pays for it",
        parts: &[""],
        axis: None,
        points: vec![Point::new(
            1,
            20_000,
            and(
                async_groups!(String, u64, |G, name| of(name, calls::strings::<G>)),
                [
                    floor(DASHMAP, calls::strings::<BareDashMap<String>>),
                    floor(MUTEX_MAP, calls::strings::<BareMutexMap<String>>),
                ],
            ),
        )],
        shown: 0,
    }
}

fn w3() -> Workload {
    let point = |threads| {
        let groups = async_groups!(u64, u64, |G, name| of(name, move |ops| {
            calls::threads::<G>(threads, ops)
        }));
        let floors = [
            floor(DASHMAP, move |ops| calls::threads::<BareDashMap<u64>>(threads, ops)),
            floor(MUTEX_MAP, move |ops| calls::threads::<BareMutexMap<u64>>(threads, ops)),
            floor(TWO_CAS, move |ops| calls::threads::<BareCells>(threads, ops)),
        ];
        Point::new(threads, 10_000, and(groups, floors))
    };
    Workload {
        code: "W3-threads",
        title: "W3: threads with a key each",
        about: "Nobody joins anybody; wall time divided by the calls of all threads, so what scales \
                with the cores gets cheaper up to their number. A thread that has to wait for an \
                async lock of its group (async_singleflight's) polls until it has it",
        parts: &[""],
        axis: Some(Axis::Threads),
        points: threads().map(point).collect(),
        shown: 1,
    }
}

fn w3_tasks() -> Workload {
    Workload {
        code: "W3-tasks",
        title: "W3: 64 tasks with a key each, on 2 workers of tokio",
        about: "Wall time divided by the calls of all tasks",
        parts: &[""],
        axis: None,
        points: vec![Point::new(
            64,
            64 * 250,
            and(
                async_groups!(u64, u64, |G, name| of(name, calls::tasks::<G>)),
                [
                    floor(DASHMAP, calls::tasks::<BareDashMap<u64>>),
                    floor(MUTEX_MAP, calls::tasks::<BareMutexMap<u64>>),
                    floor(TWO_CAS, calls::tasks::<BareCells>),
                ],
            ),
        )],
        shown: 0,
    }
}

fn w4(code: &'static str, title: &'static str, tasks: usize, ops: u64) -> Workload {
    Workload {
        code,
        title,
        about: "On 2 workers of tokio; keys by Zipf(1.0) out of 10,000, and work that yields once, \
                so popular keys are joined. The floor does the work of every call",
        parts: &[""],
        axis: None,
        points: vec![Point::new(
            tasks,
            ops,
            and(
                async_groups!(u64, u64, |G, name| of(name, move |ops| zipf::tasks::<G>(
                    tasks, ops
                ))),
                [floor("the work alone", move |ops| zipf::tasks::<WorkAlone>(tasks, ops))],
            ),
        )],
        shown: 0,
    }
}

fn w5() -> Workload {
    let point = |followers: usize| {
        let size = followers as u64;
        let groups = async_groups!(u64, u64, |G, name| of(name, move |ops| {
            herd::phases::<G>(size, ops)
        }));
        let floors = [
            floor(WAKERS, move |ops| herd::phases::<BareHerd<Wakers>>(size, ops)),
            floor(EVENT, move |ops| herd::phases::<BareHerd<Event>>(size, ops)),
            floor(NOTIFY, move |ops| herd::phases::<BareHerd<Notify>>(size, ops)),
        ];
        Point::new(followers, size.max(5_000), and(groups, floors))
    };
    Workload {
        code: "W5-herd",
        title: "W5: a herd of followers, polled by hand",
        about: "On one thread: all join, the leader lands and wakes them, all go on; time for each \
                follower. Who wakes followers one after the other does it in the last phase. \
                The floors wait and wake, and have neither keys nor a flight",
        parts: &herd::PHASES,
        axis: Some(Axis::Followers),
        points: [1, 10, 100, 1_000, 10_000].map(point).into(),
        shown: 3,
    }
}

fn w5_tokio() -> Workload {
    Workload {
        code: "W5-tokio",
        title: "W5: a herd of 10,000 tasks on 2 workers of tokio",
        about: "From the first task's spawning to the last one's end, for each task",
        parts: &[""],
        axis: None,
        points: vec![Point::new(
            10_000,
            10_000,
            and(
                async_groups!(u64, u64, |G, name| of(name, herd::on_tokio::<G>)),
                [
                    floor(WAKERS, herd::on_tokio::<BareHerd<Wakers>>),
                    floor(EVENT, herd::on_tokio::<BareHerd<Event>>),
                    floor(NOTIFY, herd::on_tokio::<BareHerd<Notify>>),
                ],
            ),
        )],
        shown: 0,
    }
}

fn w5_threads() -> Workload {
    fn resumed<G: BlockingGroup>(size: u64) -> Parts {
        thread_herd::resume::<G>(false, size)
    }

    Workload {
        code: "W5-threads",
        title: "W5: a herd of 1,000 OS threads",
        about: "Blocked on one flight, from its landing until all have run, for each thread; not \
                pinned. Those that are async only are not in it",
        parts: &[""],
        axis: None,
        points: vec![Point::new(
            1_000,
            1_000,
            and(
                blocking_groups!(|G, name| of(name, resumed::<G>)),
                [
                    floor("bare `Condvar`", resumed::<BareHerd<Seats>>),
                    floor(EVENT, resumed::<BareHerd<Event>>),
                    floor("park and unpark", resumed::<BareHerd<Parked>>),
                ],
            ),
        )],
        shown: 0,
    }
}

fn w6() -> Workload {
    let point = |threads: usize| {
        let groups = async_groups!(u64, u64, |G, name| of(name, move |ops| {
            hot_key::hot::<G>(threads, ops)
        }));
        let floors =
            [floor("one shared counter", move |ops| hot_key::hot::<BareCount>(threads, ops))];
        Point::new(threads, 10_000, and(groups, floors))
    };
    Workload {
        code: "W6",
        title: "W6: one hot key, joined and left",
        about: "A leader is in flight; threads join it and leave again, in a loop; wall time divided \
                by the visits of all threads. Who finds an async lock of its group taken \
                (async_singleflight's) leaves without having joined",
        parts: &[""],
        axis: Some(Axis::Threads),
        points: threads().map(point).collect(),
        shown: 1,
    }
}

fn w8(short: bool) -> Workload {
    let point = |size: usize| {
        let wave = move |sample: fn(usize, usize) -> f64| move |_| vec![sample(size, size)];
        let groups = async_groups!(u64, u64, |G, name| of(name, wave(in_flight::wave::<G>)));
        let floors = [
            floor(DASHMAP, wave(in_flight::wave::<BareDashMap<u64>>)),
            floor(TWO_CAS, wave(in_flight::wave::<BareCells>)),
        ];
        let mut point = Point::new(size, size as u64, and(groups, floors));
        if size == 1_000_000 {
            // Each of its rounds takes as long as all rounds of another workload.
            point.most_rounds = 5;
        }
        point
    };
    let sizes = [1_000, 10_000, 100_000, 1_000_000];
    let sizes = &sizes[..if short { 3 } else { 4 }];
    Workload {
        code: "W8",
        title: "W8: many keys in flight",
        about: "That many calls with a key each begin, and then end; time for each call. Capacity is \
                asked for where that can be done",
        parts: &[""],
        axis: Some(Axis::Keys),
        points: sizes.iter().copied().map(point).collect(),
        shown: sizes.len() - 1,
    }
}
