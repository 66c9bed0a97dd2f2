//! A socket for many clients that come at once.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use axum::serve::{ListenerExt, TapIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How many may wait to be accepted. Further ones try again a second later.
const BACKLOG: u32 = 1_024;

pub type Listener = TapIo<TcpListener, fn(&mut TcpStream)>;

/// Port 0 is any that is free.
pub fn listen(host: IpAddr, port: u16) -> anyhow::Result<(Listener, SocketAddr)> {
    let bind = || {
        let socket = if host.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A server that has just ended leaves connections behind, which are no reason to wait.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind((host, port).into())?;
        socket.listen(BACKLOG)
    };
    let listener = bind()
        .with_context(|| format!("cannot listen on {host} port {port}; --port chooses another"))?;
    let address = listener.local_addr()?;
    Ok((listener.tap_io(be_prompt), address))
}

/// A connection on which that fails is slower.
fn be_prompt(connection: &mut TcpStream) {
    let _ = connection.set_nodelay(true);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_port_is_free_or_said_to_be_taken() {
        let host = Ipv4Addr::LOCALHOST.into();
        let (_listener, address) = listen(host, 0).unwrap();
        let Err(taken) = listen(host, address.port()) else { panic!("a port that is taken") };
        let said = format!("cannot listen on 127.0.0.1 port {}", address.port());
        assert!(taken.to_string().starts_with(&said), "{taken}");
    }
}
