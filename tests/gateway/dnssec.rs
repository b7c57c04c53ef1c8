//! DNSSEC through a forwarder (STANDARDS group SEC): CD, DO and AD, and who gets signatures.

use std::net::SocketAddr;
use std::sync::Arc;

use hushgate::peer::Transport;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;

use crate::harness::{Act, Answer, Ask, Rig, client, message};
use crate::over_all;

const AD: u16 = 0x20;
const CD: u16 = 0x10;
const RD: u16 = 0x0100;

/// A DNS over TLS upstream that answers everything by one rule.
struct Secure {
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Secure {
    async fn start(answer: impl Fn(&[u8]) -> Answer + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    while let Some(query) = client::read_framed(&mut stream).await {
                        client::send_framed(&mut stream, &answer(&query).to(&query)).await.ok();
                    }
                });
            }
        });
        Self { address, folder }
    }

    /// A gateway in front of it.
    async fn rig(&self) -> Rig {
        let (address, ca) = (self.address, self.folder.path().join("ca.pem"));
        let ca = ca.display();
        let server = format!("{{ url = \"tls://{address}\", tls_name = \"localhost\", ca = \"{ca}\" }}");
        Rig::set("", &[&format!("upstream.servers=[{server}]")]).await
    }
}

/// An RRSIG over `covered`, as far as its layout goes.
fn signature(covered: u16) -> Vec<u8> {
    let fixed = [&covered.to_be_bytes()[..], &[8, 2, 0, 0, 1, 44, 0, 0, 0, 9, 0, 0, 0, 1, 0, 7]].concat();
    [fixed, message::name("example"), vec![5; 64]].concat()
}

/// The types of the records of `reply`, section by section.
fn types(reply: &[u8]) -> [Vec<u16>; 3] {
    let read = message::read(reply);
    [read.answers, read.authorities, read.additionals]
        .map(|section| section.iter().map(|record| record.record_type().into()).collect())
}

#[tokio::test]
async fn sec_01_and_sec_02_cd_is_the_clients_on_every_path_and_goes_upstream_as_it_is() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        for flags in [RD, RD | CD] {
            let own = format!("{}.cd.example", transport.name());
            for ask in
                [Ask::a(&own), Ask::a(&own), Ask::a("localhost"), Ask::a("x.onion"), Ask::new("zone.example", 252)]
            {
                let reply = rig.ask(transport, &ask.id(0).flags(flags).bytes()).await.message;
                assert_eq!(message::flags(&reply) & CD, flags & CD);
            }
            let log = rig.upstream.log();
            let sent: Vec<u16> = log
                .iter()
                .filter(|asked| asked.name() == own)
                .map(|asked| message::flags(&asked.message) & CD)
                .collect();
            assert_eq!(sent, if flags & CD == 0 { vec![0] } else { vec![0, CD] });
        }
    });
}

#[tokio::test]
async fn sec_03_do_is_the_clients_whatever_the_upstream_says() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        // An OPT that says the opposite of what was asked.
        let opt = message::question_end(&asked.message);
        let mut answer = Answer::new().a(300, [192, 0, 2, 1]).opt(&[]).to(&asked.message);
        let flags = answer.len() - 4;
        answer[flags] = !asked.message[opt + 7] & 0x80;
        Act::Raw(answer)
    });
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.do.example", transport.name())).id(0).edns();
        for ask in [ask.clone(), ask.clone().dnssec(), ask.clone(), ask.dnssec()] {
            let wanted = ask.edns.as_ref().unwrap().flags == 0x8000;
            let reply = message::read(&rig.ask(transport, &ask.bytes()).await.message);
            assert_eq!(reply.edns.unwrap().flags().dnssec_ok, wanted);
        }
    });
    let sent = rig.upstream.log();
    let sent = sent.iter().filter(|asked| !asked.name().is_empty());
    let with_do = sent.filter(|asked| asked.message[message::question_end(&asked.message) + 7] & 0x80 != 0);
    assert_eq!(with_do.count(), Transport::ALL.len(), "and goes upstream as it is");
}

