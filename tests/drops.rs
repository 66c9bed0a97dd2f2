//! Destructors that panic while something is being returned: that is dropped all the same, and what observers
//! are told adds up.

#![cfg(not(loom))]

mod common;

use std::{
    collections::HashMap,
    future::pending,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    marker::PhantomData,
    mem::take,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use common::{
    Polled, limited, panic_text, text,
    traps::{self, Place, disarm, explode_at, visit},
};
use shardflight::{CallError, Entry, Group, OnCancel, Stats};

/// Each part of a call has one of these: what was leaked is still there in the end.
type Live = Arc<()>;

#[derive(Debug, Clone)]
struct Key(u64, #[expect(dead_code, reason = "is counted")] Live);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        visit(Place::DropKey);
    }
}

#[derive(Debug, Clone)]
struct Value(#[expect(dead_code, reason = "is counted")] Live);

impl Drop for Value {
    fn drop(&mut self) {
        visit(Place::DropValue);
    }
}

/// Is ready after so many polls. (An `async` block would leak its value itself.)
struct Work(Live, usize);

impl Future for Work {
    type Output = Value;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Value> {
        if self.1 == 0 {
            return Poll::Ready(Value(Arc::clone(&self.0)));
        }
        self.1 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        visit(Place::DropWork);
    }
}

/// That of a batch, which leaves its first key out.
struct Load(Work, Vec<Key>);

impl Future for Load {
    type Output = Vec<(Key, Value)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let value = ready!(Pin::new(&mut self.0).poll(cx));
        let keys = take(&mut self.1).into_iter().skip(1);
        let pairs = keys.map(|key| (key, value.clone())).collect();
        drop(value);
        Poll::Ready(pairs)
    }
}

/// A group that is observed.
struct Bed {
    group: Group<Key, Value>,
    stats: Arc<Stats>,
    live: Live,
}

impl Bed {
    fn new() -> Self {
        let stats = Arc::new(Stats::default());
        let group = Group::builder().observer(Arc::clone(&stats)).build();
        Self { group, stats, live: Arc::default() }
    }

    fn key(&self, id: u64) -> Key {
        Key(id, Arc::clone(&self.live))
    }

    fn work(&self) -> Work {
        Work(Arc::clone(&self.live), 1)
    }

    /// A call that has begun, or joined. It is awaited, because to await drops its future with the value half way.
    fn run<'a>(&'a self, key: &'a Key) -> Polled<'a, Value> {
        Polled::pending(async { self.group.run(key, self.work()).await })
    }

    /// A call's work as a closure, which has the same to drop.
    fn closure(&self) -> impl FnOnce() -> Value + use<> {
        let work = self.work();
        move || {
            let live = Arc::clone(&work.0);
            drop(work);
            Value(live)
        }
    }

    fn assert_clean(&self, what: &str) {
        assert!(self.group.is_empty(), "{what}: a flight is left");
        assert_eq!(Arc::strong_count(&self.live), 1, "{what}: something leaked");
        let told = self.stats.snapshot();
        assert_eq!((told.in_flight(), told.waiting()), (0, 0), "{what}: {told:?}");
        let ended = told.landed + told.panicked + told.cancelled;
        assert_eq!(told.led + told.taken_over, ended, "{what}: {told:?}");
        let gone = told.answered + told.left + told.taken_over;
        assert_eq!(told.joined, gone, "{what}: {told:?}");
    }
}

/// What a call that was spawned elsewhere comes to.
fn finish(task: impl Future<Output = ()>) {
    let mut task = Polled::new(task);
    while task.poll().is_pending() && task.is_woken() {}
}

type Scenario = fn(&Bed);

