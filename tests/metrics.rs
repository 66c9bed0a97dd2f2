//! Feature `metrics`: what reaches a recorder, under which names.

#![cfg(all(not(loom), feature = "metrics"))]

mod common;

use std::{collections::HashMap, future::pending};

use common::{Polled, limited};
use futures_lite::future::yield_now;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use shardflight::{CallError, Group, MetricsObserver};

/// What was recorded since this was last asked, of a gauge by how much it has changed, by name and
/// `reason`.
fn recorded(snapshotter: &Snapshotter, group: &str) -> HashMap<String, DebugValue> {
    let of_group = |(key, _, _, value): (metrics_util::CompositeKey, _, _, DebugValue)| {
        let label = |name| key.key().labels().find(|label| label.key() == name);
        assert!(label("group").is_some(), "every metric says of which group it is");
        if label("group")?.value() != group {
            return None;
        }
        let reason = label("reason").map(|label| format!("/{}", label.value()));
        Some((format!("{}{}", key.key().name(), reason.unwrap_or_default()), value))
    };
    snapshotter.snapshot().into_vec().into_iter().filter_map(of_group).collect()
}

fn count(recorded: &HashMap<String, DebugValue>, name: &str) -> u64 {
    match recorded.get(&format!("shardflight_{name}")) {
        Some(DebugValue::Counter(n)) => *n,
        other => panic!("{name}: {other:?}"),
    }
}

fn gauge(recorded: &HashMap<String, DebugValue>) -> f64 {
    match recorded.get("shardflight_flights_in_flight") {
        Some(DebugValue::Gauge(n)) => n.into_inner(),
        other => panic!("{other:?}"),
    }
}

fn samples(recorded: &HashMap<String, DebugValue>, name: &str) -> Vec<f64> {
    match recorded.get(&format!("shardflight_{name}")) {
        Some(DebugValue::Histogram(samples)) => samples.iter().map(|n| n.into_inner()).collect(),
        other => panic!("{name}: {other:?}"),
    }
}

/// A run of every event, and the number of each; the gauge is up while there are leaders.
#[test]
fn every_event_is_counted_under_its_name() {
    limited(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let observer = || MetricsObserver::new("pages");
        let observer = metrics::with_local_recorder(&recorder, observer);
        let group: Group<u64, u64> = Group::builder().observer(observer).build();

        let yielding = |value| async move {
            yield_now().await;
            value
        };
        let mut leader = Polled::pending(group.run(&1, yielding(1)));
        let mut followers: Vec<_> =
            (0..3).map(|_| Polled::pending(group.run(&1, pending()))).collect();
        let other = Polled::pending(group.run(&2, pending()));
        let refused = group.call(&1).max_followers(3).run_blocking(|| 0);
        assert_eq!(refused, Err(CallError::TooManyFollowers));
        let now = recorded(&snapshotter, "pages");
        assert_eq!(gauge(&now), 2.0);
        assert_eq!(count(&now, "flights_led_total"), 2);
        assert_eq!(count(&now, "calls_joined_total"), 3);
        assert_eq!(count(&now, "calls_refused_total/too_many_followers"), 1);
        assert_eq!(count(&now, "calls_refused_total/reentrant"), 0);

        drop(followers.pop());
        assert_eq!(leader.woken_value(), 1);
        for follower in &mut followers {
            assert_eq!(follower.woken_value(), 1);
        }
        let now = recorded(&snapshotter, "pages");
        assert_eq!(gauge(&now), -1.0);
        assert_eq!(count(&now, "flights_landed_total"), 1);
        assert_eq!(count(&now, "calls_answered_total"), 2);
        assert_eq!(count(&now, "calls_left_total"), 1);
        assert_eq!(samples(&now, "flight_followers"), [2.0]);
        assert_eq!(samples(&now, "flight_seconds").len(), 1);
        let waits = samples(&now, "wait_seconds");
        assert!(
            waits.len() == 2 && waits.iter().all(|wait| (0.0..60.0).contains(wait)),
            "{waits:?}"
        );

        let mut successor = Polled::pending(group.run(&2, async { panic!("the work") }));
        drop(other);
        assert_eq!(gauge(&recorded(&snapshotter, "pages")), -1.0);
        assert_eq!(common::panic_text(|| successor.poll()), "the work");
        group.run_blocking(&3, || {
            assert!(group.forget(&3));
            group.run_blocking(&4, || {
                let recursive = group.call(&4).run_blocking(|| 0);
                assert_eq!(recursive, Err(CallError::Reentrant));
                4
            })
        });
        let now = recorded(&snapshotter, "pages");
        assert_eq!(gauge(&now), 0.0);
        assert_eq!(count(&now, "flights_taken_over_total"), 1);
        assert_eq!(count(&now, "flights_panicked_total"), 1);
        assert_eq!(count(&now, "flights_forgotten_total"), 1);
        assert_eq!(count(&now, "calls_refused_total/reentrant"), 1);
        assert!(group.is_empty());
    });
}

