//! HTTP/1.1, of which it knows what the bench's server sends: a length, and no chunks.

use std::{fmt::Write, net::SocketAddr};

use anyhow::{Context, ensure};
use bytes::BytesMut;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Answer;
use crate::workloads::Workload;

pub(crate) struct Connection {
    socket: TcpStream,
    request: String,
    received: BytesMut,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, request: String::new(), received: BytesMut::with_capacity(16 << 10) })
    }

    pub(super) async fn get(&mut self, workload: &Workload, number: u64) -> anyhow::Result<Answer> {
        self.request.clear();
        write_request(&mut self.request, workload, number);
        self.socket.write_all(self.request.as_bytes()).await?;
        loop {
            ensure!(self.socket.read_buf(&mut self.received).await? > 0, "the server hung up");
            if let Some((head, answer)) = parse(&self.received)? {
                ensure!(self.received.len() <= head + answer.body, "it says more than was asked");
                if self.received.len() == head + answer.body {
                    self.received.clear();
                    return Ok(answer);
                }
            }
        }
    }
}

/// The whole of it, as it goes over the wire.
pub(crate) fn write_request(to: &mut String, workload: &Workload, number: u64) {
    to.push_str("GET ");
    workload.write_path(number, to);
    to.push_str(" HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in workload.headers() {
        write!(to, "{name}: {value}\r\n").expect("it is written to memory");
    }
    to.push_str("\r\n");
}

/// The size of the head and what it says, once it is all there.
fn parse(received: &[u8]) -> anyhow::Result<Option<(usize, Answer)>> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(received)? else {
        return Ok(None);
    };
    let length = response.headers.iter().find(|header| header.name == "content-length");
    let length = length.context("an answer without a length")?;
    let body = str::from_utf8(length.value)?.parse()?;
    let status = StatusCode::from_u16(response.code.context("an answer without a status")?)?;
    Ok(Some((head, Answer { status, body })))
}