const SCENARIOS: [(&str, Scenario); 19 + cfg!(feature = "tokio") as usize] = [
    ("run leads", |bed| {
        let key = bed.key(1);
        drop(bed.run(&key).woken_value());
    }),
    ("run follows", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let mut followers = [(); 2].map(|()| bed.run(&key));
        let led = leader.woken_value();
        let values = followers.each_mut().map(Polled::woken_value);
        drop((led, values));
    }),
    ("run is cancelled", |bed| {
        let key = bed.key(1);
        let leader = bed.run(&key);
        let mut follower = bed.run(&key);
        drop(leader);
        assert!(follower.poll().is_pending());
        drop(follower.woken_value());
    }),
    ("the last follower leaves", |bed| {
        let key = bed.key(1);
        let leader = bed.run(&key);
        let follower = bed.run(&key);
        drop(leader);
        drop(follower);
    }),
    ("the last follower of a relay leaves", |bed| {
        let key = bed.key(1);
        let leader = Polled::pending(bed.group.call(&key).relay(bed.work()));
        let follower = Polled::pending(bed.group.call(&key).relay(bed.work()));
        drop(leader);
        drop(follower);
    }),
    ("a relay is taken over", |bed| {
        let key = bed.key(1);
        let leader = Polled::pending(bed.group.call(&key).relay(bed.work()));
        let mut follower = bed.run(&key);
        drop(leader);
        drop(follower.woken_value());
    }),
    ("a relay is taken over while it waits", |bed| {
        let key = bed.key(1);
        let slow = Work(Arc::clone(&bed.live), 2);
        let leader = Polled::pending(bed.group.call(&key).relay(slow));
        let mut follower = bed.run(&key);
        drop(leader);
        assert!(follower.poll().is_pending());
        drop(follower.woken_value());
    }),
    ("run_blocking leads", |bed| {
        let key = bed.key(1);
        drop(bed.group.run_blocking(&key, bed.closure()));
    }),
    ("run_blocking gives up", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let call = bed.group.call(&key).timeout(Duration::ZERO);
        assert!(matches!(call.run_blocking(bed.closure()), Err(CallError::TimedOut)));
        drop(leader.woken_value());
    }),
    ("run_blocking takes a relay over", |bed| {
        let key = bed.key(1);
        let leader = Polled::pending(bed.group.call(&key).relay(bed.work()));
        let mut follower = bed.run(&key);
        drop(leader);
        drop(bed.group.run_blocking(&key, bed.closure()));
        drop(follower.woken_value());
    }),
    ("a task that wants to be told follows", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let call = bed.group.call(&key).on_cancel(OnCancel::Fail).abort_when_abandoned();
        let (task, handle) = call.task(bed.work()).expect("no limit");
        finish(task);
        drop(leader.woken_value());
        drop(handle.wait());
    }),
    ("a task follows", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let (task, handle) = bed.group.call(&key).task(bed.work()).expect("no limit");
        let mut task = Polled::pending(task);
        drop(leader.woken_value());
        task.woken_value();
        drop(task);
        drop(handle.wait());
    }),
    ("a task leads", |bed| {
        let key = bed.key(1);
        let call = bed.group.call(&key).abort_when_abandoned();
        let (task, handle) = call.task(bed.work()).expect("no limit");
        let mut follower = bed.run(&key);
        finish(task);
        drop(follower.woken_value());
        drop(handle.wait());
    }),
    ("lead and join", |bed| {
        let key = bed.key(1);
        let Entry::Lead(lead) = bed.group.lead_or_join(&key) else { unreachable!("it is free") };
        let handle = bed.group.join(&key).expect("it is in flight");
        assert_eq!(lead.land(Value(Arc::clone(&bed.live))), 1);
        drop(handle.wait());
    }),
    ("a handle is polled", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let mut handle = Polled::pending(bed.group.join(&key).expect("it is in flight"));
        drop(leader.woken_value());
        drop(handle.woken_value());
    }),
    ("fresh", |bed| {
        let key = bed.key(1);
        let mut first = bed.run(&key);
        let mut second = Polled::pending(bed.group.call(&key).fresh().run(bed.work()));
        let mut third = Polled::pending(bed.group.call(&key).fresh().run(bed.work()));
        drop(first.woken_value());
        assert!(second.poll().is_pending());
        drop(second.woken_value());
        drop(third.woken_value());
    }),
    ("forget", |bed| {
        let key = bed.key(1);
        let mut solo = bed.run(&key);
        assert!(bed.group.forget(&key));
        let mut leader = bed.run(&key);
        let mut follower = bed.run(&key);
        assert!(bed.group.forget(&key));
        drop((solo.woken_value(), leader.woken_value(), follower.woken_value()));
    }),
    ("max_age", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let call = bed.group.call(&key).max_age(Duration::ZERO);
        drop(call.run_blocking(bed.closure()));
        drop(leader.woken_value());
    }),
    ("a batch", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let [unused, work] = [bed.work(), bed.work()];
        let mut work = Some(work);
        let load = move |keys: Vec<Key>| {
            let _ = &unused;
            Load(work.take().expect("one load"), keys)
        };
        let keys = [1, 2, 3].map(|id| bed.key(id));
        let mut batch = Polled::pending(bed.group.run_many(keys, load));
        let other = bed.key(3);
        let mut follower = bed.run(&other);
        drop(leader.woken_value());
        let found: HashMap<Key, Value> = batch.woken_value();
        assert_eq!(found.len(), 2);
        // Dropped as a whole, a map leaks.
        found.into_iter().for_each(drop);
        let _ = follower.poll();
    }),
    #[cfg(feature = "tokio")]
    ("spawn joins", |bed| {
        let key = bed.key(1);
        let mut leader = bed.run(&key);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let context = runtime.enter();
        let handle = bed.group.spawn(bed.key(1), bed.work());
        drop(context);
        drop(leader.woken_value());
        drop(runtime);
        drop(handle.wait());
    }),
];

