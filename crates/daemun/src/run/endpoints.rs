//! The status and admin listeners, beside the data plane.

use std::io;
use std::sync::Arc;

use daemun_dataplane::record::Metrics;
use daemun_dataplane::{Clock, Gateway};

use super::sockets::Table;

pub(crate) struct Endpoints {
    ready: bool,
}

impl Endpoints {
    pub(crate) fn new(_gateway: Arc<Gateway>, _metrics: Arc<Metrics>, _clock: Clock) -> Self {
        Self { ready: false }
    }
    pub(crate) fn serve(&mut self, _sockets: &Table) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }
    pub(crate) fn stop(&mut self) {}
}
