//! Where the layer can be put: around axum's routes and routers, nested and not, under its own server or
//! another; and what crosses it beside status, headers and body.

use axum::{Router, body::Body, extract::State, routing};
use http::{HeaderValue, Request, Response};
use shardflight::tower::{Alone, CoalesceLayer, Coalesced, Policy};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::{
    common::on_tokio,
    net::{Execution, Flights, Origin, Server, Site, answers, get, numbered, numbers},
};

async fn handle(State(origin): State<Origin>) -> String {
    let (number, _running) = origin.begin();
    origin.gate.pass(number).await;
    number.to_string()
}

fn rig() -> (Origin, Flights, CoalesceLayer) {
    let (origin, flights) = (Origin::default(), Flights::default());
    let layer = CoalesceLayer::new().observer(flights.clone());
    (origin, flights, layer)
}

/// Each of these ways of putting a layer around the route `/report`.
#[test]
fn the_layer_works_on_routers_routes_and_handlers_under_axums_server() {
    type Make = fn(Origin, CoalesceLayer) -> Router;
    let makes: [(&str, Make); 6] = [
        ("Router::layer", |origin, layer| {
            Router::new().route("/report", routing::get(handle)).layer(layer).with_state(origin)
        }),
        ("Router::layer, with the state first", |origin, layer| {
            Router::new().route("/report", routing::get(handle)).with_state(origin).layer(layer)
        }),
        ("Router::route_layer", |origin, layer| {
            Router::new()
                .route("/report", routing::get(handle))
                .route_layer(layer)
                .with_state(origin)
        }),
        ("MethodRouter::layer", |origin, layer| {
            Router::new().route("/report", routing::get(handle).layer(layer)).with_state(origin)
        }),
        ("a handler without state", |origin, layer| {
            let handler = move || handle(State(origin));
            Router::new().route("/report", routing::get(handler)).layer(layer)
        }),
        ("the fallback, in a ServiceBuilder", |origin, layer| {
            let layers = ServiceBuilder::new().layer(layer);
            Router::new().fallback(handle).layer(layers).with_state(origin)
        }),
    ];
    on_tokio(move || async move {
        for (name, make) in makes {
            let (origin, flights, layer) = rig();
            let server = Server::of_axum(make(origin.clone(), layer)).await;
            let site = Site { origin, flights, server };
            let asked = site.place_many(5, &get("/report")).await;
            site.origin.gate.open();
            assert_eq!(numbers(&answers(asked).await), [1; 5], "{name}");
        }
    });
}

/// One layer, cloned into two routers that have the same path inside: what is asked for is the whole path.
/// It makes no difference whether axum's server or another one serves them.
#[test]
fn nested_routers_with_the_same_inner_path_never_share() {
    on_tokio(|| async {
        for is_axums in [true, false] {
            let (origin, flights, layer) = rig();
            let inner =
                || Router::new().route("/orders", routing::get(handle)).layer(layer.clone());
            let app = Router::new()
                .nest("/a", inner())
                .nest("/b", inner())
                .nest("/{tenant}/of", inner())
                .with_state(origin.clone());
            let server = match is_axums {
                true => Server::of_axum(app).await,
                false => Server::start(app).await,
            };
            let site = Site { origin, flights, server };
            let paths = ["/a/orders", "/b/orders", "/a/of/orders", "/b/of/orders"];
            let mut asked = Vec::new();
            for path in paths {
                asked.extend(site.place_many(2, &get(path)).await);
            }
            assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (4, 4));
            site.origin.gate.open();
            assert_eq!(numbers(&answers(asked).await), [1, 1, 2, 2, 3, 3, 4, 4]);
        }
    });
}

/// The outermost router sees the whole path by itself.
#[test]
fn a_layer_around_nested_routers_tells_them_apart() {
    on_tokio(|| async {
        let (origin, flights, layer) = rig();
        let inner = || Router::new().route("/orders", routing::get(handle));
        let app = Router::new().nest("/a", inner()).nest("/b", inner()).layer(layer);
        let server = Server::of_axum(app.with_state(origin.clone())).await;
        let site = Site { origin, flights, server };
        let mut asked = site.place_many(2, &get("/a/orders")).await;
        asked.extend(site.place_many(2, &get("/b/orders")).await);
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1, 1, 2, 2]);
    });
}

/// Layers that are made one by one have nothing in common.
#[test]
fn two_layers_never_share() {
    on_tokio(|| async {
        let (origin, _, layer) = rig();
        let (_, _, other) = rig();
        let service = origin.answering(numbered);
        let (one, two) = (layer.layer(service.clone()), other.layer(service));
        let ask = |service: &shardflight::tower::Coalesce<_>| {
            tokio::spawn(ServiceExt::<Request<Body>>::oneshot(service.clone(), get("/").into()))
        };
        let mut asked = vec![ask(&one), ask(&two)];
        origin.begun.reaches(2).await;
        asked.extend([ask(&one), ask(&two)]);
        origin.gate.open();
        let mut led = 0;
        for asked in asked {
            let response = asked.await.expect("no panic").expect("a response");
            led += usize::from(matches!(response.extensions().get(), Some(Coalesced::Led { .. })));
        }
        assert!(led >= 2 && origin.begun.get() == led);
    });
}

