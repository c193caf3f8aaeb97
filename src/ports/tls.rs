//! The certificate of a port, and whose certificates its clients must have. Both are files that somebody renews: what changes there
//! is taken as it is, while connections go on, and what cannot be used changes nothing.

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ring::digest;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring as provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio::{net::TcpStream, task::spawn_blocking, time::sleep};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::telemetry;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("a file cannot be read")]
    Unreadable(#[from] io::Error),
    /// Not PEM, or not what it must hold.
    #[error("it holds no such thing in PEM")]
    Pem(#[from] pem::Error),
    /// No certificate in PEM, or one that cannot be read.
    #[error("it holds no certificate that can be read")]
    NoCertificate,
    /// The key is not that of the certificate, or of a kind that is not known.
    #[error("the certificate and the key do not go together")]
    Pair(#[from] rustls::Error),
    /// The authority's certificate cannot be used.
    #[error("the certificate of the clients' authority cannot be used")]
    Authority(#[from] VerifierBuilderError),
}

/// Where the certificates are, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the port's own certificate first.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Clients must show certificates of this authority; unset: none.
    pub authority: Option<PathBuf>,
}

/// What the files hold.
struct Texts {
    chain: String,
    key: Zeroizing<String>,
    authority: Option<String>,
}

impl TlsFiles {
    fn read(&self) -> io::Result<Texts> {
        Ok(Texts {
            chain: fs::read_to_string(&self.chain)?,
            key: fs::read_to_string(&self.key)?.into(),
            authority: self.authority.as_ref().map(fs::read_to_string).transpose()?,
        })
    }
}

impl Texts {
    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(provider::default_provider());
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let config = match &self.authority {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
                    roots.add(root?)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                config.with_client_cert_verifier(verifier)
            }
        };
        let mut config = config.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Tells what is there from what was there before, without keeping the key a second time.
    fn mark(&self) -> Mark {
        let mut context = digest::Context::new(&digest::SHA256);
        for text in [self.chain.as_str(), self.key.as_str(), self.authority.as_deref().unwrap_or_default()] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        Mark(Some(context.finish().as_ref().to_vec()))
    }
}

/// What was found in the files; unset: they could not be read.
#[derive(Clone, PartialEq, Eq)]
struct Mark(Option<Vec<u8>>);

/// TLS of a port, for HTTP/2.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    begun_with: Mark,
    current: Arc<RwLock<TlsAcceptor>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds the key.
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// From these files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let texts = files.read()?;
        let current = Arc::new(RwLock::new(texts.acceptor()?));
        Ok(Self { files, begun_with: texts.mark(), current })
    }

    /// Where its certificates are.
    #[must_use]
    pub const fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the files this often until `stop`, and takes what has changed.
    pub async fn follow(self, every: Duration, stop: CancellationToken) {
        let mut watch = Watch::of(self);
        while stop.run_until_cancelled(sleep(every)).await.is_some() {
            match spawn_blocking(move || (watch.look(), watch)).await {
                Ok((_, back)) => watch = back,
                // The runtime is going away.
                Err(_) => return,
            }
        }
    }
}

/// What a look at the files came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// As before.
    Same,
    /// Something else, which may not be whole yet: of a certificate and its key one is written first.
    Changing,
    /// Something else that has stayed as it is; it counts from now on.
    Taken,
    /// Something else that cannot be used.
    Refused,
}

struct Watch {
    tls: Tls,
    /// What was decided on last.
    settled: Mark,
    seen: Mark,
}

impl Watch {
    fn of(tls: Tls) -> Self {
        Self { settled: tls.begun_with.clone(), seen: tls.begun_with.clone(), tls }
    }

    fn look(&mut self) -> Look {
        let texts = self.tls.files.read();
        let now = texts.as_ref().map_or(Mark(None), Texts::mark);
        if now != self.seen {
            self.seen = now;
            return Look::Changing;
        }
        if now == self.settled {
            return Look::Same;
        }
        // Whatever comes of it, it is said once.
        self.settled = now;
        match texts.map_err(TlsError::from).and_then(|texts| texts.acceptor()) {
            Ok(acceptor) => {
                *self.tls.current.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                tracing::info!("certificates changed: new connections use what the files hold now");
                Look::Taken
            }
            Err(error) => {
                tracing::error!(
                    error = %telemetry::chain(&error),
                    "certificates changed and cannot be used: new connections use what was there before"
                );
                Look::Refused
            }
        }
    }
}

/// The thumbprint of the certificate with which a client began.
pub(super) fn of_client(tls: &TlsStream<TcpStream>) -> Option<[u8; 32]> {
    let (_, session) = tls.get_ref();
    session.peer_certificates()?.first().map(sha256)
}

/// The thumbprint of the first certificate in a text, by which tokens are bound to it (RFC 8705, 3.1).
///
/// # Errors
/// When there is none.
pub fn thumbprint(pem: &str) -> Result<[u8; 32], TlsError> {
    Ok(sha256(&CertificateDer::from_pem_slice(pem.as_bytes())?))
}

fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    thumbprint
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    fn files(folder: &TempDir) -> TlsFiles {
        let path = |name| folder.path().join(name);
        TlsFiles { chain: path("chain"), key: path("key"), authority: Some(path("authority")) }
    }

    fn pair() -> [String; 2] {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        [cert.pem(), signing_key.serialize_pem()]
    }

    #[test]
    fn what_has_changed_is_taken_once_it_stays_and_what_is_bad_never() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        let write = |path: &PathBuf, text: &str| fs::write(path, text).unwrap();
        let [chain, key] = pair();
        write(&files.chain, &chain);
        write(&files.key, &key);
        write(files.authority.as_ref().unwrap(), &chain);
        let tls = Tls::new(files.clone()).unwrap();
        let config = || Arc::clone(tls.acceptor().config());
        let first = config();
        let mut watch = Watch::of(tls.clone());
        assert_eq!(watch.look(), Look::Same);

        // A certificate before its key.
        let [chain, key] = pair();
        write(&files.chain, &chain);
        assert_eq!(watch.look(), Look::Changing);
        write(&files.key, &key);
        assert_eq!(watch.look(), Look::Changing);
        assert!(Arc::ptr_eq(&config(), &first));
        assert_eq!([watch.look(), watch.look()], [Look::Taken, Look::Same]);
        assert!(!Arc::ptr_eq(&config(), &first));

        let authority = files.authority.clone().unwrap();
        for (path, bad) in [
            (&files.key, Some(KeyPair::generate().unwrap().serialize_pem())),
            (&files.chain, Some(String::new())),
            (&files.chain, Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into())),
            (&authority, Some("nobody".into())),
            (&files.key, None),
            (&authority, None),
        ] {
            let (good, before) = (fs::read_to_string(path).unwrap(), config());
            match &bad {
                Some(bad) => write(path, bad),
                None => fs::remove_file(path).unwrap(),
            }
            assert_eq!([watch.look(), watch.look(), watch.look()], [Look::Changing, Look::Refused, Look::Same]);
            assert!(Arc::ptr_eq(&config(), &before), "what was there before is still in use");
            write(path, &good);
            assert_eq!([watch.look(), watch.look(), watch.look()], [Look::Changing, Look::Taken, Look::Same]);
        }
    }
}
