//! How often a value is cloned: never if the call is unshared, otherwise once for each of its callers at
//! most, in every way to call.

// loom's types work only inside a model.
#![cfg(not(loom))]

mod common;

use std::{
    future::{pending, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
};

use shardflight::{Entry, Group};
use tokio::sync::oneshot;

use self::common::{Polled, limited, spin};

/// W7: 64 KiB that count their clones.
struct Page {
    bytes: Box<[u8; 64 * 1024]>,
    clones: Arc<AtomicUsize>,
}

impl Clone for Page {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, SeqCst);
        Self { bytes: self.bytes.clone(), clones: Arc::clone(&self.clones) }
    }
}

#[derive(Default)]
struct Press(Arc<AtomicUsize>);

impl Press {
    fn page(&self) -> Page {
        Page { bytes: Box::new([7; 64 * 1024]), clones: Arc::clone(&self.0) }
    }

    fn clones(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn read(page: &Page) {
    assert!(page.bytes.iter().all(|&byte| byte == 7));
}

const FOLLOWERS: usize = 5;

type Boxed<'a> = Pin<Box<dyn Future<Output = Page> + 'a>>;

/// Lands one flight, whose leader and followers are given, and reads what they get. `send` is how the
/// leader's work ends.
fn land(
    press: &Press,
    send: oneshot::Sender<Page>,
    mut leader: Polled<'_, Page>,
    followers: Vec<Polled<'_, Page>>,
) {
    assert!(send.send(press.page()).is_ok());
    read(&leader.woken_value());
    let clones = followers.len();
    for mut follower in followers {
        read(&follower.woken_value());
    }
    // The last follower gets the original.
    assert_eq!(press.clones(), clones);
}

async fn sent(value: oneshot::Receiver<Page>) -> Page {
    value.await.expect("sent")
}

/// G11, in every way to call.
#[test]
fn g11_unshared_value_is_not_cloned() {
    limited(|| {
        let press = Press::default();
        let group: Group<u64, Page> = Group::new();
        let now = |future| match Polled::new(future).poll() {
            Poll::Ready(page) => read(&page),
            Poll::Pending => panic!("nobody else has this key"),
        };
        now(Box::pin(group.run(&1, async { press.page() })) as Boxed<'_>);
        now(Box::pin(async { group.call(&1).run(async { press.page() }).await.unwrap().value }));
        now(Box::pin(async { group.call(&1).relay(ready(press.page())).await.unwrap().value }));
        now(Box::pin(async {
            group.call(&1).fresh().run(ready(press.page())).await.unwrap().value
        }));
        let load = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, press.page())));
        now(Box::pin(async { group.run_many([1], load).await.remove(&1).unwrap() }));
        read(&group.run_blocking(&1, || press.page()));
        read(&group.call(&1).run_blocking(|| press.page()).unwrap().value);
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is free") };
        lead.land(press.page());
        assert_eq!(press.clones(), 0);
    });
}

/// W7, for those that bring work.
#[test]
fn w07_each_caller_clones_at_most_once() {
    limited(|| {
        let group: Group<u64, Page> = Group::new();
        let joins = || Polled::pending(group.run(&1, pending()));

        let (press, (send, value)) = (Press::default(), oneshot::channel());
        let leader = Polled::pending(group.run(&1, sent(value)));
        land(&press, send, leader, (0..FOLLOWERS).map(|_| joins()).collect());

        let (press, (send, value)) = (Press::default(), oneshot::channel());
        let leader =
            Polled::pending(async { group.call(&1).relay(sent(value)).await.unwrap().value });
        let mut followers: Vec<_> = (0..FOLLOWERS).map(|_| joins()).collect();
        // One of them goes on with the work.
        drop(leader);
        let heirs: Vec<_> = (0..FOLLOWERS).filter(|&i| followers[i].is_woken()).collect();
        assert!(heirs.iter().all(|&i| followers[i].poll().is_pending()));
        assert!(send.send(press.page()).is_ok());
        while !followers.is_empty() {
            let woken = followers.iter().position(Polled::is_woken).expect("one is woken");
            if let Poll::Ready(page) = followers[woken].poll() {
                read(&page);
                followers.remove(woken);
            }
        }
        // One of them leads, and the last gets the original.
        assert_eq!(press.clones(), FOLLOWERS - 1);
    });
}

