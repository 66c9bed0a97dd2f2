//! The server behind the proxy.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, ensure};
use axum::{
    body::Body,
    http::{
        Request, Response, Uri, Version,
        uri::{Authority, PathAndQuery, Scheme},
    },
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// How long it may take to be there at all.
const CONNECT: Duration = Duration::from_secs(5);

/// Where it is: scheme, host and port, and no path.
#[derive(Clone, Debug)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
}

impl FromStr for Origin {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> anyhow::Result<Self> {
        let parts = url.parse::<Uri>()?.into_parts();
        let what = "it must be http://host:port or https://host:port";
        let (scheme, authority) = (parts.scheme.context(what)?, parts.authority.context(what)?);
        ensure!([Scheme::HTTP, Scheme::HTTPS].contains(&scheme), what);
        let path = parts.path_and_query.map_or("/".to_owned(), |path| path.to_string());
        // What a client puts before a path of ours, as in `/../`, could lead out of it.
        ensure!(path == "/", "{what}, without a path");
        ensure!(!authority.as_str().contains('@'), "{what}, without a name and a password");
        Ok(Self { scheme, authority })
    }
}

impl Origin {
    /// The same path and query there.
    fn uri(&self, uri: &Uri) -> Result<Uri, axum::http::Error> {
        let path = uri.path_and_query().cloned();
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
            .build()
    }
}

/// Connections to it.
#[derive(Clone)]
pub struct Upstream {
    origin: Origin,
    client: Client<HttpsConnector<HttpConnector>, Body>,
}

impl Upstream {
    pub fn new(origin: Origin) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("cannot read the certificates that this system trusts")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self { origin, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Asks it what was asked here. Bodies are streamed, both ways.
    pub async fn ask(&self, mut request: Request<Body>) -> anyhow::Result<Response<Body>> {
        *request.uri_mut() = self.origin.uri(request.uri())?;
        *request.version_mut() = Version::HTTP_11;
        Ok(self.client.request(request).await?.map(Body::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one() {
        for url in [
            "shop.example",
            "/",
            "ftp://shop.example",
            "http://shop.example/base",
            "http://shop.example/?query",
            "http://me:secret@shop.example",
            "",
        ] {
            assert!(url.parse::<Origin>().is_err(), "{url}");
        }
        for url in ["http://127.0.0.1:8000", "https://shop.example/", "http://[::1]:80"] {
            url.parse::<Origin>().unwrap();
        }
    }

    #[test]
    fn path_and_query_stay_byte_for_byte() {
        let origin: Origin = "https://shop.example:8443".parse().unwrap();
        let to = |uri: &'static str| origin.uri(&Uri::from_static(uri)).unwrap().to_string();
        assert_eq!(to("/a//b/../%2e?x=%20&y"), "https://shop.example:8443/a//b/../%2e?x=%20&y");
        assert_eq!(to("http://elsewhere/a"), "https://shop.example:8443/a");
    }
}
