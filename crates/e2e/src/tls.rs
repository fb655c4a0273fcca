//! TLS for the scripted peers: certificates made by `openssl`, a client side that says how its handshake went, and a server side
//! for upstreams. Knows no HTTP but the names of ALPN.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, DigitallySignedStruct, HandshakeKind, RootCertStore};
use rustls::{ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion};

use crate::gateway::Folder;
use crate::wire::{Address, Stream};

/// Authorities and certificates in a folder of their own: `NAME.crt` and `NAME.key`.
#[derive(Debug, Default)]
pub struct Certificates(Folder);

impl Certificates {
    /// A folder with the authority `ca`.
    #[must_use]
    pub fn new() -> Self {
        let own = Self::default();
        own.authority("ca");
        own
    }

    /// Makes an authority.
    pub fn authority(&self, name: &str) {
        self.openssl(&format!("req -x509 {KEY} -keyout {name}.key -out {name}.crt -days 30 -subj /CN={name}"));
    }

    /// Makes a certificate signed by `authority`; `alternative` is its names, such as `DNS:a.test,IP:127.0.0.1`. One of that name is
    /// replaced, as an editor does that renames, its key first.
    pub fn issue(&self, name: &str, authority: &str, alternative: &str) {
        self.issue_to(&format!("/CN={name}"), name, authority, alternative);
    }

    /// Like [`Certificates::issue`], for a subject such as `/O=Shop/CN=orders`.
    pub fn issue_to(&self, subject: &str, name: &str, authority: &str, alternative: &str) {
        self.request(subject, alternative);
        let signer = format!("-CA {authority}.crt -CAkey {authority}.key -CAcreateserial");
        self.openssl(&format!("x509 -req -in draft.csr {signer} -days 30 -extfile draft.ext -out draft.crt"));
        self.put(name);
    }

    /// Like [`Certificates::issue`], valid only in the year 2020.
    pub fn issue_expired(&self, name: &str, authority: &str, alternative: &str) {
        self.issue_between("200101000000Z", "210101000000Z", name, authority, alternative);
    }

    /// Like [`Certificates::issue`], valid from 2020 up to a time, in seconds since the Unix epoch.
    pub fn issue_until(&self, end: u64, name: &str, authority: &str, alternative: &str) {
        self.issue_between("200101000000Z", &stamp(end), name, authority, alternative);
    }

    fn issue_between(&self, start: &str, end: &str, name: &str, authority: &str, alternative: &str) {
        self.request(&format!("/CN={name}"), alternative);
        self.0.write("index", "");
        let settings = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=any\n\
                        [any]\ncommonName=supplied\n";
        self.0.write("ca.cnf", settings);
        let signer = format!("-cert {authority}.crt -keyfile {authority}.key -startdate {start} -enddate {end}");
        let files = "-config ca.cnf -in draft.csr -out draft.crt -extfile draft.ext";
        self.openssl(&format!("ca -batch -notext {signer} {files}"));
        self.put(name);
    }

    /// Makes `NAME.crl`, the list of an authority with these certificates on it; valid for 30 days, or only in the year 2020.
    pub fn revocations(&self, name: &str, authority: &str, revoked: &[&str], expired: bool) {
        let valid = if expired { "-crl_lastupdate 200101000000Z -crl_nextupdate 210101000000Z" } else { "-crldays 30" };
        self.list(name, authority, revoked, valid);
    }

    /// Like [`Certificates::revocations`], valid from 2020 up to a time, in seconds since the Unix epoch.
    pub fn revocations_until(&self, end: u64, name: &str, authority: &str) {
        self.list(name, authority, &[], &format!("-crl_lastupdate 200101000000Z -crl_nextupdate {}", stamp(end)));
    }

    fn list(&self, name: &str, authority: &str, revoked: &[&str], valid: &str) {
        self.0.write("index", "");
        self.0.write("crlnumber", "01\n");
        let settings = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\ncrlnumber=crlnumber\ndefault_md=sha256\ncrl_extensions=list\n\
                        [list]\nauthorityKeyIdentifier=keyid:always\n";
        self.0.write("list.cnf", settings);
        let signer = format!("-config list.cnf -cert {authority}.crt -keyfile {authority}.key");
        for certificate in revoked {
            self.openssl(&format!("ca {signer} -revoke {certificate}.crt"));
        }
        self.openssl(&format!("ca {signer} -gencrl {valid} -out draft.crl"));
        let rename = std::fs::rename(self.path("draft.crl"), self.path(&format!("{name}.crl")));
        rename.expect("a writable folder");
    }

    /// Puts several files behind each other, into one of another name.
    pub fn join(&self, files: &[&str], to: &str) {
        let read = |file: &&str| std::fs::read(self.path(file)).expect("a file that was made");
        self.0.write(to, files.iter().flat_map(read).collect::<Vec<u8>>());
    }

    fn request(&self, subject: &str, alternative: &str) {
        self.0.write("draft.ext", format!("subjectAltName={alternative}\nbasicConstraints=CA:FALSE\n"));
        self.openssl(&format!("req {KEY} -keyout draft.key -out draft.csr -subj {subject}"));
    }

