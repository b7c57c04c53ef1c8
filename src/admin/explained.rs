//! A question's road in words: what `/api/explain` answers and `hushgate explain` prints, stage by stage in path order.
//!
//! Words are chosen here, once, from the trail that every question leaves.

use std::borrow::Cow;
use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::Record;
use serde::{Deserialize, Serialize};

use super::ExplainRequest;
use super::held::Key;
use crate::presentation::{extended_error, type_name};
use crate::reply::{Facts, Why};
use crate::telemetry::names;
use crate::trail::{
    Access, Added, AttemptEnd, Cookie, Cut, Decision, Here, Join, Limit, Recall, Refresh, Stale, Sudden, Told, Trail,
    UpstreamId,
};
use crate::wire::name::Shown;

/// Words for people, stable enough for scripts.
pub type Words = Cow<'static, str>;

/// The road of one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Name, type, class.
    pub question: String,
    /// What is spoken at the door.
    pub transport: Words,
    /// The door.
    pub door: String,
    /// On whose behalf.
    pub client: IpAddr,
    /// Access by network.
    pub access: Words,
    /// The cookie.
    pub cookie: Words,
    /// The limiter.
    pub limit: Words,
    /// What was decided.
    pub decision: Words,
    /// The cache.
    pub cache: Cache,
    /// Equal questions.
    pub join: Words,
    /// How many attempts at upstreams were made.
    pub attempts_made: u8,
    /// The first of them and the last.
    pub attempts: Vec<Attempt>,
    /// What was made of a sudden denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudden: Option<String>,
    /// What the reply got.
    pub added: Vec<Words>,
    /// What was taken away.
    pub cut: Vec<Words>,
    /// The reply, or why there is none.
    pub outcome: Outcome,
    /// All of it, in microseconds.
    pub micros: u32,
}

/// The look into the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// `not asked`, `miss`, `hit`, `failure`, or `stale:` and why.
    pub outcome: Words,
    /// What an entry must match.
    pub key: Key,
    /// Seconds since it was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u32>,
    /// Seconds it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_left: Option<u32>,
    /// Times it was served before this question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<u32>,
    /// Seconds since it expired, if it stood in past its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<u32>,
    /// Who supplied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<String>,
    /// That it is asked for again before it expires, or should have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Words>,
}

/// An attempt at an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// At whom.
    pub server: String,
    /// Why: `first`, `retry`, `hedge`, `rescue`, `fallback`, `doubt`, `dns64`.
    #[serde(default)]
    pub why: Words,
    /// What it was told of the client's network; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Words>,
    /// How it ended.
    pub end: Words,
    /// After how many microseconds.
    pub micros: u32,
}

/// What the client sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A reply.
    Replied {
        /// Its RCODE.
        rcode: Words,
        /// Its extended error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ede: Option<String>,
        /// Where it came from.
        source: Words,
        /// Its length.
        octets: usize,
        /// Its records.
        answer: Vec<String>,
        /// Its authority section.
        authority: Vec<String>,
    },
    /// Silence.
    Dropped {
        /// Why.
        reason: Words,
    },
}

/// What was asked, beside the request: what the caller alone knows.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a ExplainRequest,
    /// On whose behalf it was asked.
    pub client: IpAddr,
    /// The door it was asked at.
    pub door: String,
    /// The route's fingerprint.
    pub route: u64,
    /// The pool it leads to.
    pub pool: &'a str,
    /// How long it took.
    pub micros: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub enum Reached<'a> {
    /// A reply: its facts and its message.
    Reply(&'a Facts, &'a [u8]),
    /// Silence; a reply that is not sent leaves no trail.
    Silence(Why),
}

/// Puts a road into words. `upstream` knows the servers' names.
pub fn explained(
    asked: &Asked<'_>,
    reached: Reached<'_>,
    upstream: &dyn Fn(UpstreamId) -> Option<String>,
) -> Explained {
    let trail = match reached {
        Reached::Reply(facts, _) => facts.trail,
        Reached::Silence(why) => silent(why),
    };
    let named = |id: UpstreamId| upstream(id).unwrap_or_else(|| format!("upstream {}", id.0));
    let attempts = trail.attempts.kept().iter().map(|attempt| Attempt {
        server: named(attempt.upstream),
        why: attempt.why.name().into(),
        told: told(attempt.told),
        end: end(attempt.end).into(),
        micros: attempt.micros,
    });
    let transport = trail.transport.or(asked.request.door);
    let rtype = type_name(asked.request.rtype);
    Explained {
        question: format!("{} {rtype} IN", Shown(&asked.request.name)),
        transport: transport.map_or("internal", crate::peer::Transport::name).into(),
        door: asked.door.clone(),
        client: asked.client,
        access: access(trail.access).into(),
        cookie: cookie(trail.cookie).into(),
        limit: limit(trail.limit).into(),
        decision: decision(trail.decision).into(),
        cache: Cache { refresh: refresh(trail.refresh).map(Into::into), ..cache(asked, trail.recall, &named) },
        join: join(trail.join).into(),
        attempts_made: trail.attempts.made(),
        attempts: attempts.collect(),
        sudden: sudden(trail.sudden),
        added: added(trail.added),
        cut: cut(trail.cut),
        outcome: outcome(reached),
        micros: asked.micros,
    }
}

