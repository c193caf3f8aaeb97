//! Certificates of the port and of its clients: renewed while the server runs, and tokens that are good only with one.

use std::{fs, path::PathBuf, time::Duration};

use heedwell::{
    app::App,
    auth::{LocalKey, NewToken},
    domain::{Practices, Role},
    grpc::proto::{ListDeliveriesRequest, ListDeliveriesResponse},
    ports::thumbprint,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
use tokio::time::timeout;
use tonic::{
    Code, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity},
};

use super::{given::bare_practice, seen::refused};
use crate::support::app::{ACME, Caller, LIMIT, TestApp, on_a_server};

/// An authority, whose word counts for whoever trusts its certificate.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    fn vouch(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        [certificate.pem(), key.serialize_pem()]
    }
}

/// A server with certificates, and where they are.
struct Secured {
    app: App,
    files: [PathBuf; 3],
}

impl Secured {
    /// Starts in the place of the test's own server.
    async fn start(t: &mut TestApp, [chain, key]: &[String; 2], clients: Option<&Authority>) -> Self {
        t.stop().await;
        let files = ["chain.pem", "key.pem", "clients.pem"].map(|name| t.home.path(name));
        let mut env = t.env();
        let clients = clients.map(Authority::pem);
        for (variable, path, pem) in [
            ("CERT", &files[0], Some(chain)),
            ("KEY", &files[1], Some(key)),
            ("CLIENT_CA", &files[2], clients.as_ref()),
        ] {
            if let Some(pem) = pem {
                fs::write(path, pem).unwrap();
                env.set(&format!("HEEDWELL_TLS_{variable}_FILE"), path.display().to_string());
            }
        }
        let mut config = heedwell::config::read(&env, true).unwrap();
        config.ports.certificates = Duration::from_millis(10);
        Self { app: App::start(config, t.time()).await.unwrap(), files }
    }

    async fn connect(&self, trusts: &Authority, identity: Option<&[String; 2]>) -> Result<Channel, Error> {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusts.pem())).domain_name("server.example");
        if let Some([chain, key]) = identity {
            tls = tls.identity(Identity::from_pem(chain, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.app.grpc_addr)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    /// Tries until a call gets through to the server, whatever it answers.
    async fn until_served(&self, trusts: &Authority, identity: Option<&[String; 2]>) -> Channel {
        let tried = async {
            loop {
                if let Ok(channel) = self.connect(trusts, identity).await
                    && is_served(&channel).await
                {
                    return channel;
                }
            }
        };
        timeout(LIMIT, tried).await.expect("the changed files count")
    }
}

/// A client's certificate is refused only after the client believes that it is connected (TLS 1.3).
async fn is_served(channel: &Channel) -> bool {
    list(channel, "").await.is_err_and(|status| status.code() == Code::Unauthenticated)
}

async fn list(channel: &Channel, token: &str) -> Result<Response<ListDeliveriesResponse>, Status> {
    let request = ListDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
    Caller::new(channel.clone(), token).notify.list_deliveries(request).await
}

/// A token of the server's own key that is bound to a certificate.
fn bound(t: &TestApp, certificate: &str) -> String {
    let key = heedwell::config::local_key(&t.home.path("data"));
    let (key, _) = LocalKey::load_or_create(&key).unwrap();
    let token = NewToken {
        subject: "svc-1".into(),
        name: String::new(),
        practices: Practices::Named([ACME.parse().unwrap()].into()),
        roles: [Role::Staff].into(),
        patient: None,
        ttl: Duration::from_secs(3_600),
    };
    let certificate = thumbprint(certificate).unwrap();
    let bond = heedwell::auth::Bond { certificate: Some(&certificate), emergency: None };
    key.issue_bound(&token, ("heedwell", "heedwell"), t.now(), bond)
}

on_a_server! {
    sqlite:
    async fn a_renewed_certificate_counts_without_a_restart(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let token = t.token(Role::Staff);
        let (old, new) = (Authority::new(), Authority::new());
        let server = Secured::start(t, &old.vouch("server.example"), None).await;
        let before = server.connect(&old, None).await.unwrap();
        list(&before, &token).await.unwrap();

        let [chain, key] = new.vouch("server.example");
        fs::write(&server.files[0], chain).unwrap();
        fs::write(&server.files[1], key).unwrap();
        let after = server.until_served(&new, None).await;
        list(&after, &token).await.unwrap();
        assert!(server.connect(&old, None).await.is_err(), "nobody gets the old one any more");
        // Whoever was connected is.
        list(&before, &token).await.unwrap();
        server.app.stop().await;
        t.start().await;
    }

    async fn whose_clients_may_connect_changes_without_a_restart(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let token = t.token(Role::Staff);
        let (old, new) = (Authority::new(), Authority::new());
        let server = Secured::start(t, &old.vouch("server.example"), Some(&old)).await;
        let of = |authority: &Authority| authority.vouch("client.example");
        let (known, stranger) = (of(&old), of(&new));
        let before = server.connect(&old, Some(&known)).await.unwrap();
        list(&before, &token).await.unwrap();
        for identity in [None, Some(&stranger)] {
            if let Ok(channel) = server.connect(&old, identity).await {
                assert!(!is_served(&channel).await, "no certificate of this authority, and served");
            }
        }
        fs::write(&server.files[2], new.pem()).unwrap();
        let after = server.until_served(&old, Some(&stranger)).await;
        list(&after, &token).await.unwrap();
        if let Ok(channel) = server.connect(&old, Some(&known)).await {
            assert!(!is_served(&channel).await, "of an authority that counts no more, and served");
        }
        list(&before, &token).await.unwrap();
        server.app.stop().await;
        t.start().await;
    }

    async fn a_token_that_is_bound_to_a_certificate_is_good_with_it_alone(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let authority = Authority::new();
        let (own, other) = (authority.vouch("svc-1.example"), authority.vouch("svc-2.example"));
        let (bound, free) = (bound(t, &own[0]), t.token(Role::Staff));
        // In the clear, and as a browser does it, there is no certificate.
        refused(list(&t.channel(), &bound).await, Code::Unauthenticated, "TOKEN_INVALID");
        list(&t.channel(), &free).await.unwrap();
        let server = Secured::start(t, &authority.vouch("server.example"), Some(&authority)).await;
        let [with_own, with_other] =
            [server.connect(&authority, Some(&own)).await, server.connect(&authority, Some(&other)).await];
        let (with_own, with_other) = (with_own.unwrap(), with_other.unwrap());
        list(&with_own, &bound).await.unwrap();
        // Twice, since what was verified once is remembered.
        for _ in 0..2 {
            refused(list(&with_other, &bound).await, Code::Unauthenticated, "TOKEN_INVALID");
        }
        for channel in [&with_own, &with_other] {
            list(channel, &free).await.unwrap();
        }
        server.app.stop().await;
        t.start().await;
    }
}
