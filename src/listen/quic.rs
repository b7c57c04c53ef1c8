//! placeholder
use crate::listen::Context;
use crate::peer::DoorId;
use std::sync::Arc;
/// x
#[derive(Clone, Copy, Debug)]
pub struct QuicDoors {
    /// x
    pub doq: Option<DoorId>,
    /// x
    pub doh3: Option<DoorId>,
}
/// x
#[derive(Clone, Copy, Debug)]
pub struct WorkerId {
    /// x
    pub index: u8,
    /// x
    pub generation: u8,
}
/// x
pub async fn serve(_s: std::net::UdpSocket, _w: WorkerId, _d: QuicDoors, _t: Arc<rustls::ServerConfig>, c: Context) {
    c.drain.clone().wanted().await
}