fn silent(why: Why) -> Trail {
    match why {
        Why::NotAQuery => Trail::default(),
        Why::Access => Trail { access: Access::Denied, ..Trail::default() },
        Why::Limit => Trail { access: Access::Allowed, limit: Limit::Drop, ..Trail::default() },
    }
}

fn outcome(reached: Reached<'_>) -> Outcome {
    match reached {
        Reached::Silence(why) => Outcome::Dropped { reason: dropped(why).into() },
        Reached::Reply(facts, message) => {
            let parsed = Message::from_vec(message);
            let show = |records: &[Record]| records.iter().map(ToString::to_string).collect();
            let (answer, authority) = match &parsed {
                Ok(parsed) => (show(&parsed.answers), show(&parsed.authorities)),
                Err(_) => (vec!["(records that cannot be shown as text)".to_owned()], Vec::new()),
            };
            Outcome::Replied {
                rcode: names::rcode(facts.rcode),
                ede: facts.trail.ede.map(|code| format!("{code} ({})", extended_error(code))),
                source: facts.source.name().into(),
                octets: message.len(),
                answer,
                authority,
            }
        }
    }
}

fn cache(asked: &Asked<'_>, recall: Recall, named: &dyn Fn(UpstreamId) -> String) -> Cache {
    let key = Key {
        name: Shown(&asked.request.name).to_string().to_ascii_lowercase(),
        rtype: type_name(asked.request.rtype),
        class: "IN".to_owned(),
        dnssec_ok: false,
        checking_disabled: false,
        route: format!("{:016x}", asked.route),
        pool: Some(asked.pool.to_owned()),
    };
    let (outcome, age, ttl_left, supplier) = match recall {
        Recall::Unasked => ("not asked", None, None, None),
        Recall::Miss => ("miss", None, None, None),
        Recall::Hit { age, left, supplier } => ("hit", Some(age), Some(left), Some(named(supplier))),
        Recall::Failure { left } => ("failure", None, Some(left), None),
        Recall::Stale { age, supplier, why, .. } => (stale(why), Some(age), None, Some(named(supplier))),
    };
    let expired = match recall {
        Recall::Stale { since, .. } => Some(since),
        Recall::Unasked | Recall::Miss | Recall::Hit { .. } | Recall::Failure { .. } => None,
    };
    Cache { outcome: outcome.into(), key, age, ttl_left, hits: None, expired, supplier, refresh: None }
}

const fn stale(why: Stale) -> &'static str {
    match why {
        Stale::Slow => "stale: the upstream takes longer than cache.stale_after",
        Stale::Failed => "stale: the upstream did not answer",
        Stale::Lately => "stale: the upstream failed lately and is not asked again yet",
        Stale::Down => "stale: the upstream is known to be down",
        Stale::Full => "stale: too many questions in flight",
    }
}

const fn refresh(refresh: Refresh) -> Option<&'static str> {
    match refresh {
        Refresh::Unasked => None,
        Refresh::Queued => Some("asked for again before it expires"),
        Refresh::Dropped => Some("not asked for again: too many are"),
    }
}

const fn dropped(why: Why) -> &'static str {
    match why {
        Why::NotAQuery => "the message was no query",
        Why::Access => "the client's network may not ask here, and refusals are silent (access.refuse = \"drop\")",
        Why::Limit => "the client asks too much",
    }
}

const fn access(access: Access) -> &'static str {
    match access {
        Access::Unasked => "not asked",
        Access::Allowed => "allowed",
        Access::Denied => "denied",
    }
}

const fn cookie(cookie: Cookie) -> &'static str {
    match cookie {
        Cookie::Absent => "none",
        Cookie::ClientOnly => "client cookie only",
        Cookie::Valid => "valid",
        Cookie::Invalid => "invalid",
    }
}

