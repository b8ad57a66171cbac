//! TLS to the database, as `libpq` names it: `sslmode`, `sslrootcert`, `sslcert` and `sslkey` in the address.
//!
//! | `sslmode` | what it does |
//! | --- | --- |
//! | none, `disable`, `allow` | no TLS: a socket, loopback, or a network that is trusted |
//! | `prefer` | TLS if the database offers it; nobody is verified |
//! | `require` | TLS; with `sslrootcert` as `verify-ca`, as `libpq` does it, else nobody is verified |
//! | `verify-ca` | TLS; the certificate must be signed by one of `sslrootcert`, or be one of them |
//! | `verify-full` | the same, and it must be for the host of the address |
//!
//! `sslrootcert=system` is the bundle of the system. `sslcert` with `sslkey` is the certificate that this server shows, in PEM files; the
//! key may be read by its owner alone. A password, where one is wanted, comes from `PGPASSWORD`.

use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use postgres::{Client, Config, NoTls, Socket};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;

/// Where Debian and most others keep the certificates that the system trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How the database is asked and believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Unverified,
    /// The certificate, but not the host's name.
    Authority,
    Full,
}

/// An address without what only this module understands, and what that was.
struct Wish {
    address: String,
    mode: Mode,
    roots: Option<String>,
    own: Option<Own>,
}

/// The files of the certificate that this server shows, and of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    certificate: String,
    key: String,
}

/// Opens a connection to `address`; `prepare` sets what is not in it.
pub(super) fn connect(address: &str, prepare: impl FnOnce(&mut Config)) -> Result<Client, Error> {
    let failed = super::postgres::failed_at(address);
    let wish = wish(address)?;
    let mut config: Config = wish.address.parse().map_err(&failed)?;
    prepare(&mut config);
    match wish.mode {
        Mode::Plain => config.connect(NoTls).map_err(&failed),
        mode @ (Mode::Unverified | Mode::Authority | Mode::Full) => {
            let tls = Tls(Arc::new(client(mode, wish.roots.as_deref(), wish.own.as_ref())?));
            config.connect(tls).map_err(&failed)
        }
    }
}

/// Reads what is said of TLS out of an address.
fn wish(address: &str) -> Result<Wish, Error> {
    let (start, query) = address.split_once('?').unwrap_or((address, ""));
    let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
    let (mut certificate, mut key) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", word)) => mode = Some(word.to_owned()),
            Some(("sslrootcert", path)) => roots = Some(percent_decoded(path)),
            Some(("sslcert", path)) => certificate = Some(percent_decoded(path)),
            Some(("sslkey", path)) => key = Some(percent_decoded(path)),
            Some(_) | None => rest.push(pair.to_owned()),
        }
    }
    let (mode, word) = match (mode.as_deref(), &roots) {
        (None | Some("disable" | "allow"), _) => (Mode::Plain, "disable"),
        (Some("prefer"), _) => (Mode::Unverified, "prefer"),
        (Some("require"), None) => (Mode::Unverified, "require"),
        (Some("require" | "verify-ca"), Some(_)) => (Mode::Authority, "require"),
        (Some("verify-full"), Some(_)) => (Mode::Full, "require"),
        (Some(word @ ("verify-ca" | "verify-full")), None) => {
            return Err(Error::Invalid(format!(
                "sslmode={word} verifies the database by a certificate: add sslrootcert=PATH, or sslrootcert=system"
            )));
        }
        (Some(other), _) => {
            return Err(Error::Invalid(format!(
                "sslmode={other} is none of disable, allow, prefer, require, verify-ca, verify-full"
            )));
        }
    };
    let own = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) if mode != Mode::Plain => Some(Own { certificate, key }),
        (Some(_), Some(_)) => {
            return Err(Error::Invalid(
                "sslcert is shown over TLS alone: add sslmode=verify-full, or require".to_owned(),
            ));
        }
        (Some(_), None) => return Err(Error::Invalid("sslcert needs its key: add sslkey=PATH".to_owned())),
        (None, Some(_)) => return Err(Error::Invalid("sslkey is of no use without sslcert=PATH".to_owned())),
    };
    rest.push(format!("sslmode={word}"));
    Ok(Wish { address: format!("{start}?{}", rest.join("&")), mode, roots, own })
}