/// G4, G8: whichever destructor panics in whatever call, nothing of it leaks: no lead, no place among
/// followers, no handle, no value. What observers are told adds up.
#[test]
fn g08_nothing_that_is_returned_outlives_a_destructor_that_panics() {
    limited(|| {
        let mut exploded = 0;
        for (name, scenario) in SCENARIOS {
            for place in [Place::DropKey, Place::DropValue, Place::DropWork] {
                // One visit later each time, until there are no more.
                for visits in 0.. {
                    let bed = Bed::new();
                    explode_at(place, visits);
                    let panic = catch_unwind(AssertUnwindSafe(|| scenario(&bed)));
                    let has_exploded = !disarm();
                    if let Err(payload) = &panic {
                        assert_eq!(text(&**payload), format!("in {place:?}"), "{name}");
                    }
                    drop(panic);
                    bed.assert_clean(&format!("{name}, {place:?}, {visits}"));
                    if !has_exploded {
                        break;
                    }
                    exploded += 1;
                }
            }
        }
        assert!(exploded > 100, "only {exploded} panics");
    });
}

/// G4, G8: a task is spawned although the key that it did not need panics when it is dropped, and its handle, which
/// nobody gets, is dropped: it is no follower, and keeps nothing.
#[cfg(feature = "tokio")]
#[test]
fn g08_spawn_with_a_key_whose_drop_panics_leaves_no_handle_behind() {
    limited(|| {
        for takes_over in [false, true] {
            let bed = Bed::new();
            let key = bed.key(1);
            let mut leader = Some(bed.run(&key));
            let mut follower = bed.run(&key);
            if takes_over {
                leader = None;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let context = runtime.enter();
            explode_at(Place::DropKey, 0);
            let spawn = || bed.group.spawn(bed.key(1), bed.work());
            assert_eq!(panic_text(spawn), "in DropKey");
            assert!(!disarm());
            drop(context);
            // The task is one, unless it leads.
            assert_eq!(bed.group.in_flight()[0].followers, if takes_over { 1 } else { 2 });

            let turns = || {
                runtime.block_on(async {
                    for _ in 0..4 {
                        tokio::task::yield_now().await
                    }
                })
            };
            turns();
            if let Some(leader) = &mut leader {
                drop(leader.woken_value());
            }
            drop(follower.woken_value());
            turns();
            drop((leader, follower, runtime));
            drop(key);
            bed.assert_clean("spawn");
        }
    });
}

/// G8: the same of a thread that follows.
#[test]
fn g08_thread_that_follows_drops_its_work_before_it_returns_the_value() {
    limited(|| {
        for place in [Place::DropKey, Place::DropValue, Place::DropWork] {
            let bed = Bed::new();
            let key = bed.key(1);
            let mut leader = bed.run(&key);
            let (group, own, closure) = (bed.group.clone(), bed.key(1), bed.closure());
            let follower = thread::spawn(move || {
                explode_at(place, 0);
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    drop(group.run_blocking(&own, closure));
                }));
                disarm();
                drop((panicked, own));
            });
            while bed.stats.snapshot().joined == 0 {
                thread::yield_now();
            }
            drop(leader.woken_value());
            follower.join().expect("it is caught");
            drop(leader);
            drop(key);
            bed.assert_clean(&format!("{place:?}"));
        }
    });
}

/// G8: a follower that turns out to be the last to keep the flight, because its value's `Clone` drops the other,
/// drops a value whose `Drop` panics: it has been answered by then.
#[test]
fn g08_follower_that_drops_the_last_of_a_flight_is_told_of_before() {
    limited(|| {
        let stats = Arc::new(Stats::default());
        let group: Group<u64, traps::Value> = Group::builder().observer(Arc::clone(&stats)).build();
        let mut leader = Polled::pending(group.run(&1, async {
            futures_lite::future::yield_now().await;
            traps::Value(7)
        }));
        let follow = || {
            let group = group.clone();
            Polled::pending(async move { group.run(&1, pending()).await })
        };
        let (mut follower, other) = (follow(), follow());
        assert_eq!(leader.woken_value().0, 7);
        traps::trap(Place::CloneValue, 0, move || {
            drop(other);
            explode_at(Place::DropValue, 0);
        });
        assert_eq!(panic_text(|| follower.poll()), "in DropValue");
        assert!(!disarm());
        let told = stats.snapshot();
        assert_eq!((told.joined, told.answered, told.left), (2, 1, 1));
    });
}

