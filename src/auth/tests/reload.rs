//! Sets that change while tokens come.

use super::*;

/// Lets loads that nobody waits for come to their end.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_reloads_the_set_at_most_once_a_minute() {
    let (one, two, three) = (TestKey::ed(), TestKey::ed(), TestKey::ec());
    let bench = Bench::new(&[one.jwk("one")]).await;
    let path = bench.folder.path().join("jwks.json");

    write_set(&path, &[one.jwk("one"), two.jwk("two")]);
    assert!(!bench.accepts(&two.token("two", &claims())).await, "loaded less than a minute ago");
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(!bench.accepts(&two.token("two", &claims())).await, "still less than a minute ago");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(bench.accepts(&two.token("two", &claims())).await);

    write_set(&path, &[three.jwk("three")]);
    assert!(!bench.accepts(&three.token("three", &claims())).await);
    assert!(bench.accepts(&one.token("one", &claims())).await);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(bench.accepts(&three.token("three", &claims())).await);
    assert!(!bench.accepts(&one.token("one", &claims())).await, "its issuer has withdrawn it");
}

#[tokio::test(start_paused = true)]
async fn the_last_good_set_outlives_one_that_does_not_load() {
    let (one, two) = (TestKey::ed(), TestKey::ed());
    let bench = Bench::new(&[one.jwk("one")]).await;
    let path = bench.folder.path().join("jwks.json");
    for broken in ["", "{", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
        std::fs::write(&path, broken).unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!bench.accepts(&two.token("two", &claims())).await, "{broken}");
        assert!(bench.accepts(&one.token("one", &claims())).await, "{broken}");
    }
    std::fs::remove_file(&path).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!bench.accepts(&two.token("two", &claims())).await);
    assert!(bench.accepts(&one.token("one", &claims())).await);

    write_set(&path, &[two.jwk("two")]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(bench.accepts(&two.token("two", &claims())).await);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_loses_its_force_though_no_unknown_one_comes() {
    let (one, two) = (TestKey::ed(), TestKey::ed());
    let bench = Bench::new(&[one.jwk("one")]).await;
    write_set(&bench.folder.path().join("jwks.json"), &[two.jwk("two")]);
    let token = one.token("one", &claims());

    tokio::time::advance(Duration::from_secs(599)).await;
    assert!(bench.accepts(&token).await);
    settle().await;
    assert!(bench.accepts(&token).await, "the set is not old yet");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(bench.accepts(&token).await, "this call starts the load and does not wait for it");
    settle().await;
    assert!(!bench.accepts(&token).await);
}

#[tokio::test]
async fn without_any_set_tokens_wait_but_those_of_the_local_key_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token-key");
    let (local, made) = LocalKey::load_or_create(&path).unwrap();
    assert!(made);
    // Port 9 of this machine answers to nobody.
    let jwks = Some(JwksSource::Url("https://127.0.0.1:9/jwks.json".parse().unwrap()));
    let settings = Settings { jwks, local_key: Some(path), ..settings() };
    let clock = clock();
    let verifier = Verifier::new(settings.clone(), clock.clone()).await.unwrap();

    let foreign = TestKey::ed().token("k", &claims());
    assert_eq!(verifier.verify(&foreign).await, Err(TokenError::Unavailable));
    assert_eq!(verifier.verify("x.y.z").await, Err(TokenError::Invalid));
    let token = NewToken {
        subject: "dev".into(),
        name: String::new(),
        practices: Practices::All,
        roles: [Role::Operator].into(),
        patient: None,
        ttl: Duration::from_secs(60),
    };
    use crate::clock::Clock;
    let token = local.issue(&token, &settings.issuer, &settings.audience, clock.now());
    assert!(verifier.verify(&token).await.is_ok());
}
