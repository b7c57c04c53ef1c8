//! Other settings for a pipeline that runs: what it keeps, and what it would not have made and drops.

use std::sync::Arc;

use super::rig::{Built, Gateway, Play, SECRET, settings};
use crate::pipeline::{Settings, Shared};
use crate::wire::registry::rtype;

/// What `gateway` becomes by `settings`, and has become.
fn renew(gateway: &mut Gateway, settings: Settings) -> Arc<Shared> {
    let former = Arc::clone(&gateway.pipeline.shared);
    let (guard, exchange) = (Arc::clone(&former.guard), Arc::clone(&former.exchange));
    let next = former.renewed(settings, former.cache_settings.clone(), guard, exchange);
    next.take_effect(&former);
    gateway.pipeline = gateway.pipeline.renewed(Arc::clone(&next));
    former
}

#[tokio::test]
async fn answers_flights_and_cookies_are_kept_and_the_new_settings_hold() {
    let mut gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(300, 7)));
    let query = Built::query("t.example", rtype::A);
    gateway.udp(&query).await;
    let former = renew(&mut gateway, Settings { outstanding_per_domain: 7, ..settings() });
    let now = &gateway.pipeline.shared;
    assert_eq!(now.settings.outstanding_per_domain, 7);
    let kept =
        |one: &Shared, other: &Shared| one.cookies().zip(other.cookies()).map(|(one, other)| std::ptr::eq(one, other));
    assert_eq!(kept(now, &former), Some(true));
    assert!(Arc::ptr_eq(&now.joins, &former.joins) && Arc::ptr_eq(&now.errands, &former.errands));
    gateway.udp(&query).await;
    assert_eq!(gateway.asked(), 1, "from the cache");
    // Secrets of the operator's and random ones are not mixed.
    let former = renew(&mut gateway, Settings { secrets: Vec::new(), ..settings() });
    assert_eq!(kept(&gateway.pipeline.shared, &former), Some(false));
    renew(&mut gateway, Settings { cookies: false, ..settings() });
    assert!(gateway.pipeline.shared.cookies().is_none());
}

#[tokio::test]
async fn other_secrets_are_in_force_only_once_the_new_settings_are() {
    let gateway = Gateway::new(|ask| Play::Answer(Built::to(ask).a(300, 7)));
    let former = Arc::clone(&gateway.pipeline.shared);
    let (guard, exchange) = (Arc::clone(&former.guard), Arc::clone(&former.exchange));
    let other = Settings { secrets: vec![[1; 16], SECRET], ..settings() };
    let next = former.renewed(other, former.cache_settings.clone(), guard, exchange);
    let client = std::net::Ipv4Addr::LOCALHOST.into();
    let made = || former.cookies().unwrap().check(&[7; 8], client, 1_559_731_985).unwrap().1;
    let before = made();
    assert_eq!(made(), before, "as long as it is only tried");
    next.take_effect(&former);
    assert_ne!(made(), before);
}
