//! TLS as a client, on sockets that do not block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// What the command line says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates of the authorities that are believed.
    pub ca: Option<std::path::PathBuf>,
    /// Our own certificate and its key, if the server wants one.
    pub own: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// The name that the server's certificate must have; otherwise that of the host.
    pub name: Option<String>,
    /// Whether any certificate will do.
    pub insecure: bool,
}

/// How connections are secured.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: Option<String>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them, for the user.
    pub fn new(options: &TlsOptions) -> Result<Tls, String> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = match &options.ca {
            _ if options.insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    let added = roots.add(certificate);
                    added.map_err(|e| format!("{}: {e}", file.display()))?;
                }
                builder.with_root_certificates(roots)
            }
            None => {
                return Err("--tls needs --cacert FILE, or --insecure".to_owned());
            }
        };
        let config = match &options.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|e| format!("{}: {e}", key.display()))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|e| format!("{}: {e}", certificate.display()))?
            }
        };
        Ok(Tls {
            config: Arc::new(config),
            name: options.name.clone(),
        })
    }

    /// Shakes hands on a connection that still blocks.
    pub(crate) fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream> {
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut tls = TlsStream {
            connection,
            socket: Socket {
                stream,
                blocks: true,
                drained: false,
            },
        };
        while tls.connection.is_handshaking() {
            tls.connection.complete_io(&mut tls.socket)?;
        }
        Ok(tls)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |e: rustls::pki_types::pem::Error| format!("{}: {e}", file.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    match all.is_empty() {
        true => Err(format!("{}: no certificate in it", file.display())),
        false => Ok(all),
    }
}

/// A connection whose bytes are secret.
#[derive(Debug)]
pub struct TlsStream {
    connection: ClientConnection,
    socket: Socket,
}

/// Notes whether the system had less than was asked for: then there is nothing more until it says so.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    blocks: bool,
    drained: bool,
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buf)?;
        self.drained = !self.blocks && read < buf.len();
        Ok(read)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    /// What it goes through.
    pub fn socket(&self) -> &TcpStream {
        &self.socket.stream
    }

    /// Makes reading and writing return instead of waiting.
    ///
    /// # Errors
    /// The system's.
    pub fn set_nonblocking(&mut self) -> io::Result<()> {
        self.socket.blocks = false;
        self.socket.stream.set_nonblocking(true)
    }

    /// Whether something was accepted that the system has not taken yet.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    fn push(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.stream.as_fd()
    }
}

impl Read for TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buf) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if std::mem::take(&mut self.socket.drained) {
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.connection.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            self.connection
                .process_new_packets()
                .map_err(io::Error::other)?;
            // A new key, say; if it cannot leave now it leaves with the next command.
            match self.push() {
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
                _ => {}
            }
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // Nothing new before the old has gone, so that memory stays bounded.
        self.push()?;
        let taken = self.connection.writer().write(buf)?;
        match self.push() {
            Err(e) if e.kind() != ErrorKind::WouldBlock => Err(e),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

/// Believes everybody: for measuring only.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