/// W7: callers of the next flight.
#[test]
fn w07_each_fresh_caller_clones_at_most_once() {
    limited(|| {
        let (press, (send, value)) = (Press::default(), oneshot::channel());
        let group: Group<u64, Page> = Group::new();
        let mut running = Polled::pending(group.run(&1, pending()));
        let fresh = |work| async { group.call(&1).fresh().run(work).await.unwrap().value };
        let mut leader = Polled::pending(fresh(Box::pin(sent(value)) as Boxed<'_>));
        let followers =
            (0..FOLLOWERS).map(|_| Polled::pending(fresh(Box::pin(pending())))).collect();
        assert!(running.poll().is_pending());
        drop(running);
        assert!(leader.poll().is_pending());
        land(&press, send, leader, followers);
    });
}

/// W7, for threads.
#[test]
fn w07_each_thread_clones_at_most_once() {
    limited(|| {
        let (press, (send, value)) = (Press::default(), oneshot::channel());
        let group: Group<u64, Page> = Group::new();
        let mut leader = Polled::pending(group.run(&1, sent(value)));
        thread::scope(|scope| {
            for i in 0..FOLLOWERS {
                let group = &group;
                scope.spawn(move || match i % 2 {
                    0 => read(&group.run_blocking(&1, || unreachable!("it is led"))),
                    _ => read(&group.join(&1).expect("in flight").wait().unwrap()),
                });
            }
            while group.in_flight()[0].followers < FOLLOWERS {
                spin();
            }
            assert!(send.send(press.page()).is_ok());
            read(&leader.woken_value());
        });
        // Of those who look at once each may clone.
        assert!(press.clones() <= FOLLOWERS + 1, "{} clones", press.clones());
    });
}

/// W7, for those that bring no work. The lead wants no value.
#[test]
fn w07_each_handle_clones_at_most_once() {
    limited(|| {
        let press = Press::default();
        let group: Group<u64, Page> = Group::new();
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is free") };
        let handles: Vec<_> = (0..FOLLOWERS)
            .map(|_| group.join(&1).expect("in flight"))
            .flat_map(|handle| [handle.clone(), handle])
            .collect();
        assert_eq!(lead.land(press.page()), FOLLOWERS);
        assert_eq!(press.clones(), 0);
        let mut handles: Vec<_> = handles.into_iter().map(Polled::new).collect();
        for handle in &mut handles {
            let Poll::Ready(Ok(page)) = handle.poll() else { panic!("it has landed") };
            read(&page);
        }
        assert!(press.clones() <= 2 * FOLLOWERS, "{} clones", press.clones());
    });
}

/// W7: a spawned call's task keeps no value.
#[test]
fn w07_task_clones_nothing_and_its_handle_once() {
    limited(|| {
        let press = Press::default();
        let group: Group<u64, Page> = Group::new();
        let (task, handle) = group.call(&1).task(ready(press.page())).unwrap();
        assert!(Polled::new(task).poll().is_ready());
        read(&handle.wait().unwrap());
        assert!(press.clones() <= 2, "{} clones", press.clones());
    });
}

/// W7: a batch, and those that join its keys.
#[test]
fn w07_each_caller_of_a_batch_clones_at_most_once() {
    limited(|| {
        let (press, (send, value)) = (Press::default(), oneshot::channel());
        let group: Group<u64, Page> = Group::new();
        let mut value = Some(value);
        let mut batch = Polled::pending(group.run_many([1, 2], |keys| {
            let value = sent(value.take().expect("one load"));
            async move {
                let page = value.await;
                let other = Page { bytes: page.bytes.clone(), clones: Arc::clone(&page.clones) };
                keys.into_iter().zip([page, other])
            }
        }));
        let joins = || Polled::pending(group.run(&1, pending()));
        let followers: Vec<_> = (0..FOLLOWERS).map(|_| joins()).collect();
        assert!(send.send(press.page()).is_ok());
        batch.woken_value().values().for_each(read);
        for mut follower in followers {
            read(&follower.woken_value());
        }
        // The batch clones once, and the last follower gets the original.
        assert_eq!(press.clones(), FOLLOWERS);
    });
}
