//! Unary calls of gRPC, by clients and a server of tonic.

use std::convert::Infallible;

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderName, Method, Request, Response, uri::PathAndQuery};
use shardflight::tower::{CoalesceLayer, HeaderRule, Policy};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Code, Status,
    body::Body,
    client,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{self, NamedService},
    transport::{Channel, Server, server::TcpIncoming},
};
use tower::{Service, service_fn};

use crate::{
    common::on_tokio,
    net::{Flights, Origin},
};

/// Messages are their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Answers a call with its message and the number of the execution, and the messages `absent` and `broken` with
/// statuses that have that number.
#[derive(Debug, Clone)]
struct Numbering(Origin);

impl NamedService for Numbering {
    const NAME: &'static str = "test.Numbering";
}

impl Service<Request<Body>> for Numbering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let origin = self.0.clone();
        let unary = service_fn(move |call: tonic::Request<Bytes>| {
            let origin = origin.clone();
            async move {
                let (number, _running) = origin.begin();
                origin.gate.pass(number).await;
                match &*call.into_inner() {
                    b"absent" => Err(Status::not_found(number.to_string())),
                    b"broken" => Err(Status::unavailable(number.to_string())),
                    message => {
                        let text = format!("{} by {number}", String::from_utf8_lossy(message));
                        Ok(tonic::Response::new(Bytes::from(text)))
                    }
                }
            }
        });
        Box::pin(async move { Ok(server::Grpc::new(Plain).unary(unary, request).await) })
    }
}

struct Site {
    origin: Origin,
    flights: Flights,
    channel: Channel,
}

type Called = JoinHandle<Result<String, Status>>;

impl Site {
    /// What the docs of the layer say of gRPC.
    fn policy() -> Policy {
        Policy::new()
            .method(Method::POST)
            .requests(|request| request.uri.path() == "/test.Numbering/Unary")
            .header(HeaderName::from_static("grpc-timeout"), HeaderRule::Ignore)
            .streams(true)
    }

    async fn new(policy: Policy) -> Self {
        let (origin, flights) = (Origin::default(), Flights::default());
        let layer = CoalesceLayer::with_policy(policy).request_bodies(Body::new);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = Server::builder().layer(layer.observer(flights.clone()));
        let server = { server }.add_service(Numbering(origin.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = channel.connect().await.expect("connected");
        Self { origin, flights, channel }
    }

    /// Returns when the call has either begun an execution or joined one.
    async fn call(&self, message: &'static str, change: fn(&mut tonic::Request<Bytes>)) -> Called {
        let (begun, joined) = (self.origin.begun.get(), self.flights.joined.get());
        let mut client = client::Grpc::new(self.channel.clone());
        let called = tokio::spawn(async move {
            client.ready().await.expect("connected");
            let mut call = tonic::Request::new(Bytes::from(message));
            change(&mut call);
            let path = PathAndQuery::from_static("/test.Numbering/Unary");
            let answer = client.unary(call, path, Plain).await?;
            Ok(String::from_utf8(answer.into_inner().to_vec()).expect("text"))
        });
        tokio::select! {
            () = self.origin.begun.reaches(begun + 1) => {}
            () = self.flights.joined.reaches(joined + 1) => {}
        }
        called
    }

    async fn call_three(&self, messages: [&'static str; 3]) -> Vec<Result<String, Status>> {
        let mut called = Vec::new();
        for message in messages {
            called.push(self.call(message, |_| {}).await);
        }
        self.origin.gate.open();
        let mut answers = Vec::new();
        for called in called {
            answers.push(called.await.expect("no panic"));
        }
        answers
    }
}

fn texts(answers: Vec<Result<String, Status>>) -> Vec<String> {
    answers.into_iter().map(|answer| answer.expect("a message")).collect()
}

#[test]
fn unary_calls_with_the_same_message_share() {
    on_tokio(|| async {
        let site = Site::new(Site::policy()).await;
        assert_eq!(texts(site.call_three(["a", "a", "a"]).await), ["a by 1"; 3]);
        let site = Site::new(Site::policy()).await;
        let answers = site.call_three(["a", "b", "a"]).await;
        assert_eq!(texts(answers), ["a by 1", "b by 2", "a by 1"]);
    });
}

/// What a call says in its status, the code and the message.
fn statuses(answers: Vec<Result<String, Status>>) -> Vec<(Code, String)> {
    let statuses = answers.into_iter().map(|answer| answer.expect_err("it fails"));
    let mut statuses: Vec<_> =
        statuses.map(|status| (status.code(), status.message().to_owned())).collect();
    statuses.sort_by(|a, b| a.1.cmp(&b.1));
    statuses
}

/// A status that is about the call is for that call.
#[test]
fn failed_calls_are_each_callers_own() {
    on_tokio(|| async {
        let site = Site::new(Site::policy()).await;
        let absent = statuses(site.call_three(["absent"; 3]).await);
        assert_eq!(absent, ["1", "2", "3"].map(|number| (Code::NotFound, number.to_owned())));
    });
}

/// One that may be over soon is a failure: the followers share one retry.
#[test]
fn calls_of_a_service_that_is_unavailable_share_one_retry() {
    on_tokio(|| async {
        let site = Site::new(Site::policy()).await;
        let broken = statuses(site.call_three(["broken"; 3]).await);
        let broken: [_; 3] = broken.try_into().expect("three");
        assert!(broken.iter().all(|(code, _)| *code == Code::Unavailable), "{broken:?}");
        assert_eq!(site.origin.begun.get(), 2);
        // The third has a status from the layer.
        let refusal = "the request that this one shared an execution with failed";
        assert_eq!(broken.map(|(_, message)| message), ["1", "2", refusal]);
    });
}

/// Deadlines do not keep calls apart, and other metadata does.
#[test]
fn calls_with_other_metadata_are_apart() {
    on_tokio(|| async {
        let site = Site::new(Site::policy()).await;
        let called = [
            site.call("a", |_| {}).await,
            site.call("a", |call| call.set_timeout(std::time::Duration::from_secs(60))).await,
            site.call("a", |call| {
                drop(
                    call.metadata_mut()
                        .insert("x-user", tonic::metadata::MetadataValue::from_static("1")),
                )
            })
            .await,
            site.call("a", |call| {
                drop(
                    call.metadata_mut()
                        .insert("authorization", tonic::metadata::MetadataValue::from_static("1")),
                )
            })
            .await,
        ];
        site.origin.gate.open();
        let mut answers = Vec::new();
        for called in called {
            answers.push(called.await.expect("no panic"));
        }
        assert_eq!(texts(answers), ["a by 1", "a by 1", "a by 2", "a by 3"]);
    });
}

/// Where the policy says nothing of `POST`, no call shares.
#[test]
fn calls_do_not_share_by_default() {
    on_tokio(|| async {
        let site = Site::new(Policy::new().streams(true)).await;
        let mut answers = texts(site.call_three(["a", "a", "a"]).await);
        answers.sort_unstable();
        assert_eq!(answers, ["a by 1", "a by 2", "a by 3"]);
    });
}
