//! A small certificate authority that speaks RFC 8555: it checks every signature and nonce, and goes to look at what it was promised.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Where it looks for what it was promised.
#[derive(Clone, Debug)]
pub enum Sight {
    /// By TLS-ALPN-01 at this door.
    Door(SocketAddr),
    /// By HTTP-01 at this address.
    Page(SocketAddr),
    /// By DNS-01: the zone is this file of lines `NAME VALUE`.
    Zone(PathBuf),
}

/// The authority. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    pub address: SocketAddr,
    /// What to trust it and its certificates by, PEM.
    pub pem: String,
    /// Orders it will still take; others wait.
    pub orders: Arc<Semaphore>,
    sight: Arc<watch::Sender<Option<Sight>>>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    nonces: HashSet<String>,
    /// Public keys by account.
    accounts: Vec<Value>,
    orders: Vec<Order>,
    /// Answers 429 to orders with this Retry-After.
    refuse: Option<u64>,
    /// Orders asked for, refused ones too.
    asked: usize,
    /// Renewal windows by certificate, in seconds from now; later ones are far away.
    windows: Vec<i64>,
}

#[derive(Default)]
struct Order {
    names: Vec<String>,
    tokens: Vec<String>,
    valid: Vec<Option<bool>>,
    chain: Option<String>,
    pub replaces: Option<Value>,
}

/// What was asked, checked.
struct Asked {
    account: Option<usize>,
    key: Option<Value>,
    payload: Value,
}

