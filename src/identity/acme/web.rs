//! HTTP-01 (RFC 8555 8.3): where the authority's port 80 arrives. Bound from the start, while the privilege for that lasts; it knows
//! one kind of page, and only while a challenge is pending.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{AcmeError, Challenges};

/// Connections at one time; more wait in the backlog. Anybody may come here, so each is short.
const CONNECTIONS: usize = 32;
/// For a whole connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Octets of a request's head.
const HEAD_LIMIT: usize = 8 * 1024;
/// Header fields of a request.
const FIELD_LIMIT: usize = 32;
/// After a failed accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// Binds every address.
///
/// # Errors
/// The address at fault.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, AcmeError> {
    let open = |&address: &SocketAddr| {
        let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        bound.map_err(|source| AcmeError::Bind { address, source })
    };
    addresses.iter().map(open).collect()
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, challenges: Arc<Challenges>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listener for HTTP-01 cannot be served"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        // What has ended is forgotten before more is begun, so that there are never more than permits.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let challenges = Arc::clone(&challenges);
                connections.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = converse(stream, &challenges).await {
                        tracing::debug!(%error, "http-01: a connection failed");
                    }
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn converse(stream: TcpStream, challenges: &Challenges) -> io::Result<()> {
    let answering = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), challenges);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(FIELD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering);
    timeout(PATIENCE, connection).await?.map_err(io::Error::other)
}

fn answer(method: &Method, path: &str, challenges: &Challenges) -> Response<Full<Bytes>> {
    let token = path.strip_prefix(WELL_KNOWN).filter(|_| method == Method::GET);
    let found = token.and_then(|token| challenges.key_authorization(token));
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(Full::from(found.unwrap_or_default()));
    *response.status_mut() = status;
    // RFC 8555 8.3 leaves the type open; no browser is to make anything of it.
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn said(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn rfc8555_8_3_a_pending_token_is_served_and_everything_else_is_not_found() {
        let listener = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let challenges = Arc::new(Challenges::default());
        let serving = tokio::spawn(serve(listener, Arc::clone(&challenges)));
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: dns.example\r\n\r\n");
        let page = format!("{WELL_KNOWN}some-token");
        assert!(said(address, &get(&page)).await.starts_with("HTTP/1.1 404"));
        let pending = challenges.raise_http("some-token", "some-token.thumb");
        let answer = said(address, &get(&page)).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nsome-token.thumb"), "{answer}");
        for path in ["/", "/dns-query", WELL_KNOWN, "/.well-known/acme-challenge/../x", "/some-token"] {
            assert!(said(address, &get(path)).await.starts_with("HTTP/1.1 404"), "{path}");
        }
        assert!(said(address, &get(&page).replace("GET", "POST")).await.starts_with("HTTP/1.1 404"));
        drop(pending);
        assert!(said(address, &get(&page)).await.starts_with("HTTP/1.1 404"));
        serving.abort();
    }
}
