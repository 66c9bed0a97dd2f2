//! Clients: requests in tasks of their own, and the answers to them.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo},
};
use shardflight::tower::Coalesced;
use tokio::{net::TcpStream, task::JoinHandle};
use tower::{BoxError, Service};

use super::{Count, Server, server::Ledger};

/// A client with connections of its own.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: legacy::Client<Connector, Body>,
    ledger: Ledger,
    pub(crate) connections: Count,
}

/// Connects to one server, whatever the authority of a request is.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    address: SocketAddr,
    connections: Count,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, connections) = (self.address, self.connections.clone());
        Box::pin(async move {
            connections.add();
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

impl Client {
    /// Keeps its connections alive between requests.
    pub(crate) fn http1(server: &Server) -> Self {
        Self::new(server, Version::HTTP_11)
    }

    /// Sends everything over one connection.
    pub(crate) fn http2(server: &Server) -> Self {
        Self::new(server, Version::HTTP_2)
    }

    fn new(server: &Server, version: Version) -> Self {
        let connections = Count::default();
        let connector = Connector { address: server.address, connections: connections.clone() };
        let http = legacy::Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .build(connector);
        Self { http, ledger: server.ledger.clone(), connections }
    }

    /// In a task of its own.
    pub(crate) fn send(&self, ask: Ask) -> Asked {
        let this = self.clone();
        Asked(tokio::spawn(async move { this.open(ask).await?.whole().await }))
    }

    /// Until the headers of the response are there.
    pub(crate) async fn open(&self, ask: Ask) -> Result<Opened, BoxError> {
        Ok(Opened::new(self.http.request(ask.into()).await?, &self.ledger))
    }
}

/// A request under way. To drop it changes nothing.
#[derive(Debug)]
pub(crate) struct Asked(JoinHandle<Result<Answer, BoxError>>);

impl Asked {
    /// Sends the request as it stands, over a connection of its own.
    pub(crate) async fn exactly(server: &Server, request: Request<Body>) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connected");
        let (mut sender, connection) =
            conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let ledger = server.ledger.clone();
        Self(tokio::spawn(async move {
            Opened::new(sender.send_request(request).await?, &ledger).whole().await
        }))
    }

    pub(crate) async fn end(self) -> Result<Answer, BoxError> {
        self.0.await.expect("the client does not panic")
    }

    pub(crate) async fn answer(self) -> Answer {
        self.end().await.expect("an answer")
    }

    /// The connection, or this stream of it, ends without a whole response.
    pub(crate) async fn breaks(self) {
        let answer = self.end().await;
        assert!(answer.is_err(), "it was to break: {answer:?}");
    }

    /// As below, if it has not its answer yet.
    pub(crate) fn let_go(self) {
        self.0.abort();
    }

    /// The client goes: HTTP/1.1 closes the connection, HTTP/2 resets the stream.
    pub(crate) async fn leave(self) {
        self.0.abort();
        assert!(self.0.await.is_err_and(|error| error.is_cancelled()), "it had an answer already");
    }
}

/// The answers to all of these.
pub(crate) async fn answers(asked: impl IntoIterator<Item = Asked>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.answer().await);
    }
    answers
}

/// A response whose body is still to come.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) coalesced: Coalesced,
    pub(crate) body: Incoming,
}

impl Opened {
    fn new(response: Response<Incoming>, ledger: &Ledger) -> Self {
        let coalesced = ledger.of(response.headers());
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, coalesced, body }
    }

    pub(crate) async fn whole(self) -> Result<Answer, BoxError> {
        let collected = self.body.collect().await?;
        let trailers = collected.trailers().cloned();
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            coalesced: self.coalesced,
            body: collected.to_bytes(),
            trailers,
        })
    }

    /// What arrives of a body that breaks off, and how it does.
    pub(crate) async fn until_it_breaks(mut self) -> (Bytes, hyper::Error) {
        let mut begun = BytesMut::new();
        loop {
            match self.body.frame().await.expect("it does not end as if it were whole") {
                Ok(frame) => begun.extend_from_slice(&frame.into_data().expect("no trailers")),
                Err(error) => return (begun.freeze(), error),
            }
        }
    }

    /// The next piece of the body, as text.
    pub(crate) async fn piece(&mut self) -> String {
        let frame = self.body.frame().await.expect("there is more").expect("it does not break");
        String::from_utf8(frame.into_data().expect("no trailers").to_vec()).expect("text")
    }
}

/// A response as a client got it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) coalesced: Coalesced,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("text")
    }

    /// Of the execution that the body is from.
    pub(crate) fn number(&self) -> usize {
        self.text().parse().unwrap_or_else(|_| panic!("not numbered: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// How many of them had each number.
pub(crate) fn numbers(answers: &[Answer]) -> Vec<usize> {
    let mut numbers: Vec<_> = answers.iter().map(Answer::number).collect();
    numbers.sort_unstable();
    numbers
}

/// A request that can be sent several times.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: Method,
    authority: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<&'static str>,
    /// Nothing says how long the body is.
    is_chunked: bool,
}

pub(crate) fn get(target: &str) -> Ask {
    Ask {
        method: Method::GET,
        authority: "origin.test",
        target: target.to_owned(),
        headers: Vec::new(),
        body: None,
        is_chunked: false,
    }
}

impl Ask {
    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// At this host.
    pub(crate) fn at(mut self, authority: &'static str) -> Self {
        self.authority = authority;
        self
    }

    /// With this header, beside those that it has.
    pub(crate) fn with(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.headers.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &'static str) -> Self {
        self.body = Some(body);
        self
    }

    /// Without its length. Over HTTP/1.1 no client sends such a body with GET unless a header says so.
    pub(crate) fn chunked(mut self) -> Self {
        self.is_chunked = true;
        self
    }
}

impl From<Ask> for Request<Body> {
    fn from(ask: Ask) -> Self {
        let uri = format!("http://{}{}", ask.authority, ask.target);
        let mut request = Request::builder().method(ask.method).uri(uri);
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let body = match ask.body {
            Some(body) if ask.is_chunked => {
                Body::from_stream(stream::once(async move { Ok::<_, Infallible>(body) }))
            }
            Some(body) => Body::from(body),
            None => Body::empty(),
        };
        request.body(body).expect("a request")
    }
}
