//! The demo's walk: one question over each of the seven transports, twice, with the certificate verified.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::zone;
use crate::cli::query::{self, Outcome, Question};
use crate::gateway::{Bound, Running};
use crate::listen::DoorKind;
use crate::peer::Transport;
use crate::reply::Source;

/// How long the tour waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where each transport is served.
pub struct Plan {
    /// One entry a transport.
    pub doors: Vec<(Transport, SocketAddr)>,
    /// The private authority's certificate.
    pub authority: PathBuf,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
}

/// One line of the table.
pub struct Row {
    /// The transport.
    pub transport: Transport,
    /// Where it was asked.
    pub address: SocketAddr,
    /// The first answer, fetched from the sample zone.
    pub first: Result<Outcome, String>,
    /// The second, from the cache.
    pub second: Result<Outcome, String>,
    /// Where the two came from, by the gateway's own count.
    pub sources: [Option<Source>; 2],
}

impl Plan {
    /// The first door of each kind.
    ///
    /// # Errors
    /// Where the private authority is not in use, so that the tour could not verify anything.
    pub fn of(bound: &Bound) -> Result<Self, String> {
        let opened = bound.doors();
        let doors = Transport::ALL
            .into_iter()
            .filter_map(|transport| {
                let kind = kind(transport);
                opened.iter().find(|(found, _)| *found == kind).map(|(_, address)| (transport, *address))
            })
            .collect();
        let authority =
            bound.authority().ok_or("the demo needs the private authority, but certificates are configured")?;
        Ok(Self { doors, authority, admin: bound.admin_addresses().first().copied() })
    }
}

/// The kind of door that serves `transport`.
const fn kind(transport: Transport) -> DoorKind {
    match transport {
        Transport::Udp | Transport::Tcp => DoorKind::Dns,
        Transport::Dot => DoorKind::Dot,
        Transport::Doh1 | Transport::Doh2 | Transport::Doh3 => DoorKind::Doh,
        Transport::Doq => DoorKind::Doq,
    }
}

impl Row {
    /// Did both answers come, right and from where they should?
    #[must_use]
    pub fn is_good(&self) -> bool {
        let right = |outcome: &Result<Outcome, String>| outcome.as_ref().is_ok_and(carries_address);
        right(&self.first) && right(&self.second) && self.sources == [Some(Source::Upstream), Some(Source::Cache)]
    }
}

/// Does the answer hold the sample zone's address?
fn carries_address(outcome: &Outcome) -> bool {
    hickory_proto::op::Message::from_vec(&outcome.message).is_ok_and(|message| {
        message.answers.iter().any(|record| match &record.data {
            hickory_proto::rr::RData::A(address) => address.0 == zone::ADDRESS,
            _ => false,
        })
    })
}

/// Asks every door twice. Each transport has a name of its own, so that its first answer is never another's second.
///
/// # Errors
/// Where no runtime can be had.
pub fn walk(plan: &Plan, running: &Running) -> Result<Vec<Row>, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut rows = Vec::new();
        for &(transport, address) in &plan.doors {
            let question = question(plan, transport, address);
            let (first, first_source) = ask(&question, running).await;
            let (second, second_source) = ask(&question, running).await;
            rows.push(Row { transport, address, first, second, sources: [first_source, second_source] });
        }
        Ok(rows)
    })
}

fn question(plan: &Plan, transport: Transport, address: SocketAddr) -> Question {
    let scheme = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Dot => "tls",
        Transport::Doh1 => "https+h1",
        Transport::Doh2 => "https",
        Transport::Doh3 => "h3",
        Transport::Doq => "quic",
    };
    let name = format!("{}.{}", transport.name(), zone::ZONE);
    let secured = transport.is_encrypted();
    Question {
        ca: secured.then(|| plan.authority.clone()),
        tls_name: secured.then(|| "localhost".into()),
        timeout: PATIENCE,
        ..Question::new(&format!("{scheme}://{address}"), &name, "A")
    }
}

/// Asks, and tells by the gateway's counters where the answer came from.
async fn ask(question: &Question, running: &Running) -> (Result<Outcome, String>, Option<Source>) {
    let before = answered(running);
    let outcome = query::ask(question).await.map_err(|error| error.to_string());
    let after = answered(running);
    let source = Source::ALL.into_iter().zip(before.into_iter().zip(after)).find(|(_, (before, after))| after > before);
    (outcome, source.map(|(source, _)| source))
}

fn answered(running: &Running) -> [u64; Source::ALL.len()] {
    let mut sums = [0; Source::ALL.len()];
    for counters in running.counters() {
        for (sum, counter) in sums.iter_mut().zip(&counters.answers) {
            *sum += counter.value();
        }
    }
    sums
}
