//! The plan of a load: which way its clients ask, how many there are, and for how many reports.

use std::net::SocketAddr;

use anyhow::ensure;
use axum::http::Uri;
use serde::{Deserialize, Serialize};

use crate::orders::{BUSINESSES, REGIONS};

/// The ways to ask for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Without the layer.
    Plain,
    /// With the layer.
    Shared,
    /// With the layer, and every response sets a cookie.
    Session,
    /// With a cache.
    Cached,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Shared, Self::Session, Self::Cached];

    /// What its paths begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "/plain",
            Self::Shared => "",
            Self::Session => "/session",
            Self::Cached => "/cached",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub way: Way,
    pub clients: usize,
    /// The number of different reports that the clients ask for.
    pub reports: usize,
}

/// Each client takes two file descriptors, because the server is in the same process.
pub const CLIENTS: usize = 400;
pub const REPORTS: usize = REGIONS.len() * BUSINESSES as usize;

impl Plan {
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=CLIENTS).contains(&self.clients), "there can be 1 to {CLIENTS} clients");
        ensure!((1..=REPORTS).contains(&self.reports), "there can be 1 to {REPORTS} reports");
        Ok(())
    }

    /// The URIs of its reports at the server at `address`: all regions of one business, then of the next.
    pub fn uris(&self, address: SocketAddr) -> Vec<Uri> {
        let uri = |report| {
            let (business, region) = (report / REGIONS.len(), REGIONS[report % REGIONS.len()]);
            let prefix = self.way.prefix();
            let uri = format!("http://{address}{prefix}/report/{region}?business={business}");
            uri.parse().expect("a region needs no escaping")
        };
        (0..self.reports).map(uri).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::Ipv4Addr};

    use super::*;

    #[test]
    fn all_reports_are_different() {
        let plan = Plan { way: Way::Plain, clients: 1, reports: REPORTS };
        plan.check().unwrap();
        let uris = plan.uris((Ipv4Addr::LOCALHOST, 3_000).into());
        assert_eq!(uris[5], "http://127.0.0.1:3000/plain/report/eu-north?business=1");
        assert_eq!(uris.iter().collect::<HashSet<_>>().len(), REPORTS);
        assert!(Plan { reports: REPORTS + 1, ..plan.clone() }.check().is_err());
        assert!(Plan { clients: 0, ..plan }.check().is_err());
    }
}
