//! Certificates made for a test, and clients that use them.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A certificate authority with what it has signed, in a folder.
pub struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// With the certificates `node` and `client` signed.
    pub fn new() -> Authority {
        let dir = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        fs::write(dir.path().join("ca.crt"), own.pem()).expect("written");
        let authority = Authority {
            dir,
            issuer: Issuer::new(params, key),
        };
        authority.sign("node");
        authority.sign("client");
        authority
    }

    /// Signs a new certificate, and puts it with its key into files of that name.
    pub fn sign(&self, name: &str) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a signature");
        fs::write(self.path(&format!("{name}.crt")), signed.pem()).expect("written");
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// The lines of a configuration that uses it.
    pub fn directives(&self) -> Vec<String> {
        [
            ("tls-cert-file", "node.crt"),
            ("tls-key-file", "node.key"),
            ("tls-ca-cert-file", "ca.crt"),
        ]
        .iter()
        .map(|(name, file)| format!("{name} \"{}\"", self.path(file).display()))
        .collect()
    }

    /// How a client connects that trusts this authority; with its certificate, if it is to show one.
    pub fn client(&self, shows: bool, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.path("ca.crt"))).expect("added");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots);
        if !shows {
            return builder.with_no_client_auth();
        }
        let key = PrivateKeyDer::from_pem_file(self.path("client.key")).expect("a key");
        builder
            .with_client_auth_cert(vec![certificate(&self.path("client.crt"))], key)
            .expect("a certificate")
    }
}

pub fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}

/// A client by TLS.
pub struct TlsClient(pub StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    /// Connects, and does the handshake as far as it can be seen from here: of TLS 1.3, a server's refusal is only seen with the first reply.
    pub fn connect(port: u16, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient(stream))
    }

    pub fn version(&self) -> Option<ProtocolVersion> {
        self.0.conn.protocol_version()
    }

    /// Sends a line, and reads the line (or the string) that comes back.
    pub fn ask(&mut self, line: &str) -> io::Result<String> {
        self.0.write_all(line.as_bytes())?;
        self.0.write_all(b"\r\n")?;
        self.reply()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// A reply that is no collection.
    pub fn reply(&mut self) -> io::Result<String> {
        let line = self.line()?;
        let Some(len) = line.strip_prefix('$') else {
            return Ok(line);
        };
        let len: usize = len.parse().map_err(io::Error::other)?;
        let mut bytes = vec![0; len + 2];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(len);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
