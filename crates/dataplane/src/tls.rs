//! TLS on both sides: certificates by SNI, client identity, sessions resumed over reloads; towards targets, verification and client
//! certificates. Knows no HTTP but the names of ALPN.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{Certificate, Listener, ListenerTls, Spanned, TlsVersion, UpstreamProtocol, UpstreamTls};
use daemun_pipeline::{Carry, Handshake, TlsIdentity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig, SignatureScheme,
};

/// Sessions kept for clients that resume by id; those with tickets need none.
const SESSIONS: usize = 10_240;
/// Largest file of certificates or a key.
const FILE_LIMIT: u64 = 16 << 20;

/// Compiles the TLS of a listener; findings go to `diagnostics`.
pub(crate) fn server(listener: &Listener, carry: &Carry, diagnostics: &mut Diagnostics) -> Option<Arc<ServerConfig>> {
    let tls = listener.tls.as_ref()?;
    let path = format!("listeners[{}].tls", listener.index);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = certificates(tls, &path, &provider, diagnostics);
    let authorities = authorities(tls, &path, &provider, diagnostics);
    let (certificates, authorities) = (certificates?, authorities?);
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
    let builder = match builder {
        Ok(builder) => builder,
        Err(error) => {
            diagnostics.error("tls", path, listener.bind.at, error.to_string());
            return None;
        }
    };
    let (digest, due, builder) = match authorities {
        None => (None, None, builder.with_no_client_auth()),
        Some(Clients { rule, due, verifier }) => (Some(rule), due, builder.with_client_cert_verifier(verifier)),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // a session must not be resumed under another rule of who may come, so what is kept belongs to that rule
    let shape = format!("{digest:?} {} {:?}", tls.client_auth_optional, tls.min_version);
    let sessions = carry
        .get_or("tls sessions", &shape, || Kept(rustls::server::ServerSessionMemoryCache::new(SESSIONS), Due(due)));
    config.session_storage = sessions;
    if let Ok(ticketer) = aws_lc_rs::Ticketer::new() {
        config.ticketer = carry.get_or("tls tickets", &shape, || Tickets(ticketer, Due(due)));
    }
    Some(Arc::new(config))
}

/// Who verifies clients.
struct Clients {
    /// What tells its authorities and lists from others.
    rule: String,
    /// When the first of its lists is over, in seconds since the Unix epoch.
    due: Option<u64>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Who verifies clients, where they have certificates.
#[allow(clippy::option_option, reason = "outer: an error was reported; inner: clients need no certificate")]
fn authorities(
    tls: &ListenerTls,
    path: &str,
    provider: &Arc<CryptoProvider>,
    diagnostics: &mut Diagnostics,
) -> Option<Option<Clients>> {
    let Some(ca) = &tls.client_ca else { return Some(None) };
    let path = format!("{path}.client_ca");
    let pem = pem(ca, &path, diagnostics)?;
    let roots = roots(&pem, ca, &path, diagnostics)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = if tls.client_auth_optional { verifier.allow_unauthenticated() } else { verifier };
    let (lists, digests) = revoked(tls, &path, diagnostics)?;
    let due = lists.iter().filter_map(|list| crate::revocation::next_update(list)).min();
    let verifier = if lists.is_empty() { verifier } else { verifier.with_crls(lists).enforce_revocation_expiration() };
    let verifier = if tls.client_crl_unknown_allowed { verifier.allow_unknown_revocation_status() } else { verifier };
    match verifier.build() {
        // sessions from before a list was exchanged are not resumed: who is on it now has not been looked at since
        Ok(verifier) => {
            let rule = format!("{} {digests:?} {}", hex_digest(&pem), tls.client_crl_unknown_allowed);
            Some(Some(Clients { rule, due, verifier }))
        }
        Err(error) => {
            diagnostics.error("tls", path, ca.at, error.to_string());
            None
        }
    }
}

/// The lists of certificates that were taken back, and what tells the files from others.
fn revoked(
    tls: &ListenerTls,
    path: &str,
    diagnostics: &mut Diagnostics,
) -> Option<(Vec<CertificateRevocationListDer<'static>>, Vec<String>)> {
    let (mut lists, mut digests, mut complete) = (Vec::new(), Vec::new(), true);
    for (index, file) in tls.client_crl.iter().enumerate() {
        let path = format!("{}.client_crl[{index}]", path.trim_end_matches(".client_ca"));
        let Some(pem) = pem(file, &path, diagnostics) else {
            complete = false;
            continue;
        };
        match crate::revocation::lists(&pem, file, &path, diagnostics) {
            Ok(found) => lists.extend(found),
            Err(why) => {
                complete = false;
                let _: Option<()> = unreadable(file, &path, &why, diagnostics);
            }
        }
        digests.push(hex_digest(&pem));
    }
    complete.then_some((lists, digests))
}

/// When a list of revoked certificates is over, in seconds since the Unix epoch. Of sessions from before none is resumed: a handshake
/// finds that nobody can say any more whether the client's certificate was taken back.
#[derive(Clone, Copy, Debug)]
struct Due(Option<u64>);

impl Due {
    fn is_over(self) -> bool {
        self.0.is_some_and(|due| due < UnixTime::now().as_secs())
    }
}

/// Sessions that outlive a reload: the compiled settings hold it, and through it what is carried over.
#[derive(Debug)]
struct Kept(Arc<dyn rustls::server::StoresServerSessions>, Due);

impl rustls::server::StoresServerSessions for Kept {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).filter(|_| !self.1.is_over())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.take(key).filter(|_| !self.1.is_over())
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}

/// Ticket keys that outlive a reload.
#[derive(Debug)]
struct Tickets(Arc<dyn rustls::server::ProducesTickets>, Due);

impl rustls::server::ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        if self.1.is_over() { None } else { self.0.decrypt(cipher) }
    }
}