/// G8: a key whose `Drop` panics does not replace the panic of the work, and all followers learn that.
#[test]
fn g08_the_panic_of_the_work_comes_before_that_of_a_key() {
    limited(|| {
        let bed = Bed::new();
        let key = bed.key(1);
        let panics = async {
            futures_lite::future::yield_now().await;
            resume_unwind(Box::new("the work"))
        };
        let mut leader = Polled::pending(bed.group.run(&key, panics));
        let mut follower = Polled::pending(bed.group.call(&key).run(bed.work()));
        explode_at(Place::DropKey, 0);
        assert_eq!(panic_text(|| leader.poll()), "the work");
        assert!(!disarm());
        let told = follower.woken_value().expect_err("the leader panicked");
        assert!(matches!(told, CallError::Panicked(panicked) if panicked.message() == "the work"));

        explode_at(Place::DropKey, 0);
        let alone = || bed.group.run_blocking(&key, || resume_unwind(Box::new("the work")));
        assert_eq!(panic_text(alone), "the work");
        assert!(!disarm());

        // Of a batch the followers of every key.
        let keys = [1, 2].map(|id| bed.key(id));
        let mut batch = Polled::pending(bed.group.run_many(keys, |_| async {
            futures_lite::future::yield_now().await;
            resume_unwind(Box::new("the load")) as Vec<(Key, Value)>
        }));
        let others = [1, 2].map(|id| bed.key(id));
        let mut followers =
            others.each_ref().map(|key| Polled::pending(bed.group.call(key).run(bed.work())));
        explode_at(Place::DropKey, 0);
        assert_eq!(panic_text(|| batch.poll()), "the load");
        assert!(!disarm());
        for follower in &mut followers {
            assert!(matches!(follower.woken_value(), Err(CallError::Panicked(_))));
        }
        drop((leader, follower, followers, batch));
        drop((others, key));
        bed.assert_clean("a panic of the work");
    });
}

/// G6, G8: the task of a spawned call may be the last to keep its group. If the group's hasher panics when it is
/// dropped then, the handle has its answer.
#[test]
fn g06_hasher_that_panics_when_it_is_dropped_keeps_no_handle_waiting() {
    #[derive(Default)]
    struct Exploding(RandomState);
    impl BuildHasher for Exploding {
        type Hasher = std::hash::DefaultHasher;
        fn build_hasher(&self) -> Self::Hasher {
            self.0.build_hasher()
        }
    }
    impl Drop for Exploding {
        fn drop(&mut self) {
            visit(Place::DropHasher);
        }
    }

    limited(|| {
        for lands in [true, false] {
            let group: Group<u64, Arc<()>, Exploding> = Group::default();
            let value = Arc::new(());
            let returned = Arc::clone(&value);
            let work = async move {
                if !lands {
                    resume_unwind(Box::new("the work"))
                }
                returned
            };
            let (task, handle) = group.call(&1).task(work).expect("no limit");
            drop(group);
            explode_at(Place::DropHasher, 0);
            let ended = panic_text(|| Polled::new(task).poll());
            assert!(!disarm());
            match handle.wait_timeout(Duration::ZERO) {
                Ok(_) => assert_eq!((lands, ended), (true, "in DropHasher".to_owned())),
                Err(CallError::Panicked(panicked)) => {
                    assert_eq!(
                        (lands, panicked.message(), &*ended),
                        (false, "the work", "the work")
                    );
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(Arc::strong_count(&value), 1);
        }
    });
}

/// A payload that is counted, and panics when it is dropped if it is told to.
struct Payload(#[expect(dead_code, reason = "is counted")] Live);

impl Drop for Payload {
    fn drop(&mut self) {
        visit(Place::DropPayload);
    }
}

/// G8: no panic that goes no further leaks what it carries, and one whose payload panics goes no further either.
#[test]
fn g08_payloads_of_panics_that_are_contained_are_dropped() {
    struct Observer(Live);
    impl Observer {
        fn panic(&self) {
            resume_unwind(Box::new(Payload(Arc::clone(&self.0))));
        }
    }
    impl shardflight::Observer for Observer {
        fn led(&self, _: shardflight::FlightId) {
            self.panic();
        }
        fn landed(&self, _: shardflight::FlightId, _: usize, _: Duration) {
            self.panic();
        }
    }

    struct Waker(Live);
    impl std::task::Wake for Waker {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new(Payload(Arc::clone(&self.0))));
        }
    }

    /// Panics twice: when it is polled, and when it is dropped.
    struct Twice<T>(Live, PhantomData<T>);
    impl<T> Future for Twice<T> {
        type Output = T;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
            resume_unwind(Box::new("first"))
        }
    }
    impl<T> Drop for Twice<T> {
        fn drop(&mut self) {
            resume_unwind(Box::new(Payload(Arc::clone(&self.0))));
        }
    }

    limited(|| {
        let live = Live::default();
        let rounds = |explodes: bool| {
            let arm = || {
                if explodes {
                    explode_at(Place::DropPayload, 0);
                }
            };
            let group: Group<u64, u64> =
                Group::builder().observer(Observer(Arc::clone(&live))).build();
            arm();
            assert_eq!(group.run_blocking(&1, || 1), 1);

            let group: Group<u64, u64> = Group::new();
            let mut leader = Polled::pending(group.run(&1, async {
                futures_lite::future::yield_now().await;
                1
            }));
            let waker = std::task::Waker::from(Arc::new(Waker(Arc::clone(&live))));
            let cx = &mut Context::from_waker(&waker);
            let mut follower = Box::pin(group.run(&1, pending()));
            assert!(follower.as_mut().poll(cx).is_pending());
            arm();
            assert_eq!(leader.poll(), Poll::Ready(1));
            drop((follower, waker));

            arm();
            let work = || Twice(Arc::clone(&live), PhantomData);
            let run = || Polled::new(group.run(&1, work())).poll();
            assert_eq!(panic_text(run), "first");
            arm();
            let batch = || {
                let load = |_: Vec<u64>| Twice::<Vec<(u64, u64)>>(Arc::clone(&live), PhantomData);
                Polled::new(group.run_many([1], load)).poll()
            };
            assert_eq!(panic_text(batch), "first");
            disarm();
        };
        rounds(false);
        assert_eq!(Arc::strong_count(&live), 1);
        rounds(true);
        assert_eq!(Arc::strong_count(&live), 1);
    });
}