const fn limit(limit: Limit) -> &'static str {
    match limit {
        Limit::Unasked => "not asked, or the client is exempt",
        Limit::Pass => "within the client's rate",
        Limit::Truncate => "over the client's rate: answered with TC, to be asked again over TCP",
        Limit::Refuse => "over the client's rate: refused",
        Limit::Drop => "over the client's rate: not answered",
    }
}

const fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Rejected => "rejected",
        Decision::Local(Here::NoQuestion) => "answered here: there is no question",
        Decision::Local(Here::Type) => "answered here: this type is not served, or not over this transport",
        Decision::Local(Here::Own) => "answered here: what the gateway says of itself (see [advertise])",
        Decision::Local(Here::Dns64) => "answered here: how addresses are synthesised (see [dns64])",
        Decision::Local(Here::Special) => "answered here: a special name (see [special])",
        Decision::Forward => "looked up, asked upstream where needed",
    }
}

const fn join(join: Join) -> &'static str {
    match join {
        Join::Unasked => "not needed",
        Join::Led => "asked for this client",
        Join::Followed => "joined an equal question in flight",
        Join::Full => "refused: too many questions in flight",
        Join::Crowded => "refused: too many questions about its domain in flight",
    }
}

const fn end(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Answered => "answered",
        AttemptEnd::Truncated => "truncated, asked again over TCP",
        AttemptEnd::Timeout => "timed out",
        AttemptEnd::Connect => "no connection",
        AttemptEnd::Unknown => "its address is not known",
        AttemptEnd::Busy => "too many questions at once",
        AttemptEnd::Tls => "TLS failed",
        AttemptEnd::Closed => "closed the connection",
        AttemptEnd::Malformed => "sent no answer to the question",
        AttemptEnd::Failed => "answered with a failure",
        AttemptEnd::Overtaken => "not waited for: another was quicker",
    }
}

fn told(told: Told) -> Option<Words> {
    Some(match told {
        Told::Nothing => return None,
        Told::OptOut => "told to tell nothing of the client's network".into(),
        Told::Bits(bits) => format!("told /{bits} of the client's network").into(),
        Told::Fixed => "told the network of privacy.ecs or its own ecs".into(),
    })
}

fn sudden(sudden: Sudden) -> Option<String> {
    Some(match sudden {
        Sudden::No => return None,
        Sudden::Earlier => "sudden when it came".to_owned(),
        Sudden::Unchecked { ago } => format!("sudden: there was data {ago} s ago"),
        Sudden::Alone { ago } => format!("sudden: there was data {ago} s ago, and no other server answered"),
        Sudden::Confirmed { ago } => format!("sudden: there was data {ago} s ago; another server denies it too"),
        Sudden::Contradicted { ago } => {
            format!("sudden, and not believed: there was data {ago} s ago, and another server has it still")
        }
    })
}

fn added(added: Added) -> Vec<Words> {
    let all = [
        (Added::OPT, "OPT"),
        (Added::COOKIE, "cookie"),
        (Added::KEEPALIVE, "keepalive"),
        (Added::EDE, "extended error"),
        (Added::PADDING, "padding"),
        (Added::ECS, "client subnet"),
        (Added::NSID, "name of this server"),
        (Added::PASSED, "options of the upstream's"),
        (Added::SENT_ON, "to the question, options of the client's (edns.pass)"),
    ];
    all.into_iter().filter(|(bit, _)| added.has(*bit)).map(|(_, words)| words.into()).collect()
}

