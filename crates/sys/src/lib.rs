//! What Daemun asks of the operating system beyond `std`: listening sockets, their hand-over to a new binary, limits, CPUs.
//!
//! The only crate of the project with unsafe code; it is in `handover`, `prefetch` and `counting`, each block with its reason. It knows
//! no configuration, no protocol and no runtime: what goes in and comes out are types of `std`. Linux only.

#[cfg(not(target_os = "linux"))]
compile_error!("daemun-sys stands on Linux: SO_REUSEPORT balancing, pipe2, /proc");

mod listen;
mod handover;
mod limits;
mod cpu;
mod prefetch;
#[cfg(any(test, feature = "count-allocations"))]
mod counting;

pub use cpu::{allowed_cpus, pin_to_cpu};
pub use handover::{
    Inherited, READY_FD_VARIABLE, Readiness, SOCKETS_VARIABLE, Successor, announce_ready, inherited, spawn_successor,
};
pub use limits::{allow_huge_pages, raise_nofile, write_no_core};
pub use listen::{BACKLOG, bind_tcp, bind_unix, bind_workers};
pub use prefetch::{prefetch, prefetch_first};

#[cfg(any(test, feature = "count-allocations"))]
pub use counting::CountingAllocator;
