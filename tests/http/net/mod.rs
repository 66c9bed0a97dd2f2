//! HTTP over real sockets: the server, the origin behind the layer, and the clients.

mod client;
mod origin;
mod prepared;
mod server;
mod site;

pub(crate) use self::{
    client::{Answer, Ask, Asked, Client, Opened, answers, get, numbers},
    origin::{Count, Execution, Origin, numbered, numbered_with},
    prepared::{Piecewise, Prepared, piecewise},
    server::Server,
    site::{Flights, Site},
};
