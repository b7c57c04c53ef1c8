//! A server that stalls or dies in mid-load: its clients are answered by the others, every one of them.

use std::sync::Arc;
use std::time::Duration;

use hushgate::admin::Explained;

use crate::admin::get;
use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::{Act, Answer, Ask, Rig, Upstream, client, message};

/// An upstream on a thread of its own, which can be killed with everything it holds.
pub struct Mortal {
    pub upstream: Arc<Upstream>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mortal {
    pub fn start() -> Self {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tell.send(Arc::new(Upstream::start().await)).unwrap();
                ended.await.ok();
            });
        });
        Self { upstream: told.recv().unwrap(), end: Some(end), thread: Some(thread) }
    }

    pub fn kill(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}

/// 300 questions a second for two seconds over one connection, `fail` after a third of them. Every one must be answered. The gateway
/// runs on.
async fn under_load(strategy: &str, first: &Mortal, second: &Mortal, fail: impl FnOnce()) -> Rig {
    let servers =
        format!("upstream.servers=[\"tcp://{}\", \"tcp://{}\"]", first.upstream.address, second.upstream.address);
    let strategy = format!("upstream.strategy=\"{strategy}\"");
    let sets = [servers.as_str(), &strategy, "upstream.timeout=20s", "upstream.attempt_timeout=3s"];
    let rig = Rig::set("", &sets).await;
    let (mut reader, mut writer) = tokio::io::split(rig.dot_stream().await);
    let (questions, third) = (600u16, 200);
    let asking = async {
        let mut tick = tokio::time::interval(Duration::from_micros(3333));
        // Where the machine halts, what was not asked meanwhile is not asked all at once, before anybody could notice the failure.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut fail = Some(fail);
        for id in 0..questions {
            tick.tick().await;
            if let Some(fail) = fail.take_if(|_| id == third) {
                fail();
            }
            client::send_framed(&mut writer, &Ask::a(&format!("{id}.load.example.org")).id(id).bytes()).await.unwrap();
        }
    };
    let hearing = async {
        let mut bad = Vec::new();
        for _ in 0..questions {
            let answer = client::read_framed(&mut reader).await.expect("the door stays open");
            if message::rcode(&answer) != 0 || message::counts(&answer)[1] != 1 {
                bad.push(u16::from_be_bytes([answer[0], answer[1]]));
            }
        }
        bad
    };
    let both = async { tokio::join!(asking, hearing).1 };
    let bad = tokio::time::timeout(Duration::from_mins(1), both).await.expect("no question is left without an answer");
    assert!(bad.is_empty(), "{strategy}: lost {bad:?}");
    assert!(second.upstream.count() >= 300, "the other server took over");
    rig
}

#[tokio::test]
async fn not_one_question_is_lost_when_a_server_stalls_in_mid_load() {
    for strategy in ["adaptive", "ordered"] {
        let (first, second) = (Mortal::start(), Mortal::start());
        let (stalling, before) = (Arc::clone(&first.upstream), std::cell::Cell::new(0));
        let stall = || {
            before.set(stalling.count());
            stalling.script(|_| Act::Silence);
        };
        let _rig = under_load(strategy, &first, &second, stall).await;
        let waited = first.upstream.count() - before.get();
        assert!(waited < 100, "{strategy}: {waited} of 400 questions went to who says nothing");
        if strategy == "adaptive" {
            // Who is quicker is asked: the stalled server need not even owe enough answers to be suspected, and is then not probed.
            continue;
        }
        let probed = async {
            while !first.upstream.log().iter().any(|asked| asked.name().is_empty()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), probed).await.expect("who is not asked is probed");
    }
}

#[tokio::test]
async fn not_one_question_is_lost_when_a_server_is_killed_in_mid_load() {
    for strategy in ["adaptive", "ordered", "round-robin"] {
        let (first, second) = (Mortal::start(), Mortal::start());
        let address = first.upstream.address;
        let victim = std::cell::RefCell::new(first);
        let stand_in = Mortal { upstream: Arc::clone(&victim.borrow().upstream), end: None, thread: None };
        under_load(strategy, &stand_in, &second, || victim.borrow_mut().kill()).await;
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[tokio::test]
async fn explain_says_why_each_attempt_was_made() {
    let (slow, quick) = (Upstream::start().await, Upstream::start().await);
    slow.script(|asked| if asked.name().is_empty() { Act::Answer(Answer::new()) } else { Act::Silence });
    let servers = format!("upstream.servers=[\"udp://{}\", \"udp://{}\"]", slow.address, quick.address);
    let rig = Rig::set("", &[&servers, "upstream.strategy=\"ordered\"", "upstream.attempt_timeout=200ms"]).await;
    let page = get(rig.admin(), "/api/explain?name=why.example.org&type=A").await;
    let road: Explained = serde_json::from_str(&page.body).unwrap();
    let told: Vec<_> = road.attempts.iter().map(|attempt| (attempt.why.as_ref(), attempt.end.as_ref())).collect();
    assert_eq!(told, [("first", "timed out"), ("retry", "answered")]);
}

#[tokio::test]
async fn dh3_11_where_udp_is_blocked_http_2_stands_in_for_http_3_in_time_and_that_is_remembered() {
    use hushgate::peer::Transport;
    let authority = Authority::new();
    let secure = Server::good(Leg::Https, 7, &authority, None).await;
    // What is sent there is swallowed, as by a firewall.
    let blocked = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let h3 = format!("{{ url = \"h3://{}\", ca = \"ca.pem\" }}", blocked.local_addr().unwrap());
    let pool = format!(
        "[pool.http]\nservers = [{h3}, {}]\nstrategy = \"ordered\"\n[[forward]]\ndomains = [\"example\"]\npool = \"http\"\n",
        secure.entry()
    );
    let rig = Rig::beside(&[("ca.pem", &authority.pem)], &pool, &[]).await;
    for index in 0..3 {
        for transport in Transport::ALL {
            let begun = std::time::Instant::now();
            let ask = Ask::a(&format!("{}.n{index}.example", transport.name())).id(0).bytes();
            let reply = rig.ask(transport, &ask).await.message;
            assert!(reply.ends_with(&[192, 0, 2, 7]), "{:?}", message::read(&reply));
            // About half a second; what a loaded machine adds is allowed for.
            assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
        }
    }
    // Remembered: there are far fewer tries over QUIC than questions.
    let mut datagram = [0; 2000];
    let mut connections = std::collections::HashSet::new();
    while let Ok(length) = blocked.try_recv(&mut datagram) {
        assert_eq!(datagram[0] & 0xc0, 0xc0, "{length} octets of a long header");
        connections.insert(datagram[6..14].to_vec());
    }
    assert!((1..8).contains(&connections.len()), "{} connections were tried", connections.len());
    assert_eq!(secure.questions(), 21);
}