/// Certificates by the names they hold.
#[derive(Debug)]
struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Under the name without its first label.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return Some(Arc::clone(&self.default)) };
        let name = name.to_ascii_lowercase();
        let found = self.exact.get(&name).or_else(|| self.wildcard.get(name.split_once('.')?.1));
        Some(Arc::clone(found.unwrap_or(&self.default)))
    }
}

fn certificates(
    tls: &ListenerTls,
    path: &str,
    provider: &CryptoProvider,
    diagnostics: &mut Diagnostics,
) -> Option<Certificates> {
    let mut exact = HashMap::new();
    let mut wildcard = HashMap::new();
    let mut default = None;
    let mut complete = true;
    for (index, pair) in tls.certificates.iter().enumerate() {
        let Some(certified) = certified(pair, &format!("{path}.certificates[{index}]"), provider, diagnostics) else {
            complete = false;
            continue;
        };
        let names = certified.end_entity_cert().ok().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        for name in names.iter().flat_map(|certificate| certificate.valid_dns_names()) {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(rest) => wildcard.entry(rest.to_owned()).or_insert_with(|| Arc::clone(&certified)),
                None => exact.entry(name).or_insert_with(|| Arc::clone(&certified)),
            };
        }
        default.get_or_insert(certified);
    }
    Some(Certificates { exact, wildcard, default: default.filter(|_| complete)? })
}

fn certified(
    pair: &Certificate,
    path: &str,
    provider: &CryptoProvider,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<CertifiedKey>> {
    let (cert_path, key_path) = (format!("{path}.cert"), format!("{path}.key"));
    let chain =
        pem(&pair.cert, &cert_path, diagnostics).and_then(|pem| chain(&pem, &pair.cert, &cert_path, diagnostics));
    let key =
        pem(&pair.key, &key_path, diagnostics).and_then(|pem| private_key(&pem, &pair.key, &key_path, diagnostics));
    match CertifiedKey::from_der(chain?, key?, provider) {
        Ok(certified) => Some(Arc::new(certified)),
        Err(error @ rustls::Error::InconsistentKeys(_)) => {
            let message = format!("the certificate and its key do not go together: {}", in_words(&error));
            diagnostics.error("tls", path, pair.cert.at, message);
            None
        }
        Err(error) => unreadable(&pair.cert, &format!("{path}.cert"), &in_words(&error), diagnostics),
    }
}

/// Why a handshake failed.
#[must_use]
pub fn handshake_in_words(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(refused @ rustls::Error::InvalidCertificate(CertificateError::Other(_))) => {
            format!("the certificate is refused: {}", in_words(refused))
        }
        _ => error.to_string(),
    }
}