/// Of a layer: extensions that followers share, what a follower is the last to keep of the leader's own response, and
/// the service's future.
#[cfg(feature = "tower")]
#[test]
fn no_response_leaks_when_a_part_of_another_panics_as_it_is_dropped() {
    use http::{Request, Response, header::SET_COOKIE};
    use shardflight::tower::{CoalesceLayer, Policy};
    use tower::{Layer, ServiceExt, service_fn};

    /// Answers at its second poll.
    struct Serve(Work, bool);
    impl Future for Serve {
        type Output = Result<Response<String>, ()>;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            let value = ready!(Pin::new(&mut self.0).poll(cx));
            let response = Response::builder().extension(value);
            let response = if self.1 { response.header(SET_COOKIE, "a=b") } else { response };
            Poll::Ready(Ok(response.body(String::new()).expect("it is valid")))
        }
    }

    common::on_tokio(|| async {
        let mut exploded = 0;
        for is_alone in [false, true] {
            for place in [Place::DropValue, Place::DropWork] {
                for leader_goes in [false, true] {
                    for visits in 0.. {
                        let live = Live::default();
                        let work = Arc::clone(&live);
                        let service = service_fn(move |_: Request<String>| {
                            Serve(Work(Arc::clone(&work), 1), is_alone)
                        });
                        let policy = Policy::new().extension::<Value>();
                        let service = CoalesceLayer::with_policy(policy).layer(service);
                        let ask = || {
                            let request = Request::get("http://localhost/").body(String::new());
                            let service = service.clone();
                            async move { service.oneshot(request.expect("it is valid")).await }
                        };
                        explode_at(place, visits);
                        let panicked = catch_unwind(AssertUnwindSafe(|| {
                            let mut asked = [(); 3].map(|()| Some(Polled::pending(ask())));
                            if leader_goes {
                                asked[0] = None;
                            }
                            for (_, response) in common::settle(&mut asked) {
                                drop(response);
                            }
                        }));
                        let has_exploded = !disarm();
                        drop((panicked, service));
                        let what = format!("{is_alone}, {place:?}, {leader_goes}, {visits}");
                        assert_eq!(Arc::strong_count(&live), 1, "{what}");
                        if !has_exploded {
                            break;
                        }
                        exploded += 1;
                    }
                }
            }
        }
        assert!(exploded > 15, "only {exploded} panics");
    });
}
