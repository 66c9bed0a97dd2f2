//! Clients that do as little as possible: were they slower than the server, it would be them that is
//! measured.

mod http1;
mod http2;

use std::net::SocketAddr;

use anyhow::ensure;
use http::StatusCode;

pub(crate) use self::http1::write_request;
use crate::workloads::Workload;

#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, 64 connections",
            Self::Http2 => "HTTP/2, 4 connections with 16 streams each",
        }
    }
}

/// Has one request on its way at a time.
pub(crate) enum Client {
    Http1(http1::Connection),
    Http2(http2::Stream),
}

impl Client {
    /// As many as the protocol's name says.
    pub(crate) async fn connect(
        protocol: Protocol,
        address: SocketAddr,
    ) -> anyhow::Result<Vec<Self>> {
        let mut clients = Vec::new();
        match protocol {
            Protocol::Http1 => {
                for _ in 0..64 {
                    clients.push(Self::Http1(http1::Connection::open(address).await?));
                }
            }
            Protocol::Http2 => {
                for _ in 0..4 {
                    let streams = http2::Stream::open(address, 16).await?;
                    clients.extend(streams.into_iter().map(Self::Http2));
                }
            }
        }
        Ok(clients)
    }

    /// Asks for the path of this number, and waits for the end of the answer.
    pub(crate) async fn get(&mut self, workload: &Workload, number: u64) -> anyhow::Result<()> {
        let answer = match self {
            Self::Http1(connection) => connection.get(workload, number).await?,
            Self::Http2(stream) => stream.get(workload, number).await?,
        };
        ensure!(answer.status == StatusCode::OK, "answered with {}", answer.status);
        ensure!(answer.body > 0, "answered with nothing");
        Ok(())
    }
}

struct Answer {
    status: StatusCode,
    /// Bytes of it.
    body: usize,
}