type Answer = (u16, Vec<(&'static str, String)>, String);

impl Authority {
    pub async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.into()], PrivateKeyDer::try_from(own.serialize_der()).unwrap())
                .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Inner {
            issuer,
            nonces: HashSet::new(),
            accounts: Vec::new(),
            orders: Vec::new(),
            refuse: None,
            asked: 0,
            windows: Vec::new(),
        };
        let authority = Self {
            address: listener.local_addr().unwrap(),
            pem: certificate.pem(),
            orders: Arc::new(Semaphore::new(1000)),
            sight: Arc::new(watch::channel(None).0),
            inner: Arc::new(Mutex::new(inner)),
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let serving = authority.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, authority) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(|request| authority.serve(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        authority
    }

    /// The `[acme]` section of a gateway that orders here; `ca.pem` must stand beside its file.
    pub fn section(&self, domains: &[&str], more: &str) -> String {
        format!(
            "[acme]\ndomains = {domains:?}\ndirectory = \"{}\"\naccept_terms = true\nca = \"ca.pem\"\n{more}\n",
            self.url("/dir")
        )
    }

    /// Lets it look: until then validations wait.
    pub fn look(&self, sight: Sight) {
        self.sight.send_replace(Some(sight));
    }

    pub fn refuse(&self, retry_after: Option<u64>) {
        self.inner.lock().unwrap().refuse = retry_after;
    }

    /// The first certificate's renewal window ends `seconds` from now.
    pub fn renew_in(&self, seconds: i64) {
        self.inner.lock().unwrap().windows.push(seconds);
    }

    pub fn asked(&self) -> usize {
        self.inner.lock().unwrap().asked
    }

    pub fn accounts(&self) -> usize {
        self.inner.lock().unwrap().accounts.len()
    }

    /// Did the order with this number replace a certificate?
    pub fn replaced(&self, order: usize) -> bool {
        self.inner.lock().unwrap().orders[order].replaces.is_some()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
        let path = request.uri().path().to_owned();
        let (status, fields, body) = match request.method().as_str() {
            "GET" => self.get(&path),
            "HEAD" => (200, Vec::new(), String::new()),
            _ => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let asked = self.check(&path, &body);
                self.post(&path, asked).await
            }
        };
        let nonce = BASE64.encode(rand::random::<[u8; 16]>());
        self.inner.lock().unwrap().nonces.insert(nonce.clone());
        let mut response = Response::builder().status(status).header("replay-nonce", nonce);
        for (name, value) in fields {
            response = response.header(name, value);
        }
        Ok(response.body(Full::from(body)).unwrap())
    }

    fn get(&self, path: &str) -> Answer {
        if path == "/dir" {
            let directory = json!({
                "newNonce": self.url("/nonce"), "newAccount": self.url("/account"), "newOrder": self.url("/order"),
                "renewalInfo": self.url("/ari"),
            });
            return (200, Vec::new(), directory.to_string());
        }
        assert!(path.starts_with("/ari/"), "{path}");
        let mut inner = self.inner.lock().unwrap();
        let offset = if inner.windows.is_empty() { 1_000_000 } else { inner.windows.remove(0) };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let at = |unix: i64| {
            let at = time::OffsetDateTime::from_unix_timestamp(unix).unwrap();
            let (date, clock) = (at.date(), at.time());
            format!(
                "{}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                date.year(),
                u8::from(date.month()),
                date.day(),
                clock.hour(),
                clock.minute(),
                clock.second()
            )
        };
        let window = json!({ "suggestedWindow": { "start": at(now + offset - 10), "end": at(now + offset) } });
        (200, vec![("retry-after", "21600".to_owned())], window.to_string())
    }

    /// RFC 8555 6.2 to 6.5: signature, nonce, URL.
    fn check(&self, path: &str, body: &[u8]) -> Asked {
        let jws: Value = serde_json::from_slice(body).unwrap();
        let part = |name: &str| jws[name].as_str().unwrap().to_owned();
        let decoded = |text: &str| BASE64.decode(text).unwrap();
        let head: Value = serde_json::from_slice(&decoded(&part("protected"))).unwrap();
        let mut inner = self.inner.lock().unwrap();
        assert!(inner.nonces.remove(head["nonce"].as_str().unwrap()), "a nonce that was given out and not used");
        assert_eq!((head["alg"].as_str(), head["url"].as_str()), (Some("ES256"), Some(self.url(path).as_str())));
        let account = head["kid"].as_str().map(|kid| kid.rsplit('/').next().unwrap().parse::<usize>().unwrap());
        assert_eq!(account.is_none(), path == "/account", "a key for a new account, its id afterwards");
        let key = account.map_or_else(|| head["jwk"].clone(), |account| inner.accounts[account].clone());
        let point = [&[4][..], &decoded(key["x"].as_str().unwrap()), &decoded(key["y"].as_str().unwrap())].concat();
        let signed = format!("{}.{}", part("protected"), part("payload"));
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        verifier.verify(signed.as_bytes(), &decoded(&part("signature"))).expect("a good signature");
        let payload = decoded(&part("payload"));
        let payload = if payload.is_empty() { Value::Null } else { serde_json::from_slice(&payload).unwrap() };
        Asked { account, key: account.is_none().then_some(key), payload }
    }

    async fn post(&self, path: &str, asked: Asked) -> Answer {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let number = |at: usize| parts[at].parse::<usize>().unwrap();
        match (parts[0], parts.len()) {
            ("account", 1) => {
                assert_eq!(asked.payload["termsOfServiceAgreed"], true);
                let mut inner = self.inner.lock().unwrap();
                inner.accounts.push(asked.key.unwrap());
                let id = self.url(&format!("/account/{}", inner.accounts.len() - 1));
                (201, vec![("location", id)], json!({ "status": "valid" }).to_string())
            }
            ("order", 1) => self.new_order(&asked.payload).await,
            ("order", 2) => (200, Vec::new(), self.order(number(1)).to_string()),
            ("authz", 3) => (200, Vec::new(), self.authorization(number(1), number(2)).to_string()),
            ("challenge", 3) => {
                let (order, name) = (number(1), number(2));
                let good = self.validate(order, name, asked.account.unwrap()).await;
                self.inner.lock().unwrap().orders[order].valid[name] = Some(good);
                (200, Vec::new(), self.challenge(order, name, "tls-alpn-01").to_string())
            }
            ("finalize", 2) => {
                self.sign(number(1), asked.payload["csr"].as_str().unwrap());
                (200, Vec::new(), self.order(number(1)).to_string())
            }
            ("cert", 2) => (200, Vec::new(), self.inner.lock().unwrap().orders[number(1)].chain.clone().unwrap()),
            _ => panic!("{path}"),
        }
    }

    async fn new_order(&self, payload: &Value) -> Answer {
        self.inner.lock().unwrap().asked += 1;
        self.orders.acquire().await.unwrap().forget();
        let number = {
            let mut inner = self.inner.lock().unwrap();
            if let Some(seconds) = inner.refuse {
                let problem = json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many" });
                return (429, vec![("retry-after", seconds.to_string())], problem.to_string());
            }
            let names: Vec<String> = payload["identifiers"].as_array().unwrap().iter().map(name_of).collect();
            let tokens = names.iter().map(|_| BASE64.encode(rand::random::<[u8; 16]>())).collect();
            let valid = vec![None; names.len()];
            let replaces = payload.get("replaces").cloned();
            inner.orders.push(Order { names, tokens, valid, chain: None, replaces });
            inner.orders.len() - 1
        };
        (201, vec![("location", self.url(&format!("/order/{number}")))], self.order(number).to_string())
    }

    fn order(&self, number: usize) -> Value {
        let inner = self.inner.lock().unwrap();
        let order = &inner.orders[number];
        let status = match () {
            () if order.chain.is_some() => "valid",
            () if order.valid.iter().all(|valid| *valid == Some(true)) => "ready",
            () if order.valid.contains(&Some(false)) => "invalid",
            () => "pending",
        };
        let authorizations: Vec<_> =
            (0..order.names.len()).map(|name| self.url(&format!("/authz/{number}/{name}"))).collect();
        let mut told = json!({
            "status": status, "authorizations": authorizations, "finalize": self.url(&format!("/finalize/{number}")),
            "certificate": self.url(&format!("/cert/{number}")),
        });
        if let Some(replaces) = &order.replaces {
            told["replaces"] = replaces.clone();
        }
        told
    }

    fn authorization(&self, order: usize, name: usize) -> Value {
        let challenges = ["tls-alpn-01", "http-01", "dns-01"].map(|kind| self.challenge(order, name, kind));
        let inner = self.inner.lock().unwrap();
        let status = match inner.orders[order].valid[name] {
            None => "pending",
            Some(true) => "valid",
            Some(false) => "invalid",
        };
        let full = &inner.orders[order].names[name];
        let identifier = json!({ "type": "dns", "value": full.trim_start_matches("*.") });
        json!({ "identifier": identifier, "status": status, "wildcard": full.starts_with("*."), "challenges": challenges })
    }

    fn challenge(&self, order: usize, name: usize, kind: &str) -> Value {
        let inner = self.inner.lock().unwrap();
        let token = &inner.orders[order].tokens[name];
        let mut told = json!({ "type": kind, "url": self.url(&format!("/challenge/{order}/{name}")), "token": token, "status": "pending" });
        if inner.orders[order].valid[name] == Some(false) {
            told["status"] = "invalid".into();
            told["error"] =
                json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": "nothing to be seen" });
        }
        told
    }

    async fn validate(&self, order: usize, name: usize, account: usize) -> bool {
        let sight = self.sight.subscribe().wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let (name, token, key) = {
            let inner = self.inner.lock().unwrap();
            let order = &inner.orders[order];
            (order.names[name].clone(), order.tokens[name].clone(), inner.accounts[account].clone())
        };
        // RFC 7638: the members in the order of their names.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
        let authorization = format!("{token}.{}", BASE64.encode(digest(&SHA256, canonical.as_bytes())));
        let proof = digest(&SHA256, authorization.as_bytes());
        match sight {
            Sight::Door(door) => shows(door, &name, proof.as_ref()).await.unwrap_or(false),
            Sight::Page(address) => page(address, &name, &token).await == Some(authorization),
            Sight::Zone(zone) => {
                let line = format!("_acme-challenge.{} {}", name.trim_start_matches("*."), BASE64.encode(proof));
                std::fs::read_to_string(zone).unwrap_or_default().lines().any(|one| one == line)
            }
        }
    }

    fn sign(&self, number: usize, request: &str) {
        let mut inner = self.inner.lock().unwrap();
        let request = BASE64.decode(request).unwrap();
        let mut request = CertificateSigningRequestParams::from_der(&request.as_slice().into()).unwrap();
        let now = SystemTime::now();
        request.params.not_before = (now - Duration::from_hours(1)).into();
        request.params.not_after = (now + Duration::from_hours(24 * 90)).into();
        request.params.use_authority_key_identifier_extension = true;
        request.params.serial_number = Some(rand::random::<u64>().into());
        let chain = request.signed_by(&inner.issuer).unwrap().pem();
        inner.orders[number].chain = Some(chain);
    }
}

fn name_of(identifier: &Value) -> String {
    assert_eq!(identifier["type"], "dns");
    identifier["value"].as_str().unwrap().to_owned()
}

/// RFC 8737 3: one name, and the digest in a critical extension; the connection ends with the handshake.
async fn shows(door: SocketAddr, name: &str, proof: &[u8]) -> std::io::Result<bool> {
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(credulous(&[b"acme-tls/1"])));
    let mut stream = connector.connect(server, TcpStream::connect(door).await?).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    assert!(rest.is_empty());
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let (_, certificate) = x509_parser::parse_x509_certificate(&shown).unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    let named = matches!(&names[..], [x509_parser::extensions::GeneralName::DNSName(one)] if *one == name);
    let digest = certificate.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    Ok(named && digest.is_some_and(|one| one.critical && one.value == [&[4, 32], proof].concat()))
}

/// RFC 8555 8.3.
async fn page(address: SocketAddr, name: &str, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// TLS that takes whatever certificate it is shown.
pub fn credulous(alpn: &[&[u8]]) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous)).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
