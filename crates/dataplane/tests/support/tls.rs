//! Certificates for the tests of TLS, and both sides of it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A folder with `ca.crt`, and `a.crt` and `a.key` for `a.test` and the loopback address; removed when dropped.
pub struct Certificates(PathBuf);

impl Certificates {
    /// Makes them with `openssl`; `name` is unique in its test program.
    pub fn new(name: &str) -> Certificates {
        let folder = std::env::temp_dir().join(format!("daemun-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let openssl = |arguments: &str| {
            let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output();
            let output = output.expect("`openssl` must be installed; `cargo xtask test` does so");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        std::fs::write(folder.join("ext"), "subjectAltName=DNS:a.test,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .unwrap();
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 30 -subj /CN=test-ca"));
        openssl(&format!("req {key} -keyout a.key -out a.csr -subj /CN=a.test"));
        openssl("x509 -req -in a.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out a.crt");
        Certificates(folder)
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The certificate in DER.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.0.join("a.crt")).unwrap()
    }

    /// Settings of a listener that shows this certificate.
    pub fn listener(&self, more: &str) -> String {
        let (cert, key) = (self.path("a.crt"), self.path("a.key"));
        format!("    tls:\n      certificates: [{{ cert: \"{cert}\", key: \"{key}\" }}]\n{more}")
    }

    /// The client side, without a certificate.
    pub fn connector(&self, alpn: &[&str]) -> TlsConnector {
        self.connector_as(alpn, false)
    }

    /// The client side, which shows the certificate when it is `known`.
    pub fn connector_as(&self, alpn: &[&str], known: bool) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.0.join("ca.crt")).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        let mut config = if known {
            let key = PrivateKeyDer::from_pem_file(self.0.join("a.key")).unwrap();
            builder.with_client_auth_cert(vec![self.der()], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// The server side.
    pub fn acceptor(&self, alpn: &[&str]) -> TlsAcceptor {
        let chain = vec![self.der()];
        let key = PrivateKeyDer::from_pem_file(self.0.join("a.key")).unwrap();
        let builder = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