/// `%2F` as the byte that it stands for.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let byte = code.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn client(mode: Mode, roots: Option<&str>, own: Option<&Own>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        provider: Arc::clone(&provider),
        known: roots.map(|path| known(path, &provider)).transpose()?,
        mode,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Invalid(format!("TLS to the database: {error}")))?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    match own {
        None => Ok(config.with_no_client_auth()),
        Some(Own { certificate, key }) => {
            let bad = |why: String| Error::Invalid(format!("sslcert={certificate}, sslkey={key}: {why}"));
            let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let chain = chain.map_err(|error| bad(error.to_string()))?;
            let mode = std::fs::metadata(key).map_err(|error| bad(error.to_string()))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(bad(format!("the key's mode is {:o}: others may read it; chmod 600 it", mode & 0o777)));
            }
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(error.to_string()))?;
            config.with_client_auth_cert(chain, key).map_err(|error| bad(error.to_string()))
        }
    }
}

/// Certificates that are trusted, and what verifies others by them.
#[derive(Debug)]
struct Known {
    roots: Vec<CertificateDer<'static>>,
    chains: Arc<WebPkiServerVerifier>,
}

fn known(path: &str, provider: &Arc<CryptoProvider>) -> Result<Known, Error> {
    let path = if path == "system" { SYSTEM } else { path };
    let bad = |why: String| Error::Invalid(format!("sslrootcert={path}: {why}"));
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let roots: Vec<CertificateDer<'static>> = read.map_err(|error| bad(error.to_string()))?;
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
    if added == 0 {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
    Ok(Known { roots, chains: chains.map_err(|error| bad(error.to_string()))? })
}

/// Verifies the database as the mode says.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    known: Option<Known>,
    mode: Mode,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(known) = self.known.as_ref().filter(|_| self.mode != Mode::Unverified) else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = if known.roots.iter().any(|root| root.as_ref() == end_entity.as_ref()) {
            // It was named itself: whoever has its key is the one that was meant.
            let certificate = ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_name(&certificate, server_name).map(|()| ServerCertVerified::assertion())
        } else {
            known.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match verified {
            // The chain is looked at before the name.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.mode == Mode::Authority => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes connections of the database's client encrypted ones.
#[derive(Clone)]
struct Tls(Arc<ClientConfig>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = To;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<To, Self::Error> {
        Ok(To { config: Arc::clone(&self.0), host: ServerName::try_from(domain)?.to_owned() })
    }
}

/// One handshake to come.
struct To {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
}

impl TlsConnect<Socket> for To {
    type Stream = Stream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, std::io::Error>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let connected = tokio_rustls::TlsConnector::from(self.config).connect(self.host, stream).await?;
            Ok(Stream(Box::new(connected)))
        })
    }
}

/// An encrypted connection.
struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_and_the_rest_is_left_for_the_client() {
        let read = |address: &str| wish(address).map(|wish| (wish.address, wish.mode, wish.roots));
        let plain = "postgres://u@h/d?sslmode=disable".to_owned();
        assert_eq!(read("postgres://u@h/d").unwrap(), (plain, Mode::Plain, None));
        let (address, mode, roots) =
            read("postgres://u@h/d?sslrootcert=%2Fetc%2Fca.crt&connect_timeout=3&sslmode=verify-full").unwrap();
        assert_eq!(address, "postgres://u@h/d?connect_timeout=3&sslmode=require");
        assert_eq!((mode, roots.as_deref()), (Mode::Full, Some("/etc/ca.crt")));
        assert_eq!(read("postgres://h/d?sslmode=require").unwrap().1, Mode::Unverified);
        assert_eq!(read("postgres://h/d?sslmode=require&sslrootcert=a").unwrap().1, Mode::Authority);
        for (wrong, part) in [("verify-full", "sslrootcert=PATH"), ("sometimes", "is none of")] {
            let error = read(&format!("postgres://h/d?sslmode={wrong}")).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let own = |query: &str| wish(&format!("postgres://h/d?{query}")).map(|wish| wish.own);
        let (certificate, key) = ("/a b".to_owned(), "/k".to_owned());
        assert_eq!(own("sslmode=require&sslcert=%2Fa%20b&sslkey=/k").unwrap(), Some(Own { certificate, key }));
        for (wrong, part) in [
            ("sslmode=require&sslcert=a", "sslkey=PATH"),
            ("sslmode=require&sslkey=a", "without sslcert"),
            ("sslcert=a&sslkey=b", "over TLS alone"),
        ] {
            let error = own(wrong).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(client(Mode::Full, Some("/no/such/file"), None).unwrap_err().to_string().contains("/no/such/file"));
    }
}
