//! HTTP/2 without TLS, known beforehand.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use super::Answer;
use crate::workloads::Workload;

/// One stream after another, on a connection with others beside it.
pub(crate) struct Stream {
    connection: SendRequest<Bytes>,
    uri: String,
}

impl Stream {
    /// A connection for so many at a time.
    pub(super) async fn open(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Self>> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (connection, drive) = h2::client::handshake(socket).await?;
        // Until the server is gone.
        tokio::spawn(drive);
        let stream = |_| Self { connection: connection.clone(), uri: String::new() };
        Ok((0..count).map(stream).collect())
    }

    pub(super) async fn get(&mut self, workload: &Workload, number: u64) -> anyhow::Result<Answer> {
        self.uri.clear();
        self.uri.push_str("http://localhost");
        workload.write_path(number, &mut self.uri);
        let mut request = Request::get(&self.uri).body(())?;
        *request.headers_mut() = workload.header_map();
        // A stream of the connection may have to end first.
        self.connection = self.connection.clone().ready().await?;
        let (response, _) = self.connection.send_request(request, true)?;
        let (head, mut chunks) = response.await?.into_parts();
        let mut body = 0;
        while let Some(chunk) = chunks.data().await {
            let chunk = chunk?;
            body += chunk.len();
            chunks.flow_control().release_capacity(chunk.len())?;
        }
        Ok(Answer { status: head.status, body })
    }
}
