//! Feature `tracing`: the spans of led flights, and what followers say.

#![cfg(all(not(loom), feature = "tracing"))]

mod common;

use std::{
    collections::BTreeMap,
    fmt,
    future::{pending, ready},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use common::{Polled, limited};
use futures_lite::future::yield_now;
use shardflight::{Group, TracingObserver};
use tracing::{
    Event, Instrument, Metadata, Subscriber,
    field::{Field, Visit},
    info, info_span,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// G9: a subscriber may use the group whenever it is called, also where a span is cloned or dropped.
#[test]
fn g09_subscriber_that_uses_the_group_whenever_it_is_called() {
    struct Curious(OnceLock<Group<u64, u64>>, AtomicBool, AtomicU64);

    impl Curious {
        fn look(&self) {
            if self.1.swap(true, SeqCst) {
                return;
            }
            if let Some(group) = self.0.get() {
                // Observers keep flights in parts, by their numbers: more than there are parts.
                for key in 100..164 {
                    assert_eq!(group.run_blocking(&key, || key), key);
                }
                self.2.fetch_add(1, SeqCst);
            }
            self.1.store(false, SeqCst);
        }
    }

    impl Subscriber for Curious {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            self.look();
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {
            self.look();
        }
        fn record_follows_from(&self, _: &Id, _: &Id) {
            self.look();
        }
        fn event(&self, _: &Event<'_>) {
            self.look();
        }
        fn enter(&self, _: &Id) {
            self.look();
        }
        fn exit(&self, _: &Id) {
            self.look();
        }
        fn clone_span(&self, id: &Id) -> Id {
            self.look();
            id.clone()
        }
        fn try_close(&self, _: Id) -> bool {
            self.look();
            true
        }
    }

    limited(|| {
        let curious = Arc::new(Curious(OnceLock::new(), false.into(), 0.into()));
        let dispatch =
            tracing::Dispatch::from(Arc::clone(&curious) as Arc<dyn Subscriber + Send + Sync>);
        tracing::dispatcher::with_default(&dispatch, || {
            let group: Group<u64, u64> =
                Group::builder().observer(TracingObserver::new("curious")).build();
            assert!(curious.0.set(group.clone()).is_ok());
            let mut leader = Polled::pending(group.run(&1, async {
                yield_now().await;
                1
            }));
            let mut follower = Polled::pending(group.run(&1, pending()));
            assert_eq!((leader.woken_value(), follower.woken_value()), (1, 1));
            assert!(group.is_empty());
        });
        assert!(curious.2.load(SeqCst) >= 8);
    });
}

/// What a subscriber gets to see, in lines.
#[derive(Debug, Clone, Default)]
struct Collected(Arc<Mutex<Vec<String>>>);

/// Fields of a span or event, without those that differ from run to run.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let shown = match field.name() {
            "flight" => "N".to_owned(),
            "waited" => "T".to_owned(),
            _ => format!("{value:?}"),
        };
        self.0.insert(field.name(), shown);
    }
}

impl Fields {
    fn shown(&self) -> String {
        let shown = |(name, value): (&&str, &String)| format!(" {name}={value}");
        self.0.iter().map(shown).collect()
    }
}

impl Collected {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collected {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = context.span(id).and_then(|span| Some(span.parent()?.name()));
        let name = attributes.metadata().name();
        self.push(format!("new {name} in {}:{}", parent.unwrap_or("nothing"), fields.shown()));
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        record.record(&mut fields);
        let name = context.span(id).expect("it is open").name();
        self.push(format!("{name}:{}", fields.shown()));
    }

    fn on_follows_from(&self, id: &Id, from: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).expect("it is open").name();
        self.push(format!("{} follows from {}", name(id), name(from)));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.lookup_current().map_or("nothing", |span| span.name());
        self.push(format!("event in {span}:{}", fields.shown()));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.push(format!("close {}", context.span(&id).expect("it is closing").name()));
    }
}

/// With a subscriber of its own.
fn collected(test: impl FnOnce(&Group<u64, u64>, &Collected) + Send + 'static) {
    limited(|| {
        let collected = Collected::default();
        let subscriber = Registry::default().with(collected.clone());
        tracing::subscriber::with_default(subscriber, || {
            let observer = TracingObserver::new("pages");
            let group = Group::builder().observer(observer).build();
            test(&group, &collected);
            assert!(group.is_empty());
        });
    });
}

const NEW: &str = "new flight in nothing: flight=N group=pages took_over=false";

/// The work is polled inside of the span, which has the caller's as its parent and closes with the
/// flight.
#[test]
fn work_is_polled_in_the_span_of_its_flight() {
    collected(|group, seen| {
        let work = async {
            info!(at = 1);
            yield_now().await;
            info!(at = 2);
            1
        };
        let call = group.run(&1, work).instrument(info_span!("request"));
        let mut leader = Polled::pending(call);
        info!(at = 3);
        leader.woken_value();
        drop(leader);
        let expected = [
            "new request in nothing:",
            "new flight in request: flight=N group=pages took_over=false",
            "event in flight: at=1",
            "event in nothing: at=3",
            "event in flight: at=2",
            "flight: outcome=\"landed\"",
            "flight: followers=0",
            "close flight",
            "close request",
        ];
        assert_eq!(seen.take(), expected);
    });
}

