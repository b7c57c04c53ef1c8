//! HTTPS toward the authority: one request a connection, every answer bounded in time and size.
//!
//! An order takes about a dozen requests every two months, so that a pool of connections would be more to go wrong than it saves.
//! Who finds the directory's address is given from outside: the system's resolver may be this very gateway.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, RETRY_AFTER};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::AcmeError;
use crate::identity::state_dir::read;

/// The addresses of a host at a port.
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds them.
pub type Find = Arc<dyn Fn(String, u16) -> Found + Send + Sync>;

/// From the look-up of the name to the last octet of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a connection to one address.
const CONNECT: Duration = Duration::from_secs(5);
/// Octets of an answer: a chain of certificates is a few KiB.
const LARGEST: usize = 1 << 20;

/// How the authority is spoken with. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    find: Find,
    /// What the last refusal asked us to wait, until it is taken.
    patience: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    /// A client that trusts the authorities in `ca`, or the system's.
    ///
    /// # Errors
    /// The file holds none, or the system gives none.
    pub fn new(ca: Option<&Path>, provider: &Arc<CryptoProvider>, find: Find) -> Result<Self, AcmeError> {
        let verifier: Arc<dyn ServerCertVerifier> = match ca {
            None => Arc::new(rustls_platform_verifier::Verifier::new(Arc::clone(provider))?),
            Some(file) => roots(file, provider)?,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), find, patience: Arc::default() })
    }

    /// What the authority asked us to wait (Retry-After of a refusal) since this was last asked.
    #[must_use]
    pub fn take_patience(&self) -> Option<Duration> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> io::Result<BytesResponse> {
        let (mut parts, body) = request.into_parts();
        let host = parts.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if parts.uri.scheme_str() != Some("https") || host.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no https URL", parts.uri)));
        }
        let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
        parts.headers.insert(HOST, HeaderValue::try_from(authority).map_err(io::Error::other)?);
        let port = parts.uri.port_u16().unwrap_or(443);
        // To the server itself only the path is said (RFC 9112 3.2.1).
        parts.uri = parts.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let stream = self.tls.connect(name, connect(&(self.find)(host, port).await?).await?).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let answering = async {
            let response = sender.send_request(Request::from_parts(parts, body)).await.map_err(io::Error::other)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST).collect().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(Response::from_parts(parts, body.to_bytes()))
        };
        tokio::pin!(answering);
        let response = tokio::select! {
            response = &mut answering => response?,
            // What has arrived before the end is still to be had.
            _ = connection => answering.await?,
        };
        let (parts, body) = response.into_parts();
        if parts.status.is_client_error() || parts.status.is_server_error() {
            let asked = parts.headers.get(RETRY_AFTER).and_then(seconds);
            *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        }
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let exchanging = timeout(PATIENCE, self.clone().exchange(request));
        Box::pin(async move {
            let outcome = exchanging.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            outcome.map_err(|error| Error::Other(format!("{host}: {error}").into()))
        })
    }
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn roots(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, AcmeError> {
    let unusable = || AcmeError::File(crate::identity::IdentityError::NoAuthority { file: file.into() });
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(file)?) {
        roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|_| unusable())
}

/// Retry-After in seconds; as a date, which authorities do not use with refusals, it is left to our own schedule.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