/// Why a certificate is of no use, as whoever made it can mend it.
pub(crate) fn in_words(error: &rustls::Error) -> String {
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        return "the key is another certificate's".to_owned();
    }
    let rustls::Error::InvalidCertificate(refused) = error else { return error.to_string() };
    let cause = if let CertificateError::Other(OtherError(cause)) = refused {
        cause.downcast_ref::<webpki::Error>()
    } else {
        None
    };
    match (refused, cause) {
        (_, Some(webpki::Error::UnsupportedCertVersion)) => {
            "it is a certificate of version 1, which TLS does not take any more; `openssl req -x509` makes one of version 3 when it is \
             given an extension, as by `-addext subjectAltName=DNS:NAME`"
                .to_owned()
        }
        (_, Some(webpki::Error::CaUsedAsEndEntity)) => {
            "it is the certificate of an authority (`CA:TRUE`), not of a server; `-addext basicConstraints=CA:FALSE` makes another"
                .to_owned()
        }
        (CertificateError::BadEncoding, _) => "what it holds is not a certificate, or is damaged".to_owned(),
        (_, Some(cause)) => format!("its certificate is not understood: {cause:?}"),
        (refused, None) => format!("its certificate is refused: {refused:?}"),
    }
}

/// What a file holds, if it is one.
fn pem(file: &Spanned<PathBuf>, path: &str, diagnostics: &mut Diagnostics) -> Option<Vec<u8>> {
    match daemun_config::read_file(&file.value, FILE_LIMIT) {
        Ok(pem) if u64::try_from(pem.len()).is_ok_and(|length| length <= FILE_LIMIT) => Some(pem),
        Ok(_) => unreadable(file, path, "it is larger than 16 MiB", diagnostics),
        Err(error) => unreadable(file, path, &daemun_config::why(&error), diagnostics),
    }
}

fn chain(
    pem: &[u8],
    file: &Spanned<PathBuf>,
    path: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => unreadable(file, path, "it holds no certificate", diagnostics),
        Err(error) => unreadable(file, path, &error.to_string(), diagnostics),
    }
}

fn private_key(
    pem: &[u8],
    file: &Spanned<PathBuf>,
    path: &str,
    diagnostics: &mut Diagnostics,
) -> Option<PrivateKeyDer<'static>> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Some(key),
        Err(error) => unreadable(file, path, &error.to_string(), diagnostics),
    }
}

fn unreadable<T>(file: &Spanned<PathBuf>, path: &str, why: &str, diagnostics: &mut Diagnostics) -> Option<T> {
    diagnostics.error("tls_file", path, file.at, format!("`{}` cannot be used: {why}", file.value.display()));
    None
}

fn roots(pem: &[u8], file: &Spanned<PathBuf>, path: &str, diagnostics: &mut Diagnostics) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in chain(pem, file, path, diagnostics)? {
        if let Err(error) = store.add(certificate) {
            return unreadable(file, path, &in_words(&error), diagnostics);
        }
    }
    Some(store)
}

/// Who the client proved to be.
pub(crate) fn identity(connection: &rustls::ServerConnection) -> Option<TlsIdentity> {
    let der = connection.peer_certificates()?.first()?.as_ref().to_vec();
    let digest = hex_digest(&der);
    Some(TlsIdentity::new(digest, der))
}

