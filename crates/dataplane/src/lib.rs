//! Daemun's data plane: sockets to upstreams and back. Files in the order a request meets them.

mod gateway;
mod worker;
mod listener;
pub mod proxy_protocol;
mod tls;
mod io;
mod socket;
mod pipe;
pub mod http1;
mod http2;
mod peer;
mod serve;
mod route;
pub mod router;
mod chain;
mod whole;
mod coded;
mod destination;
mod respond;
pub mod record;
mod snapshot;
pub mod explain;
mod ids;
mod timers;
mod clock;

pub use clock::Clock;
pub use destination::upstream::choice::{TargetStatus, UpstreamStatus};
pub use destination::upstream::state::{Standing, TargetState, Verdict};
pub use gateway::{Gateway, Options};
pub use ids::{IdSource, Ids};
pub use listener::{Socket, Sockets};
pub use snapshot::Snapshot;
pub use snapshot::reach::Reach;
pub use snapshot::set::FoundTarget;
pub use snapshot::upstream::{Target, Upstream};
pub use tls::{client_config, handshake_in_words};
