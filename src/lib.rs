//! hushgate: an encrypted DNS gateway.
//!
//! The modules stand in the order that a question walks them:
//!
//! ```text
//!  sockets        listen                       pipeline                                   upstream
//!  UDP ─────────▶ datagram ──────────┐         access   may this network ask here?
//!  TCP ─▶ accept ─▶ stream ──────────┤         cookie   has it shown its address?
//!  DoT ─▶ accept ─▶ tls ─▶ stream ───┤ Query   limit    within its rate?
//!  DoH ─▶ accept ─▶ tls ─▶ doh ──────┼──────▶  decide   special names are answered here
//!  DoH3 ─▶ quic ─▶ doh3 ─────────────┤ Reject  strip    nothing of the client goes on
//!  DoQ ─▶ quic ─▶ doq ───────────────┘         recall   cache ──hit──────────┐
//!                                              join     equal questions      │        ┌▶ udp tcp
//!                                              exchange ─────────────────────┼──────▶ │  dot doh
//!                                              digest   judge, then keep     │        └▶ doh3 doq
//!            bytes ◀── Now or Verdict ◀─────── finish ◀──────────────────────┘
//! ```
//!
//! # The life of a query
//!
//! A front door reads bytes, makes a [`query::Query`] of them (or a [`query::Reject`], which walks the same road), and asks
//! [`answer::Answer::now`]. If memory holds the answer it is written in place: a copy and a patch, no task and no shared lock. If not,
//! `now` hands back a future that owns all it needs; the exchange behind it belongs to the join table, not to the client, so a client
//! that leaves cancels nothing. Every question leaves a [`trail::Trail`], which metrics, the query log and `hushgate explain` read.
//!
//! [`gateway::Gateway`] → [`gateway::Bound`] → [`gateway::Running`] is the life of the program; each [`worker`] is a thread with its
//! own runtime and sockets, and [`control`] is the one thread that does what is slow.
//!
//! # Where the house differs from its first plan
//!
//! - **The cache keeps its entries in rings, not in size classes.** A shard is two byte rings (S3-FIFO: a tenth for newcomers, the rest
//!   for what was asked for again), a fixed index and a fixed table of ghosts. Memory is exact without accounting by class, there is
//!   no fragmentation, and eviction is the ring's own order. See [`cache`].
//! - **[`clock`] is a module of its own**: answers are aged by one monotonic clock that a test can move.
//! - **[`control`] stands beside `gateway`**: the admin server, readiness and certificates run there.
//! - **HTTP/3 uses the `h3` crate over an adapter of our own**, because the usual one hides a client's cancellation and lets a frame be
//!   buffered at whatever length it claims. See [`listen::doh3`].
//! - **AD is always asked of upstreams**, so that a stored answer does not depend on who asked first; what each client sees is decided
//!   at the end ([`pipeline`]).
//! - **A server's connections begin at home**, on one runtime for all workers, so that a quiet gateway keeps one warm connection; a busy
//!   worker gets one of its own when that is crowded. See [`upstream::lines`].
//! - **Health is kept per server and budgets per pool, shared by all workers**, not per worker: a server that falls silent is silent
//!   for everybody at once. Counts and budgets are atomics, health is behind a lock of its server's own. See [`upstream::health`],
//!   [`upstream::tally`] and [`upstream::budget`].
//! - **Names of upstreams are found by a resolver of our own**, not by `getaddrinfo`: it knows times to live, asks only whom it may,
//!   and never this gateway. See [`upstream::names`].
//! - **HTTP/2 toward upstreams drives `h2` directly**, so that GOAWAY, refused streams and the server's bound on them are seen. See
//!   [`upstream::doh2`].
//! - **Certificates are judged by a floor of time**: the latest of the clock, the build and a stamp on disk. See
//!   [`upstream::timekeeper`].
//! - **The letters of names toward plain servers are in random case**, and each client has its own back. See [`upstream::case`].
//! - **A failed forward never falls through** unless the operator says so, and which pool a question goes to is asked once for each
//!   question, because it is part of the cache key. See [`upstream::route`].
//! - **Which lengths of client subnets are kept is one bitmap for the whole cache**, not a list below each name: nothing is stored that is
//!   no answer, and a client is looked for under few lengths all the same. See [`cache::Reach`].
//! - **What a server is told of a client's network is that server's own rule**, applied where one attempt is made; the pipeline works out
//!   only what at most any server of the route may know, and keeps answers apart by that. A server's own `ecs` stands in its table,
//!   and where addresses of clients are told, no client is believed about a network that it does not ask from. See
//!   [`upstream::SubnetRule`].
//! - **What the gateway says of itself is described once**, in [`discovery`], which is pure: DDR and RESINFO records, profiles, options
//!   for DHCP and the set-up page are made from the doors as bound and the default certificate. [`pipeline`] answers with the records
//!   and [`listen::http::pages`] serves the pages, and neither knows what they say. A door or name that its certificate does not cover is
//!   not told of.
//! - **DNS64 lies between the exchange and the cache**, not in digest: it asks a second question by the road of a client's, so that
//!   what is made is kept, joined and refreshed like any other answer, and a hit knows nothing of it. See [`pipeline::Dns64`].
//! - **Options that pass from end to end pass uncached**: their answers are for who sent them, and the join table tells them apart.
//! - **Secrets of cookies are read again every two seconds** while the gateway runs, by [`control`]: a rollover needs no reload.
//! - **Keys beside the first plan's**: `[advertise]`, `[special]`, `[dns64]`, `[edns]`, and `doh.setup_page`; `[acme]`, `[fleet]`,
//!   `[[client]]`, `[process]` and `[reload]`; `tls.strict_sni`, `admin.self_probe` and the rates of `[limits]`. Each has its default in
//!   [`config::keys`] and its words in `deploy/hushgate.toml`.
//! - **Each worker keeps copies of the few answers it is asked for most**, good until anything leaves their shard, so that workers do not
//!   queue for one lock. They are part of the cache's size. See [`cache::Front`].
//! - **A flush parts the questions under way**: what was asked before it is answered, not kept, and joined by nobody who asks after it.
//! - **A failure from before a server came back holds for a second only**, whatever its window. See [`cache::failures`].
//! - **The snapshot's checksum is for damage, not for forgery**: who can write to the state directory holds the keys as well. See
//!   [`cache::codec`].
//! - **Records are put into words by layouts of our own**, not by the DNS library: clients that ask in JSON read them, and must be able to
//!   ask again with what they have read. `listen`, `admin` and `cli` share them. See [`presentation`] and [`listen::http::json`].
//! - **The process gives up its rights after binding** ([`confine`]) and tells a service manager how it does ([`service`]); neither knows
//!   what a gateway is.
//! - **A datagram for another worker is handed over in memory**, and the kernel is asked to spare us that by a filter on the id's first
//!   octets. Ids are masked, so that those of one connection cannot be linked. See [`listen::quic`].
//! - **A reload puts new terms beside what runs, then changes one pointer a worker.** What needs a restart keeps its old value and is
//!   said so; there is no half of a configuration. See [`gateway`] and [`config::changes`].
//! - **One root makes all keys that clients are known again by** ([`identity::keys`]), by epochs; those of stateless resets and of connection
//!   ids are an instance's own and outlive it in `state_dir`.
//! - **Who a client is, the guard knows** ([`guard::clients`]): doors hand over what was shown, and it is looked up again at each question,
//!   so that who is struck off is a stranger on open connections too. A client's certificate is taken from whoever holds its key and judged
//!   afterwards: one for another purpose shuts nobody out.
//! - **Behind a proxy the client takes the proxy's place in [`peer::Peer`]**, before anything counts or judges; nothing after the door
//!   knows of proxies.
//! - **ACME is driven by `control`** with `instant-acme`; its one certificate stands beside those from files, and the private authority
//!   serves until it is there. See [`identity::acme`].
//! - **A client's network is shut out at the door for what it did on any other** ([`guard`]): resets and protocol errors are counted beside
//!   questions. What is held for clients is bounded in octets, by `limits.memory`, not in connections alone.
//! - `telemetry` may import `answer`: the query log stands around the pipeline as an `Answer` of its own, so that a gateway without one
//!   has nothing of it in its path. `upstream` may import `peer` for the name of a transport.

pub mod clock;
pub mod presentation;
pub mod wire;

pub mod peer;
pub mod query;
pub mod trail;

pub mod answer;
pub mod reply;

pub mod shutdown;
pub mod telemetry;

pub mod discovery;
pub mod guard;
pub mod identity;
pub mod listen;

pub mod cache;
pub mod pipeline;
pub mod upstream;

pub mod admin;
pub mod cli;
pub mod config;
pub mod confine;

pub mod control;
pub mod gateway;
pub mod handover;
pub mod plan;
pub mod service;
pub mod worker;
