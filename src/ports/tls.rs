//! The certificate of a port, and whose certificates its clients must have.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not what it must hold.
    #[error("it holds no such thing in PEM")]
    Pem(#[from] pem::Error),
    /// The key is not that of the certificate, or of a kind that is not known.
    #[error("the certificate and the key do not go together")]
    Pair(#[from] rustls::Error),
    /// The authority's certificate cannot be used.
    #[error("the certificate of the clients' authority cannot be used")]
    Authority(#[from] VerifierBuilderError),
}

/// TLS of a port, for HTTP/2.
#[derive(Clone)]
pub struct Tls(pub(super) TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It holds the key.
        f.write_str("Tls")
    }
}

impl Tls {
    /// From a chain of certificates and its key; with `authority`, clients must show certificates of that authority.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(chain: &str, key: &str, authority: Option<&str>) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let provider = Arc::new(ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let config = match authority {
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
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}
