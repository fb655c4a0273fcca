//! What asking for users elsewhere takes: a bound on how much is asked at once, a time for it, TLS. Knows neither LDAP nor SQL.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemun_pipeline::World;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::{Semaphore, oneshot};

use super::Refused;

/// Questions that one place is asked at once.
const AT_ONCE: usize = 64;

/// Asks a place beside the workers.
pub(super) struct Asking {
    slots: Arc<Semaphore>,
    within: Duration,
}

impl Asking {
    pub(super) fn new(within: Duration) -> Asking {
        Asking { slots: Arc::new(Semaphore::new(AT_ONCE)), within }
    }

    /// What asking comes to.
    ///
    /// # Errors
    /// When as much is asked as may be, it takes too long or fails.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        world: &dyn World,
        work: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, Refused> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let (tell, told) = oneshot::channel();
        let (too_long, within) = (world.wait(self.within), self.within);
        world.spawn(Box::pin(async move {
            let done = tokio::select! {
                done = work => done,
                () = too_long => Err(format!("no answer in {within:?}")),
            };
            drop(slot);
            let _ = tell.send(done);
        }));
        // what panics on a malformed answer, or is never begun, tells nothing
        let done = told.await.unwrap_or_else(|_| Err("the question broke off".to_owned()));
        done.map_err(Refused::Unavailable)
    }
}

/// TLS towards a place, made at its first use and again after a failure, since authorities are exchanged under their names.
pub(super) struct Tls {
    ca_file: Option<PathBuf>,
    made: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tls {
    pub(super) fn new(ca_file: Option<PathBuf>) -> Tls {
        Tls { ca_file, made: Mutex::default() }
    }

    fn made(&self) -> MutexGuard<'_, Option<Arc<ClientConfig>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called after a failure.
    pub(super) fn forget(&self) {
        *self.made() = None;
    }

    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(made) = self.made().as_ref() {
            return Ok(Arc::clone(made));
        }
        let ca_file = self.ca_file.clone();
        let made = tokio::task::spawn_blocking(move || config(ca_file)).await.map_err(|error| error.to_string())??;
        *self.made() = Some(Arc::clone(&made));
        Ok(made)
    }
}

fn config(ca_file: Option<PathBuf>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let read =
                CertificateDer::pem_file_iter(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
            for certificate in read {
                let certificate = certificate.map_err(|error| format!("`{}`: {error}", path.display()))?;
                roots.add(certificate).map_err(|error| format!("`{}`: {error}", path.display()))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