#[tokio::test]
async fn sec_04_and_sec_10_signatures_are_for_those_who_ask_whoever_came_first() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| {
        Act::Answer(
            Answer::new()
                .answer("@", 46, 300, &signature(1))
                .a(300, [192, 0, 2, 1])
                .answer("@", 46, 300, &signature(1))
                .authority("example", 2, 300, &message::name("ns.example"))
                .authority("example", 46, 300, &signature(2))
                .authority("@", 47, 300, &[&message::name("b.example")[..], &[0, 1, 0x40]].concat())
                .additional("ns.example", 1, 300, &[192, 0, 2, 53])
                .additional("ns.example", 46, 300, &signature(1))
                .opt(&[]),
        )
    });
    over_all!(Transport::ALL, |transport| {
        for first_signed in [true, false] {
            let ask = Ask::a(&format!("{}.s{first_signed}.example", transport.name())).id(0).size(1232);
            for signed in [first_signed, !first_signed, first_signed, !first_signed] {
                let ask = if signed { ask.clone().dnssec() } else { ask.clone() };
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                let expected =
                    if signed { [vec![46, 1, 46], vec![2, 46, 47], vec![1, 46]] } else { [vec![1], vec![2], vec![1]] };
                assert_eq!(types(&reply), expected);
                let whole = reply.windows(64).filter(|octets| *octets == [5; 64]).count();
                assert_eq!(whole, if signed { 4 } else { 0 }, "SEC-10: byte for byte");
            }
        }
    });
}

#[tokio::test]
async fn sec_10_a_set_and_its_signature_expire_together_whichever_would_live_longer() {
    let rig = Rig::with("[cache]\nprefetch = false").await;
    rig.upstream.script(|asked| {
        let (set, signed) = if asked.name().starts_with("set") { (60, 300) } else { (300, 60) };
        Act::Answer(Answer::new().a(set, [192, 0, 2, 1]).answer("@", 46, signed, &signature(1)).opt(&[]))
    });
    over_all!(Transport::ALL, |transport| {
        for first in ["set", "signature"] {
            let ask = Ask::a(&format!("{first}.{}.example", transport.name())).id(0).size(1232).dnssec().bytes();
            let before = rig.upstream.count();
            for (passed, asked) in [(0, 1), (59, 1), (2, 2)] {
                rig.pass(passed);
                let reply = rig.ask(transport, &ask).await.message;
                assert_eq!(
                    (types(&reply)[0].as_slice(), rig.upstream.count() - before),
                    (&[1, 46][..], asked),
                    "{first}"
                );
            }
        }
    });
}

#[tokio::test]
async fn sec_05_dnssec_types_that_are_asked_for_are_not_stripped() {
    let rig = Rig::start().await;
    let proof = [&message::name("b.example")[..], &[0, 1, 0x40]].concat();
    rig.upstream.script(move |asked| {
        let data = match asked.rtype() {
            46 | 255 => signature(1),
            47 => proof.clone(),
            50 => [&[1, 0, 0, 0, 0, 4][..], &[9; 4], &[0, 1, 0x40]].concat(),
            48 => vec![1, 1, 3, 8, 7, 7, 7, 7],
            _ => vec![0, 1, 8, 2, 1, 2, 3, 4],
        };
        let rtype = if asked.rtype() == 255 { 46 } else { asked.rtype() };
        Act::Answer(Answer::new().answer("@", rtype, 300, &data))
    });
    over_all!(Transport::ALL, |transport| {
        for rtype in [46, 47, 48, 50, 43, 255] {
            let ask = Ask::new(&format!("{}.types.example", transport.name()), rtype).id(0);
            for ask in [ask.clone(), ask.clone().edns(), ask] {
                let reply = rig.ask(transport, &ask.bytes()).await.message;
                assert_eq!(message::counts(&reply)[1], 1, "type {rtype}");
            }
        }
    });
}

