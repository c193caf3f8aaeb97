//! Devices for push: whose they are, how many, and what a claim and its settlement make of them.

use futures::future::join_all;
use heedwell::{
    domain::{
        Channel, DeliveryState, Device, DeviceId, PracticeSettings, Registration, Scope, ServiceAccount, SkipReason,
        Verdict,
    },
    store::{Claimed, Destination, Settlement},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, claim_one, claimed, delivery, look_twice, patient, ready_practice, settings,
        settle, settlement,
    },
    *,
};

/// Stores a practice that can push as well, with patient `maria`, who has these devices.
async fn pushing(t: &TestStore, id: &str, tokens: &[&str]) -> (Scope, Vec<DeviceId>) {
    let scope = ready_practice(t, id).await;
    let account = ServiceAccount {
        project_id: "north".into(),
        client_email: "push@north.iam.gserviceaccount.com".into(),
        private_key: "key".to_owned().into(),
    };
    let mut settings: PracticeSettings = settings();
    settings.push.service_account = Some(account);
    let everywhere = heedwell::domain::KindChannels { channels: heedwell::domain::ChannelSet::ALL, offered: None };
    settings.kind_channels.insert(heedwell::domain::Kind::AppointmentReminder, everywhere);
    t.store.settings_put(&scope, settings, 1).await.unwrap();
    let mut devices = Vec::new();
    for token in tokens {
        devices.push(register(t, &scope, "maria", token).await);
    }
    (scope, devices)
}

async fn register(t: &TestStore, scope: &Scope, patient: &str, token: &str) -> DeviceId {
    t.store.device_register(scope, &patient.parse().unwrap(), &token.parse().unwrap(), "Phone").await.unwrap()
}

fn devices(claimed: &Claimed) -> Vec<&Device> {
    match &claimed.destination {
        Destination::Devices(devices) => devices.iter().collect(),
        _ => panic!("not to devices"),
    }
}

/// The registrations that it was claimed for.
fn registrations(claimed: &Claimed) -> Vec<Registration> {
    devices(claimed).into_iter().map(Device::registration).collect()
}

fn not_taken() -> Verdict {
    Verdict::NotTaken { retry_after: None, code: "UNREGISTERED".into() }
}