/// What a cache tells, and the number of each.
#[cfg(feature = "moka")]
#[test]
fn every_event_of_a_cache_is_counted_under_its_name() {
    use std::time::Duration;

    use shardflight::cache::ReadThrough;

    limited(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let observer = || MetricsObserver::new("rates");
        let observer = metrics::with_local_recorder(&recorder, observer);
        let cache: ReadThrough<u64, u64, ()> =
            ReadThrough::builder().negative_ttl(Duration::MAX).observer(observer).build();
        assert_eq!(cache.get_blocking(&1, || Ok(1)), Ok(1));
        assert_eq!(cache.get_blocking(&1, || unreachable!("it is there")), Ok(1));
        assert_eq!(cache.get_blocking(&2, || Err(())), Err(()));
        assert_eq!(cache.get_blocking(&2, || unreachable!("it is kept")), Err(()));
        assert_eq!(cache.get_if_present(&3), None);
        let now = recorded(&snapshotter, "rates");
        assert_eq!(count(&now, "cache_hits_total"), 2);
        assert_eq!(count(&now, "cache_misses_total"), 3);
        assert_eq!(count(&now, "cache_stale_hits_total"), 0);
        assert_eq!(count(&now, "cache_refreshes_total"), 0);
        assert_eq!(count(&now, "cache_loads_total"), 1);
        assert_eq!(count(&now, "cache_failed_loads_total"), 1);
        assert_eq!(count(&now, "flights_led_total"), 2);
        let took = samples(&now, "cache_load_seconds");
        assert!(took.len() == 2 && took.iter().all(|took| (0.0..60.0).contains(took)), "{took:?}");

        let observer = || MetricsObserver::new("stale");
        let observer = metrics::with_local_recorder(&recorder, observer);
        let cache: ReadThrough<u64, u64, ()> =
            ReadThrough::builder().soft_ttl(Duration::ZERO).observer(observer).build();
        cache.insert(&1, 1);
        assert_eq!(cache.get_if_present(&1), Some(1));
        assert_eq!(cache.get_blocking(&1, || Err(())), Ok(1));
        let now = recorded(&snapshotter, "stale");
        assert_eq!(count(&now, "cache_stale_hits_total"), 1);
        assert_eq!(count(&now, "cache_misses_total"), 1);
        assert_eq!(count(&now, "cache_refreshes_total"), 1);
        assert_eq!(count(&now, "cache_failed_loads_total"), 1);
        assert_eq!(count(&now, "cache_hits_total"), 0);
    });
}

/// What a layer tells: every request, by how it was answered, and why. Here `Authorization` keeps requests from
/// sharing, a failure is retried, and its followers are refused.
#[cfg(feature = "tower")]
#[test]
fn every_request_of_a_layer_is_counted_with_its_reason() {
    use std::{convert::Infallible, time::Duration};

    use axum::body::Body;
    use futures_util::future::join_all;
    use http::{Request, Response, StatusCode};
    use shardflight::tower::CoalesceLayer;
    use tower::{Layer, ServiceExt, service_fn};

    common::on_paused_clock(|| async {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        // Reasons are looked up when they occur.
        let _guard = metrics::set_default_local_recorder(&recorder);
        let service = service_fn(async |request: Request<Body>| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut response = Response::new(Body::empty());
            if request.uri().path() == "/failing" {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok::<_, Infallible>(response)
        });
        let layer = CoalesceLayer::new().observer(MetricsObserver::new("site"));
        let service = layer.layer(service);
        let get = |path: &str| Request::get(path).body(Body::empty()).expect("a request");
        let all = async |requests: usize, request: &dyn Fn() -> Request<Body>| {
            join_all((0..requests).map(|_| service.clone().oneshot(request()))).await;
        };
        all(200, &|| {
            let mut request = get("/");
            let secret = http::HeaderValue::from_static("Bearer secret");
            request.headers_mut().insert("authorization", secret);
            request
        })
        .await;
        all(3, &|| get("/")).await;
        all(5, &|| get("/failing")).await;

        // By `answered` and `reason`.
        let snapshot = snapshotter.snapshot().into_vec().into_iter();
        let requests = snapshot.filter_map(|(key, _, description, value)| {
            let labels = key.key().labels();
            let labels: Vec<_> =
                labels.map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = key.key().name().strip_prefix("shardflight_http_")?;
            assert!(description.is_some(), "{name}");
            Some((format!("{name} {}", labels.join(" ")), value))
        });
        let requests: std::collections::BTreeMap<_, _> = requests.collect();
        let expected = [
            ("requests_total group=site answered=alone reason=header:authorization", 200),
            ("requests_total group=site answered=alone reason=status:503", 2),
            ("requests_total group=site answered=joined reason=", 2),
            ("requests_total group=site answered=led reason=", 1),
            ("requests_total group=site answered=refused reason=failed:503", 3),
            ("retries_total group=site", 4),
        ];
        let expected = expected.map(|(name, n)| (name.to_owned(), DebugValue::Counter(n)));
        assert_eq!(requests.into_iter().collect::<Vec<_>>(), expected);
    });
}

/// Groups are told apart by their label, and every name is described, and documented.
#[test]
fn groups_are_told_apart_by_their_label() {
    limited(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            let pages = MetricsObserver::new("pages");
            let pages: Group<u64, u64> = Group::builder().observer(pages).build();
            let users = MetricsObserver::new("users".to_owned());
            let users: Group<u64, u64> = Group::builder().observer(users).build();
            pages.run_blocking(&1, || 1);
            users.run_blocking(&1, || users.run_blocking(&2, || 2));
        });
        let snapshot = snapshotter.snapshot().into_vec();
        let source = include_str!("../src/metrics.rs");
        for (key, unit, description, _) in &snapshot {
            let name = key.key().name();
            assert!(description.is_some(), "{name}");
            assert_eq!(unit.is_some(), name.ends_with("_seconds"), "{name}");
            assert!(source.contains(&format!("/// | `{name}` |")), "{name} is in no table");
        }
        let led = |group: &str| {
            snapshot.iter().find_map(|(key, _, _, value)| {
                let is_it = key.key().name() == "shardflight_flights_led_total"
                    && key.key().labels().any(|label| label.value() == group);
                is_it.then_some(value)
            })
        };
        assert!(matches!(led("pages"), Some(DebugValue::Counter(1))));
        assert!(matches!(led("users"), Some(DebugValue::Counter(2))));
    });
}