#[tokio::test]
async fn sec_06_and_sec_09_ad_of_a_trusted_upstream_is_for_those_who_asked() {
    let upstream = Secure::start(|query| {
        let validated = message::asked_name(query).starts_with("valid");
        Answer::new().a(300, [192, 0, 2, 1]).flag(if validated && query[3] & 0x20 != 0 { AD } else { 0 })
    });
    let upstream = upstream.await;
    let rig = upstream.rig().await;
    over_all!(Transport::ALL, |transport| {
        for (name, validated) in [("valid", true), ("plain", false)] {
            let ask = Ask::a(&format!("{name}.{}.example", transport.name())).id(0);
            for _ in 0..2 {
                for (ask, wants) in [
                    (ask.clone(), false),
                    (ask.clone().edns(), false),
                    (ask.clone().flags(RD | AD), true),
                    (ask.clone().dnssec(), true),
                    (ask.clone().dnssec().flags(RD | AD), true),
                ] {
                    let reply = rig.ask(transport, &ask.bytes()).await.message;
                    let expected = if validated && wants { AD } else { 0 };
                    assert_eq!(message::flags(&reply) & AD, expected, "{name} {wants}");
                }
            }
        }
    });
}

#[tokio::test]
async fn sec_07_ad_of_a_clear_text_upstream_means_nothing() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().flag(AD).a(300, [192, 0, 2, 1]));
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.clear.example", transport.name())).id(0).flags(RD | AD);
        for ask in [ask.clone(), ask.clone(), ask.clone().dnssec(), ask.dnssec()] {
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!((message::flags(&reply) & AD, message::counts(&reply)[1]), (0, 1));
        }
    });
}

#[tokio::test]
async fn sec_08_nothing_made_here_has_ad() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().rcode(2).flag(AD));
    over_all!(Transport::ALL, |transport| {
        for name in ["localhost", "x.onion", "resolver.arpa", "failing.example", "failing.example"] {
            let ask = Ask::a(name).id(0).flags(RD | AD).dnssec();
            let reply = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!(message::flags(&reply) & AD, 0, "{name}");
        }
    });
}

#[tokio::test]
async fn neg_07_proofs_of_denials_are_kept_whole_for_those_who_ask_for_them_over_each_transport() {
    let rig = Rig::start().await;
    let proof = [&message::name("b.example")[..], &[0, 1, 0x40]].concat();
    let hashed = [&[1, 0, 0, 10, 0, 20][..], &[9; 20], &[0, 1, 0x40]].concat();
    rig.upstream.script(move |asked| {
        let rcode = if asked.name().starts_with("nx") { 3 } else { 0 };
        let answer = Answer::new().rcode(rcode).soa("example", 300, 300).authority("example", 46, 300, &signature(6));
        let answer = answer.authority("a.example", 47, 300, &proof).authority("a.example", 46, 300, &signature(47));
        Act::Answer(
            answer.authority("h.example", 50, 300, &hashed).authority("h.example", 46, 300, &signature(50)).opt(&[]),
        )
    });
    over_all!(Transport::ALL, |transport| {
        for (kind, rcode) in [("nx", 3), ("nodata", 0)] {
            let ask = Ask::a(&format!("{kind}.{}.example", transport.name())).id(0).edns();
            let before = rig.upstream.count();
            let mut proofs = Vec::new();
            for _ in 0..2 {
                let reply = rig.ask(transport, &ask.clone().dnssec().bytes()).await.message;
                assert_eq!(message::rcode(&reply), rcode);
                assert_eq!(types(&reply), [vec![], vec![6, 46, 47, 46, 50, 46], vec![]], "{kind}");
                proofs.push(reply[message::question_end(&reply)..].to_vec());
            }
            assert_eq!(proofs[0].len(), proofs[1].len(), "the same proofs, warm");
            assert_eq!(rig.upstream.count(), before + 1);
            let plain = rig.ask(transport, &ask.bytes()).await.message;
            assert_eq!(types(&plain)[1], [6], "none for who did not ask");
        }
    });
}