/// An outer layer has taken the body, which services read all the same, from where it is now.
#[test]
fn a_request_that_declares_a_body_runs_alone_also_without_it() {
    on_tokio(|| async {
        let (origin, _, layer) = rig();
        origin.gate.open();
        let service = layer.layer(origin.answering(numbered));
        let led = Coalesced::Led { followers: 0 };
        let alone = Coalesced::Alone(Alone::Body);
        for (name, value, expected) in [
            ("content-length", "5", &alone),
            ("content-length", "0", &led),
            ("transfer-encoding", "chunked", &alone),
            ("content-type", "text/plain", &led),
        ] {
            let request = Request::from(get("/").with(name, value));
            let response = service.clone().oneshot(request).await.expect("a response");
            assert_eq!(response.extensions().get(), Some(expected), "{name}: {value}");
        }
    });
}

/// What is under way can be listed, and is told by what was asked for, without headers.
#[test]
fn the_layer_lists_what_is_in_flight() {
    on_tokio(|| async {
        let (origin, flights, layer) = rig();
        let server = Server::start(layer.layer(origin.answering(numbered))).await;
        let site = Site { origin, flights, server };
        let asked = site.place_many(3, &get("/report?of=7").with("accept", "secret")).await;
        let listed = layer.in_flight();
        assert_eq!(listed.len(), 1);
        let flight = &listed[0];
        assert_eq!(flight.followers, 2);
        assert_eq!((flight.key.method(), flight.key.target()), ("GET", "/report?of=7"));
        assert_eq!(flight.key.to_string(), "GET /report?of=7");
        assert!(!format!("{layer:?}{listed:?}").contains("secret"), "{listed:?}");
        site.origin.gate.open();
        answers(asked).await;
        assert!(layer.in_flight().is_empty());
    });
}

/// Extensions that the handler leaves in the response.
#[derive(Debug, Clone)]
struct Named(&'static str);

#[derive(Debug, Clone)]
struct Unnamed(&'static str);

/// The request that was executed keeps all of them. Its followers get those that the policy names, and
/// none by default.
#[test]
fn followers_get_the_extensions_that_the_policy_names() {
    on_tokio(|| async {
        for (policy, of_follower) in
            [(Policy::new().extension::<Named>(), Some("named")), (Policy::new(), None)]
        {
            let origin = Origin::default();
            let service = origin.answering(|execution: Execution| {
                let mut response = numbered(execution);
                response.extensions_mut().insert(Named("named"));
                response.extensions_mut().insert(Unnamed("unnamed"));
                response
            });
            let flights = Flights::default();
            let layer = CoalesceLayer::with_policy(policy).observer(flights.clone());
            // They do not go over the wire; headers do.
            let service = layer.layer(service).map_response(|mut response: Response<_>| {
                let named = response.extensions().get::<Named>().map(|named| named.0);
                let unnamed = response.extensions().get::<Unnamed>().map(|unnamed| unnamed.0);
                for (name, value) in [("x-named", named), ("x-unnamed", unnamed)] {
                    if let Some(value) = value {
                        response.headers_mut().insert(name, HeaderValue::from_static(value));
                    }
                }
                response
            });
            let server = Server::start(service).await;
            let site = Site { origin, flights, server };
            let asked = site.place_many(3, &get("/")).await;
            site.origin.gate.open();
            let answers = answers(asked).await;
            assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 2 });
            assert_eq!(answers[0].header("x-named"), Some("named"));
            assert_eq!(answers[0].header("x-unnamed"), Some("unnamed"));
            for follower in &answers[1..] {
                assert_eq!(follower.coalesced, Coalesced::Joined);
                assert_eq!(follower.header("x-named"), of_follower);
                assert_eq!(follower.header("x-unnamed"), None);
            }
        }
    });
}

/// Not even one that took an execution over gets the extensions of it that are not shared.
#[test]
fn who_takes_an_execution_over_gets_the_extensions_of_a_follower() {
    on_tokio(|| async {
        let origin = Origin::default();
        let service = origin.answering(|execution: Execution| {
            let mut response = numbered(execution);
            response.extensions_mut().insert(Unnamed("unnamed"));
            response
        });
        let flights = Flights::default();
        let service = CoalesceLayer::new().observer(flights.clone()).layer(service).map_response(
            |mut response: Response<_>| {
                if response.extensions().get::<Unnamed>().is_some() {
                    response
                        .headers_mut()
                        .insert("x-unnamed", HeaderValue::from_static("it is there"));
                }
                response
            },
        );
        let server = Server::start(service).await;
        let site = Site { origin, flights, server };
        let leader = site.place(&site.http1(), get("/")).await;
        let followers = site.place_many(3, &get("/")).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        site.origin.gate.open();
        for answer in answers(followers).await {
            assert_eq!((answer.number(), answer.header("x-unnamed")), (1, None));
        }
    });
}
