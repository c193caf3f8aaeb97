#![expect(clippy::unwrap_used, reason = "tests")]
use std::sync::Arc;

use super::*;
use crate::{
    auth::{JwksSource, Settings, TokenError, Verifier},
    clock::{Clock, ManualClock},
};

const ISSUER: &str = "https://heedwell.example.com";
const AUDIENCE: &str = "heedwell";

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(DateTime::from_timestamp_millis(1_800_000_000_900).unwrap()))
}

fn new_token() -> NewToken {
    NewToken {
        subject: "dana@example.com".into(),
        name: "Dana Ruiz".into(),
        practices: Practices::Named(["p1", "p2"].map(|id| id.parse().unwrap()).into()),
        roles: [Role::Patient, Role::PracticeAdmin].into(),
        patient: Some("pat-1".parse().unwrap()),
        ttl: Duration::from_secs(60),
    }
}

async fn verifier(jwks: Option<JwksSource>, local_key: Option<PathBuf>, clock: Arc<ManualClock>) -> Verifier {
    let (issuer, audience) = (ISSUER.into(), AUDIENCE.into());
    let settings = Settings { jwks, issuer, audience, leeway: Duration::ZERO, local_key, emergency_key: None };
    Verifier::new(settings, clock).await.unwrap()
}

#[tokio::test]
async fn a_token_issued_here_is_verified_here_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let clock = clock();
    // The server makes the key if it starts first.
    let verifier = verifier(None, Some(path.clone()), clock.clone()).await;
    let (key, made) = LocalKey::load_or_create(&path).unwrap();
    assert!(!made);

    for practices in [new_token().practices, Practices::All] {
        let new = NewToken { practices, ..new_token() };
        let actor = verifier.verify(&key.issue(&new, ISSUER, AUDIENCE, clock.now())).await.unwrap();
        assert_eq!((actor.subject, actor.display_name), (new.subject, new.name));
        assert_eq!((actor.practices, actor.roles, actor.patient), (new.practices, new.roles, new.patient));
        assert_eq!(actor.expire_time, DateTime::from_timestamp(1_800_000_060, 0).unwrap());
    }
    let token = key.issue(&new_token(), ISSUER, AUDIENCE, clock.now());
    let foreign = [
        key.issue(&new_token(), "other", AUDIENCE, clock.now()),
        key.issue(&new_token(), ISSUER, "other", clock.now()),
    ];
    for token in foreign {
        assert_eq!(verifier.verify(&token).await, Err(TokenError::Invalid));
    }
    clock.advance(Duration::from_secs(60));
    assert_eq!(verifier.verify(&token).await, Err(TokenError::Invalid));
}

#[tokio::test]
async fn its_public_set_verifies_its_tokens_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (key, _) = LocalKey::load_or_create(&folder.path().join("key")).unwrap();
    let set = folder.path().join("jwks.json");
    fs::write(&set, key.jwks().to_string()).unwrap();
    let clock = clock();
    let token = key.issue(&new_token(), ISSUER, AUDIENCE, clock.now());
    assert!(verifier(Some(JwksSource::File(set)), None, clock.clone()).await.verify(&token).await.is_ok());

    let stranger = folder.path().join("other-key");
    assert_eq!(verifier(None, Some(stranger), clock).await.verify(&token).await, Err(TokenError::Invalid));
}

#[test]
fn a_key_of_openssl_is_taken() {
    // RFC 8410, section 10.3: a private key without its public half.
    let pkcs8 = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    write(&path, &base64::prelude::BASE64_STANDARD.decode(pkcs8).unwrap());
    let (key, made) = LocalKey::load_or_create(&path).unwrap();
    assert!(!made);
    assert_eq!(key.jwks()["keys"][0]["x"], "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE");
}

#[test]
fn a_file_that_holds_something_else_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for content in [&b""[..], b"-----BEGIN PRIVATE KEY-----", &[0; 10_000]] {
        write(&path, content);
        assert!(matches!(LocalKey::load_or_create(&path), Err(LocalKeyError::Malformed(_))));
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    assert!(matches!(LocalKey::load_or_create(folder.path()), Err(LocalKeyError::Io(..) | LocalKeyError::TooOpen(_))));
    let absent = folder.path().join("absent/key");
    assert!(matches!(LocalKey::load_or_create(&absent), Err(LocalKeyError::Io(..))));
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    LocalKey::load_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(LocalKey::load_or_create(&path), Err(LocalKeyError::TooOpen(_))), "{mode:o}");
    }
}

#[test]
fn all_who_start_together_end_up_with_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let kids: BTreeSet<String> = std::thread::scope(|scope| {
        let loads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| LocalKey::load_or_create(&path).unwrap().0.kid().to_owned())).collect();
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    assert_eq!(kids.len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "drafts were left behind");
}

#[test]
fn debug_shows_the_name_of_the_key_only() {
    let folder = tempfile::tempdir().unwrap();
    let (key, _) = LocalKey::load_or_create(&folder.path().join("key")).unwrap();
    assert_eq!(format!("{key:?}"), format!("LocalKey {{ kid: \"{}\", .. }}", key.kid()));
}

fn write(path: &Path, content: &[u8]) {
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).unwrap().write_all(content).unwrap();
}