/// What was agreed on with a client.
pub(crate) fn handshake(connection: &rustls::ServerConnection) -> Handshake {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        Some(_) | None => "",
    };
    Handshake { version, server_name: connection.server_name().unwrap_or_default().to_ascii_lowercase().into() }
}

/// SHA-256 in lower-case hexadecimal.
fn hex_digest(der: &[u8]) -> String {
    use std::fmt::Write;
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// TLS towards the targets of an upstream.
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    /// For SNI and verification, in place of the target's host.
    pub(crate) server_name: Option<ServerName<'static>>,
    /// Tells it from others by value: by what was in the files, which are exchanged under their names, not by where it stands.
    pub(crate) key: String,
}

/// Compiles the TLS of an upstream; findings go to `diagnostics`.
pub(crate) fn client(
    name: &str,
    tls: &UpstreamTls,
    protocol: UpstreamProtocol,
    diagnostics: &mut Diagnostics,
) -> Option<ClientTls> {
    let path = format!("upstreams.{name}.tls");
    let mut digests = Vec::new();
    let mut read = |file: &Spanned<PathBuf>, path: &str, diagnostics: &mut Diagnostics| {
        let pem = pem(file, path, diagnostics)?;
        digests.push((path.rsplit('.').next().map(str::to_owned), hex_digest(&pem)));
        Some(pem)
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().ok()?;
    let builder = if tls.insecure_skip_verify {
        Some(builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))))
    } else {
        let store = match &tls.ca {
            Some(ca) => {
                let path = format!("{path}.ca");
                read(ca, &path, diagnostics).and_then(|pem| roots(&pem, ca, &path, diagnostics))
            }
            None => Some(system_roots()),
        };
        store.map(|store| builder.with_root_certificates(store))
    };
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let (cert_path, key_path) = (format!("{path}.cert"), format!("{path}.key"));
            let chain = read(cert, &cert_path, diagnostics).and_then(|pem| chain(&pem, cert, &cert_path, diagnostics));
            let private =
                read(key, &key_path, diagnostics).and_then(|pem| private_key(&pem, key, &key_path, diagnostics));
            match builder?.with_client_auth_cert(chain?, private?) {
                Ok(config) => config,
                Err(error) => return unreadable(cert, &format!("{path}.cert"), &in_words(&error), diagnostics),
            }
        }
        _ => builder?.with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::H2c => vec![b"http/1.1".to_vec()],
        UpstreamProtocol::H2 => vec![b"h2".to_vec()],
        UpstreamProtocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let server_name = match &tls.server_name {
        None => None,
        Some(name) => match ServerName::try_from(name.value.clone()) {
            Ok(name) => Some(name),
            Err(_) => {
                let message = format!("`{}` is neither a name nor an address", name.value);
                diagnostics.error("tls", format!("{path}.server_name"), name.at, message);
                return None;
            }
        },
    };
    let key = format!("{digests:?} {server_name:?} {}", tls.insecure_skip_verify);
    Some(ClientTls { config: Arc::new(config), server_name, key })
}

/// TLS towards a server that is no target: verified by the authorities of a PEM file, or by the system's; HTTP/1.1 is offered.
///
/// # Errors
/// Why the file is of no use.
pub fn client_config(ca_file: Option<&std::path::Path>) -> Result<Arc<ClientConfig>, String> {
    let at = daemun_config::tree::At::default();
    let ca = ca_file.map(|path| Spanned { value: path.to_owned(), at });
    let mut diagnostics = Diagnostics::new();
    let tls = client("", &UpstreamTls { ca, ..UpstreamTls::default() }, UpstreamProtocol::Http1, &mut diagnostics);
    tls.map(|tls| tls.config).ok_or_else(|| {
        let first = diagnostics.iter().next().map(|found| found.message.clone());
        first.unwrap_or_else(|| "no TLS is to be had".to_owned())
    })
}

/// The system's authorities; none that cannot be read.
fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// Accepts any certificate, for `insecure_skip_verify`; signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