fn cut(cut: Cut) -> Vec<Words> {
    let all = [
        (Cut::ECS, "client subnet, not sent upstream"),
        (Cut::OPTIONS, "options for another hop"),
        (Cut::ADDITIONAL, "additional records that did not fit"),
        (Cut::TRUNCATED, "the answer, TC set"),
    ];
    all.into_iter().filter(|(bit, _)| cut.has(*bit)).map(|(_, words)| words.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Transport;
    use crate::reply::{Freshness, Source};
    use crate::trail;

    fn request() -> ExplainRequest {
        ExplainRequest::parse("name=WWW.example.com&type=A").unwrap()
    }

    fn asked(request: &ExplainRequest) -> Asked<'_> {
        Asked {
            request,
            client: "192.0.2.7".parse().unwrap(),
            door: "127.0.0.1:8853".into(),
            route: 0xabc,
            pool: "corp",
            micros: 1234,
        }
    }

    /// A reply to the request with one address.
    fn message(request: &ExplainRequest) -> Vec<u8> {
        let mut message = request.to_message();
        message.truncate(message.len() - 11);
        message[2] |= 0x80;
        message[7] = 1;
        message[11] = 0;
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
        message
    }

    #[test]
    fn every_stage_of_a_trail_is_put_into_words() {
        let request = request();
        let mut trail = Trail {
            transport: Some(Transport::Dot),
            access: Access::Allowed,
            limit: Limit::Pass,
            decision: Decision::Forward,
            recall: Recall::Hit { age: 12, left: 288, supplier: UpstreamId(1) },
            refresh: Refresh::Queued,
            join: Join::Led,
            added: Added(Added::OPT | Added::PADDING),
            cut: Cut(Cut::ECS),
            ede: Some(3),
            ..Trail::default()
        };
        let attempt = trail::Attempt {
            upstream: UpstreamId(0),
            why: trail::Why::Rescue,
            told: Told::Bits(24),
            end: AttemptEnd::Timeout,
            micros: 1_500_000,
        };
        (0..6).for_each(|_| trail.attempts.push(attempt));
        let facts = Facts { source: Source::Cache, rcode: 0, freshness: Freshness::NO_STORE, trail };
        let names = |id: UpstreamId| (id.0 == 1).then(|| "tls://dns.example".to_owned());
        let message = message(&request);
        let road = explained(&asked(&request), Reached::Reply(&facts, &message), &names);
        assert_eq!(road.question, "WWW.example.com. A IN");
        assert_eq!((road.transport.as_ref(), road.cache.outcome.as_ref()), ("dot", "hit"));
        assert_eq!(
            (road.cache.key.name.as_str(), road.cache.key.route.as_str(), road.cache.key.pool.as_deref()),
            ("www.example.com.", "0000000000000abc", Some("corp"))
        );
        assert_eq!(road.cache.supplier.as_deref(), Some("tls://dns.example"));
        assert_eq!(road.cache.refresh.as_deref(), Some("asked for again before it expires"));
        assert_eq!((road.attempts_made, road.attempts.len()), (6, 4));
        assert_eq!((road.attempts[0].server.as_str(), road.attempts[0].end.as_ref()), ("upstream 0", "timed out"));
        assert_eq!(road.attempts[0].why, "rescue");
        assert_eq!(road.attempts[0].told.as_deref(), Some("told /24 of the client's network"));
        assert_eq!((road.added, road.cut.len()), (vec!["OPT".into(), "padding".into()], 1));
        let Outcome::Replied { rcode, ede, source, answer, .. } = road.outcome else { panic!("a reply was given") };
        assert_eq!((rcode.as_ref(), ede.as_deref(), source.as_ref()), ("NOERROR", Some("3 (Stale Answer)"), "cache"));
        assert_eq!(answer.len(), 1);
        assert!(answer[0].contains("300 IN A 192.0.2.1"), "{answer:?}");
    }

    #[test]
    fn a_stale_answer_says_why_it_stood_in() {
        let request = request();
        let words = Stale::ALL.map(|why| {
            let recall = Recall::Stale { age: 400, since: 100, supplier: UpstreamId(0), why };
            let trail = Trail { recall, ..Trail::default() };
            let facts = Facts { source: Source::Stale, rcode: 0, freshness: Freshness::NO_STORE, trail };
            let road = explained(&asked(&request), Reached::Reply(&facts, &message(&request)), &|_| None);
            assert_eq!((road.cache.age, road.cache.expired, road.cache.ttl_left), (Some(400), Some(100), None));
            assert!(road.cache.outcome.starts_with("stale: "));
            road.cache.outcome
        });
        let different: std::collections::BTreeSet<_> = words.iter().collect();
        assert_eq!(different.len(), Stale::ALL.len());
    }

    #[test]
    fn silence_says_which_stage_chose_it() {
        let request = request();
        let road = explained(&asked(&request), Reached::Silence(Why::Access), &|_| None);
        assert_eq!(road.access, "denied");
        assert!(matches!(road.outcome, Outcome::Dropped { .. }));
        let road = explained(&asked(&request), Reached::Silence(Why::Limit), &|_| None);
        assert!(road.limit.contains("not answered"));
    }

    #[test]
    fn json_comes_back_as_it_went_and_unreadable_messages_do_no_harm() {
        let request = request();
        let facts =
            Facts { source: Source::Error, rcode: 4095, freshness: Freshness::NO_STORE, trail: Trail::default() };
        for message in [&b""[..], b"rubbish", &[0xff; 40]] {
            let road = explained(&asked(&request), Reached::Reply(&facts, message), &|_| None);
            let text = serde_json::to_string(&road).unwrap();
            assert_eq!(serde_json::from_str::<Explained>(&text).unwrap(), road);
        }
    }
}