on_both! {
    async fn a_push_is_claimed_for_all_devices_and_for_nobody_elses(t: &TestStore) {
        let (scope, ids) = pushing(t, NORTH, &["token-of-maria:1", "token-of-maria:2"]).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        register(t, &scope, "ann", "token-of-ann:number-1").await;
        let (south, _) = pushing(t, SOUTH, &["token-of-maria:1"]).await;
        let push = claimed(t, &scope, "r1", Channel::Push).await;
        let seen: Vec<_> = devices(&push).iter().map(|device| (device.id, device.token.as_str().to_owned())).collect();
        assert_eq!(seen, [(ids[0], "token-of-maria:1".to_owned()), (ids[1], "token-of-maria:2".to_owned())]);
        assert_eq!(push.account.provider().name(), "fcm");
        settle(t, &push, accepted("projects/north/messages/1")).await;
        let sent = delivery(t, &scope, push.id).await;
        assert_eq!((sent.state, sent.provider_message_id.as_str()), (DeliveryState::Sent, "projects/north/messages/1"));
        // The same token in another practice is another device.
        let there = claimed(t, &south, "r1", Channel::Push).await;
        assert!(devices(&there).iter().all(|device| !ids.contains(&device.id)));
        settle(t, &there, accepted("projects/south/messages/1")).await;
    }

    async fn devices_that_are_gone_are_forgotten_with_the_settlement(t: &TestStore) {
        let (scope, ids) = pushing(t, NORTH, &["token-of-maria:1", "token-of-maria:2"]).await;
        let push = claimed(t, &scope, "r1", Channel::Push).await;
        let gone = Settlement { gone: vec![registrations(&push)[0]], ..settlement(&push, not_taken()) };
        t.store.settle(&t.engine, gone).await.unwrap();
        t.advance(30);
        let again = claim_one(t, &scope).await;
        assert_eq!(devices(&again).iter().map(|device| device.id).collect::<Vec<_>>(), [ids[1]]);
        let gone = Settlement { gone: registrations(&again), ..settlement(&again, not_taken()) };
        t.store.settle(&t.engine, gone.clone()).await.unwrap();
        t.advance(60);
        assert!(given::claim(t, &scope, 10).await.is_empty());
        let skipped = delivery(t, &scope, push.id).await;
        assert_eq!((skipped.state, skipped.skip_reason), (DeliveryState::Skipped, Some(SkipReason::NoAddress)));
        assert_eq!(skipped.attempts, 2);
        // Told once more, and of one that nobody has, nothing happens.
        t.store.settle(&t.engine, gone).await.unwrap();
        assert_eq!(t.number("SELECT count(*) FROM push_device").await, 0);
    }

    async fn a_device_that_was_registered_again_meanwhile_is_not_forgotten(t: &TestStore) {
        let (scope, ids) = pushing(t, NORTH, &["token-of-maria:1", "token-of-maria:2", "token-of-maria:3"]).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        let push = claimed(t, &scope, "r1", Channel::Push).await;
        // Twice at the moment of the claim, by its owner and by somebody else.
        assert_eq!(register(t, &scope, "maria", "token-of-maria:1").await, ids[0]);
        assert_eq!(register(t, &scope, "ann", "token-of-maria:2").await, ids[1]);
        let gone = Settlement { gone: registrations(&push), ..settlement(&push, not_taken()) };
        t.store.settle(&t.engine, gone.clone()).await.unwrap();
        t.advance(30);
        let again = claim_one(t, &scope).await;
        assert_eq!(devices(&again).iter().map(|device| device.id).collect::<Vec<_>>(), [ids[0]]);
        assert_eq!(t.number("SELECT sum(push_devices) FROM patient WHERE patient_id = 'ann'").await, 1);
        // What was told of the first registration says nothing of the second, and the second has its own end.
        t.store.settle(&t.engine, gone).await.unwrap();
        let gone = Settlement { gone: registrations(&again), ..settlement(&again, not_taken()) };
        t.store.settle(&t.engine, gone).await.unwrap();
        assert_eq!(t.number("SELECT count(*) FROM push_device").await, 1);
        assert_eq!(t.number("SELECT sum(push_devices) FROM patient").await, 1);
    }

    async fn what_a_lost_claim_learnt_of_a_device_counts(t: &TestStore) {
        let (scope, _) = pushing(t, NORTH, &["token-of-maria:1", "token-of-maria:2"]).await;
        let lost = claimed(t, &scope, "r1", Channel::Push).await;
        t.advance(61);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 1);
        let late = Settlement { gone: vec![registrations(&lost)[0]], ..settlement(&lost, not_taken()) };
        t.store.settle(&t.engine, late).await.unwrap();
        assert_eq!(t.number("SELECT count(*) FROM push_device").await, 1);
        let doubt = delivery(t, &scope, lost.id).await;
        assert_eq!(doubt.state, DeliveryState::Unconfirmed, "its own delivery is not for it to settle any more");
    }

    async fn a_worker_that_dies_between_send_and_settlement_is_followed_by_one_more_send(t: &TestStore) {
        let (scope, ids) = pushing(t, NORTH, &["token-of-maria:1"]).await;
        let first = claimed(t, &scope, "r1", Channel::Push).await;
        t.advance(61);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 1);
        look_twice(t, &heedwell::domain::Look::NoList).await;
        let second = claim_one(t, &scope).await;
        // What names it on the device is the same, so that the second takes the place of the first.
        assert_eq!((second.attempt, second.notification), (2, first.notification));
        assert_eq!(devices(&second)[0].id, ids[0]);
        settle(t, &second, accepted("projects/north/messages/2")).await;
        let sent = delivery(t, &scope, first.id).await;
        assert_eq!((sent.state, sent.possible_duplicate, sent.attempts), (DeliveryState::Sent, true, 2));
    }

    async fn a_token_that_many_register_at_once_has_one_owner(t: &TestStore) {
        let (scope, _) = pushing(t, NORTH, &[]).await;
        let names: Vec<String> = (0..6).map(|n| format!("patient-{n}")).collect();
        t.store.patients_put(&scope, names.iter().map(|name| patient(name)).collect()).await.unwrap();
        for round in 0..5 {
            let token = format!("token-of-everybody:{round}");
            let all = join_all(names.iter().map(|name| register(t, &scope, name, &token))).await;
            assert!(all.windows(2).all(|two| two[0] == two[1]), "one token, one device");
        }
        assert_eq!(t.number("SELECT count(*) FROM push_device").await, 5);
        assert_eq!(t.number("SELECT sum(push_devices) FROM patient").await, 5);
    }

    async fn a_device_that_moves_while_it_is_found_gone_leaves_the_counts_right(t: &TestStore) {
        let (scope, _) = pushing(t, NORTH, &["token-of-maria:1"]).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        for round in 0..5 {
            let push = claimed(t, &scope, &format!("r{round}"), Channel::Push).await;
            let taken = accepted(&format!("projects/north/messages/{round}"));
            let gone = Settlement { gone: registrations(&push), ..settlement(&push, taken) };
            let (settled, _) = tokio::join!(
                t.store.settle(&t.engine, gone),
                register(t, &scope, "ann", "token-of-maria:1"),
            );
            settled.unwrap();
            register(t, &scope, "maria", "token-of-maria:1").await;
        }
        assert!(t.number("SELECT sum(push_devices) FROM patient").await == 1);
    }

    async fn a_device_is_given_up_by_its_owner_in_their_practice_alone(t: &TestStore) {
        let (scope, ids) = pushing(t, NORTH, &["token-of-maria:1"]).await;
        let (south, _) = pushing(t, SOUTH, &[]).await;
        let (maria, ann) = ("maria".parse().unwrap(), "ann".parse().unwrap());
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        t.store.device_delete(&south, &maria, ids[0]).await.unwrap();
        t.store.device_delete(&scope, &ann, ids[0]).await.unwrap();
        // The directory knows nothing of devices, and takes none away.
        t.store.patients_put(&scope, vec![patient("maria")]).await.unwrap();
        let push = claimed(t, &scope, "r1", Channel::Push).await;
        assert_eq!(devices(&push).iter().map(|device| device.id).collect::<Vec<_>>(), ids);
        settle(t, &push, accepted("projects/north/messages/1")).await;
        t.store.device_delete(&scope, &maria, ids[0]).await.unwrap();
        assert_eq!(t.number("SELECT count(*) FROM push_device").await, 0);
        let order = Order::new("r2", &[Channel::Push]).accept(t, &scope).await;
        assert_eq!(order.deliveries[0].skip_reason, Some(SkipReason::NoAddress));
    }

    async fn nobody_unknown_has_a_device(t: &TestStore) {
        let (scope, _) = pushing(t, NORTH, &[]).await;
        let token = "token-of-nobody:1".parse().unwrap();
        let refused = t.store.device_register(&scope, &"nobody".parse().unwrap(), &token, "").await;
        assert!(matches!(refused, Err(heedwell::store::StoreError::NotFound("patient"))));
        let refused = t.store.device_register(&t.scope("nowhere"), &"maria".parse().unwrap(), &token, "").await;
        assert!(matches!(refused, Err(heedwell::store::StoreError::NotFound("practice"))));
        assert_eq!(t.number("SELECT count(*) FROM push_device").await, 0);
        // Whoever was decided on without a device is not written to with one of a later moment.
        let order = Order::new("r1", &[Channel::Push]).accept(t, &scope).await;
        register(t, &scope, "maria", "token-of-maria:1").await;
        assert_eq!(order.deliveries[0].skip_reason, Some(SkipReason::NoAddress));
        assert!(given::claim(t, &scope, 10).await.is_empty());
    }
}