    fn put(&self, name: &str) {
        for kind in ["key", "crt"] {
            let rename =
                std::fs::rename(self.0.path().join(format!("draft.{kind}")), self.path(&format!("{name}.{kind}")));
            rename.expect("a writable folder");
        }
    }

    /// Copies a file over another, by renaming.
    pub fn copy(&self, from: &str, to: &str) {
        self.0.write(to, std::fs::read(self.path(from)).expect("a file that was made"));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output();
        let output = output.expect("`openssl` must be installed; `cargo xtask test` does so");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The path of a file in the folder.
    #[must_use]
    pub fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    /// A certificate and its key as a configuration names them, without braces.
    #[must_use]
    pub fn pair(&self, name: &str) -> String {
        format!("cert: \"{}\", key: \"{}\"", self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")))
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).expect("a certificate that was made")
    }

    fn key(&self, name: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).expect("a key that was made")
    }

    fn roots(&self, authority: &str) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der(authority)).expect("an authority");
        roots
    }

    /// A client that takes any certificate, shows `identity`, offers `alpn`, and keeps sessions from one connection to the next.
    #[must_use]
    pub fn client(
        &self,
        identity: Option<&str>,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsClient {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).expect("versions");
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider())));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => builder.with_client_auth_cert(vec![self.der(name)], self.key(name)).expect("an identity"),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsClient(Arc::new(config))
    }

    /// The server side with one certificate; `clients` is the authority whose clients alone may come.
    #[must_use]
    pub fn server(&self, name: &str, clients: Option<&str>, alpn: &[&str]) -> TlsServer {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots(authority)), provider());
                builder.with_client_cert_verifier(verifier.build().expect("an authority"))
            }
        };
        let mut config = builder.with_single_cert(vec![self.der(name)], self.key(name)).expect("a certificate");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsServer(Arc::new(config))
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// A time, in seconds since the Unix epoch, as `openssl ca` takes it.
fn stamp(seconds: u64) -> String {
    let output = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%y%m%d%H%M%SZ"]).output();
    let output = output.expect("`date` of the system");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The client side, with the sessions it has been given so far.
#[derive(Clone, Debug)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Connects and shakes hands, asking for `name`; an address asks for none.
    ///
    /// # Errors
    /// What failed. With TLS 1.3 a server refuses a client only after the client's side of the handshake is done: the first read tells.
    pub fn try_connect(&self, address: &Address, name: &str) -> std::io::Result<Stream> {
        self.try_over(Stream::connect(address)?, name)
    }

    /// Like [`TlsClient::try_connect`], over a connection that is there.
    ///
    /// # Errors
    /// What failed.
    pub fn try_over(&self, stream: Stream, name: &str) -> std::io::Result<Stream> {
        let Stream::Tcp(socket) = stream else { panic!("TLS over a Unix socket") };
        let name = ServerName::try_from(name.to_owned()).expect("a name or an address");
        let connection = ClientConnection::new(Arc::clone(&self.0), name).expect("settings that fit");
        Tls::shake(connection.into(), socket).map(|tls| Stream::Tls(Box::new(tls)))
    }

    /// Like [`TlsClient::try_connect`], for handshakes that go well.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn connect(&self, address: &Address, name: &str) -> Stream {
        self.try_connect(address, name).unwrap_or_else(|error| panic!("TLS to {address} as {name}: {error}"))
    }
}

/// The server side.
#[derive(Clone, Debug)]
pub struct TlsServer(Arc<ServerConfig>);

impl TlsServer {
    /// Shakes hands over an accepted connection.
    ///
    /// # Errors
    /// What failed.
    pub fn accept(&self, stream: Stream) -> std::io::Result<Stream> {
        let Stream::Tcp(socket) = stream else { panic!("TLS over a Unix socket") };
        let connection = ServerConnection::new(Arc::clone(&self.0)).expect("settings that fit");
        Tls::shake(connection.into(), socket).map(|tls| Stream::Tls(Box::new(tls)))
    }
}

/// One end of a TLS connection.
#[derive(Debug)]
pub struct Tls {
    connection: Connection,
    /// The socket below.
    pub socket: TcpStream,
}

impl Tls {
    fn shake(connection: Connection, socket: TcpStream) -> std::io::Result<Self> {
        let mut own = Self { connection, socket };
        while own.connection.is_handshaking() {
            own.connection.complete_io(&mut own.socket)?;
        }
        own.write_out()?;
        Ok(own)
    }

    /// Whether an earlier session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What ALPN agreed on.
    #[must_use]
    pub fn agreed(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The certificate that the other end showed.
    #[must_use]
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.connection.peer_certificates()?.first().map(|der| der.clone().into_owned())
    }

    fn write_out(&mut self) -> std::io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // an end without a word is how many peers close
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            self.connection.read_tls(&mut self.socket)?;
            let processed = self.connection.process_new_packets();
            // an alert is said even when what came is refused
            let written = self.write_out();
            processed.map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
            written?;
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // what an earlier write left behind goes first, so that no more than one record waits
        self.write_out()?;
        let count = self.connection.writer().write(&bytes[..bytes.len().min(16_384)])?;
        match self.write_out() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(count),
            Err(error) => Err(error),
            Ok(()) => Ok(count),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.write_out()
    }
}

/// Accepts any certificate: which one was shown is what tests ask. Signatures are still checked.
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
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
