//! HTTP over real sockets: the server, the origin behind the layer, and the clients.

mod client;
mod origin;
mod server;
mod site;

pub(crate) use self::{
    client::{Answer, Ask, Asked, Client, answers, get, numbers},
    origin::{Count, Execution, Origin, numbered, numbered_with},
    server::Server,
    site::{Flights, Site},
};