#[test]
fn threads_work_in_the_span_too() {
    collected(|group, seen| {
        assert_eq!(common::panic_text(|| group.run_blocking(&1, || panic!("at work"))), "at work");
        let panicked = [NEW, "flight: outcome=\"panicked\"", "flight: followers=0", "close flight"];
        assert_eq!(seen.take(), panicked);
        group.run_blocking(&1, || {
            info!(at = 1);
            1
        });
        assert_eq!(seen.take()[1], "event in flight: at=1");
    });
}

/// Followers say which flight they follow, in their own span, which follows from the flight's.
#[test]
fn followers_record_which_flight_they_followed() {
    collected(|group, seen| {
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            1
        }));
        let follower = group.run(&1, pending()).instrument(info_span!("request"));
        let mut follower = Polled::pending(follower);
        drop(Polled::pending(group.run(&1, pending())));
        leader.woken_value();
        follower.woken_value();
        drop(follower);
        let expected = [
            NEW,
            "new request in nothing:",
            "event in request: flight=N group=pages message=joined",
            "request follows from flight",
            "event in nothing: flight=N group=pages message=joined",
            "event in nothing: flight=N group=pages message=left waited=T",
            "flight: outcome=\"landed\"",
            "flight: followers=1",
            "close flight",
            "event in request: flight=N group=pages message=answered waited=T",
            "close request",
        ];
        assert_eq!(seen.take(), expected);
    });
}

/// Who takes over begins a span of its own, and half-done work goes on in that.
#[test]
fn who_takes_over_has_a_span_of_its_own() {
    collected(|group, seen| {
        let work = async {
            yield_now().await;
            info!(at = 2);
            1
        };
        let leader = Polled::pending(group.call(&1).relay(work));
        let mut follower = Polled::pending(group.run(&1, pending()));
        drop(leader);
        follower.woken_value();
        let expected = [
            NEW,
            "event in nothing: flight=N group=pages message=joined",
            "flight: outcome=\"cancelled\"",
            "close flight",
            "new flight in nothing: flight=N group=pages took_over=true",
            "event in flight: at=2",
            "flight: outcome=\"landed\"",
            "flight: followers=0",
            "close flight",
        ];
        assert_eq!(seen.take(), expected);
    });
}

#[test]
fn what_else_happens_is_an_event() {
    collected(|group, seen| {
        let leader = Polled::pending(group.run(&1, pending()));
        drop(group.call(&1).max_followers(0).run_blocking(|| 0));
        group.forget(&1);
        drop(leader);
        let expected = [
            NEW,
            "event in nothing: group=pages message=refused reason=too many calls follow the leading call already",
            "event in nothing: flight=N group=pages message=forgotten",
            "flight: outcome=\"cancelled\"",
            "close flight",
        ];
        assert_eq!(seen.take(), expected);
    });
}

/// A layer's requests say how they were answered, and why, in their own span.
#[cfg(feature = "tower")]
#[test]
fn requests_of_a_layer_record_how_they_were_answered() {
    use std::convert::Infallible;

    use axum::body::Body;
    use http::{Request, Response};
    use shardflight::tower::CoalesceLayer;
    use tower::{Layer, ServiceExt, service_fn};

    limited(|| {
        let collected = Collected::default();
        let subscriber = Registry::default().with(collected.clone());
        tracing::subscriber::with_default(subscriber, || {
            let layer = CoalesceLayer::new().observer(TracingObserver::new("site"));
            let service = layer.layer(service_fn(async |_: Request<Body>| {
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }));
            let request = Request::get("/").header("authorization", "Bearer secret");
            let request = request.body(Body::empty()).expect("a request");
            let response = service.clone().oneshot(request).instrument(info_span!("request"));
            futures_lite::future::block_on(response).expect("infallible");
            let expected = [
                "new request in nothing:",
                "event in request: answered=\"alone\" group=site message=request \
                 reason=\"header:authorization\" retries=0",
                "close request",
            ];
            assert_eq!(collected.take(), expected);

            let request = Request::get("/").body(Body::empty()).expect("a request");
            futures_lite::future::block_on(service.oneshot(request)).expect("infallible");
            let told = "event in nothing: answered=\"led\" group=site message=request retries=0";
            assert_eq!(collected.take().last().map(String::as_str), Some(told));
        });
    });
}

/// A batch is polled in one span, and each key has its own, which closes as it lands.
#[test]
fn a_batch_has_a_span_for_each_key() {
    collected(|group, seen| {
        let batch = group.run_many([1, 2], |keys| {
            info!(at = 1);
            ready(keys.into_iter().map(|key| (key, key)))
        });
        assert_eq!(futures_lite::future::block_on(batch).len(), 2);
        let landed = ["flight: outcome=\"landed\"", "flight: followers=0", "close flight"];
        let expected: Vec<_> =
            [NEW, NEW, "event in flight: at=1"].into_iter().chain(landed).chain(landed).collect();
        assert_eq!(seen.take(), expected);
    });
}

/// Without a subscriber there are no spans to keep.
#[test]
fn without_a_subscriber_nothing_happens() {
    limited(|| {
        let observer = TracingObserver::new("pages");
        let group: Group<u64, u64> = Group::builder().observer(observer).build();
        assert_eq!(group.run_blocking(&1, || 1), 1);
        assert!(group.is_empty());
    });
}
