//! Wording of practices: versions are only ever added, one of them is in use, and what is in use is at hand.

use futures::future::join_all;
use heedwell::{
    domain::{
        Channel, Kind, Locale, Scope,
        template::{Purpose, TemplateRef, Wording},
    },
    store::{NewVersion, StoreError},
};

use super::{
    given::{NORTH, SOUTH, patient, practice, ready_practice},
    *,
};

/// A text for reminders by text message, in use at once.
pub(super) fn wording(text: &str) -> NewVersion {
    NewVersion {
        at: TemplateRef {
            purpose: Purpose::Kind(Kind::AppointmentReminder),
            channel: Channel::Sms,
            locale: Locale::new("en-US"),
        },
        wording: Wording { text: text.into(), ..Wording::default() },
        variables: Vec::new(),
        active: true,
    }
}

fn idle(text: &str) -> NewVersion {
    NewVersion { active: false, ..wording(text) }
}

/// Which version maria would be written to with, and what it says.
async fn in_use(t: &TestStore, scope: &Scope, at: &TemplateRef) -> Option<(i32, String)> {
    let grounds = t.store.grounds(scope, &"maria".parse().unwrap()).await.unwrap();
    grounds.own_wording.get(at).map(|active| (active.version(), active.wording().text.clone()))
}

/// How often the practice's wording changed.
async fn changes(t: &TestStore) -> i64 {
    t.number("SELECT wording_revision FROM practice WHERE practice_id = 'north'").await
}

on_both! {
    async fn versions_are_added_and_one_of_them_is_in_use(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let at = wording("").at;
        assert!(matches!(t.store.template_get(&scope, &at).await, Err(StoreError::NotFound("template"))));
        let (template, first) = t.store.template_version_add(&scope, idle("one")).await.unwrap();
        assert_eq!((template.revision, template.update_time, template.active.is_none()), (1, t.now(), true));
        assert_eq!((first.version, first.create_time, &first.author), (1, t.now(), scope.author()));
        assert_eq!((in_use(t, &scope, &at).await, changes(t).await), (None, 0));
        t.advance(60);
        let (template, second) = t.store.template_version_add(&scope, wording("two")).await.unwrap();
        assert_eq!((second.version, template.revision, template.update_time), (2, 2, t.now()));
        assert_eq!((in_use(t, &scope, &at).await, changes(t).await), (Some((2, "two".into())), 1));
        // Back to the first, and to none.
        let back = t.store.template_activate(&scope, at.clone(), 1, Some(2)).await.unwrap();
        assert_eq!((back.revision, back.active.map(|active| active.version())), (3, Some(1)));
        assert_eq!((in_use(t, &scope, &at).await, changes(t).await), (Some((1, "one".into())), 2));
        t.store.template_activate(&scope, at.clone(), 0, None).await.unwrap();
        assert_eq!((in_use(t, &scope, &at).await, changes(t).await), (None, 3));
        let history = t.store.template_get(&scope, &at).await.unwrap();
        assert_eq!(history.versions, [second, first]);
        assert_eq!((history.template.revision, history.template.active.is_none()), (4, true));
    }

    async fn what_changes_nothing_is_no_change(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let at = wording("").at;
        t.store.template_version_add(&scope, idle("one")).await.unwrap();
        t.advance(60);
        let (template, again) = t.store.template_version_add(&scope, idle("one")).await.unwrap();
        assert_eq!((again.version, template.revision, changes(t).await), (1, 1, 0));
        assert!(template.update_time < t.now() && again.create_time < t.now());
        // The same words may still be taken into use.
        let (template, again) = t.store.template_version_add(&scope, wording("one")).await.unwrap();
        assert_eq!((again.version, template.revision, changes(t).await), (1, 2, 1));
        t.store.template_activate(&scope, at.clone(), 1, Some(2)).await.unwrap();
        assert_eq!((t.store.template_get(&scope, &at).await.unwrap().template.revision, changes(t).await), (2, 1));
        // Only the newest counts: what was said before may be said again.
        t.store.template_version_add(&scope, idle("two")).await.unwrap();
        let (_, third) = t.store.template_version_add(&scope, idle("one")).await.unwrap();
        assert_eq!(third.version, 3);
        let other = NewVersion { variables: vec!["x".into()], ..idle("one") };
        assert_eq!(t.store.template_version_add(&scope, other).await.unwrap().1.version, 4);
    }

    async fn what_is_not_there_cannot_be_taken_into_use(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let at = wording("").at;
        let activate = |version, expected| t.store.template_activate(&scope, at.clone(), version, expected);
        assert!(matches!(activate(0, None).await, Err(StoreError::NotFound("template"))));
        t.store.template_version_add(&scope, wording("one")).await.unwrap();
        for version in [2, -1, i32::MAX] {
            assert!(matches!(activate(version, None).await, Err(StoreError::NotFound("template version"))));
        }
        assert!(matches!(activate(0, Some(0)).await, Err(StoreError::Conflict { current: 1 })));
        let nowhere = t.scope("nowhere");
        let put = t.store.template_version_add(&nowhere, wording("one")).await;
        assert!(matches!(put, Err(StoreError::NotFound("practice"))));
        assert_eq!(in_use(t, &scope, &at).await, Some((1, "one".into())));
    }

    async fn each_practice_place_and_language_has_its_own(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let at = wording("").at;
        let elsewhere = [
            TemplateRef { channel: Channel::Push, ..at.clone() },
            TemplateRef { locale: Locale::new("en"), ..at.clone() },
            TemplateRef { purpose: Purpose::Kind(Kind::PaymentDue), ..at.clone() },
            TemplateRef { purpose: Purpose::Custom("flu".into()), ..at.clone() },
        ];
        t.store.template_version_add(&north, wording("north")).await.unwrap();
        for place in &elsewhere {
            let new = NewVersion { at: place.clone(), ..wording("elsewhere") };
            assert_eq!(t.store.template_version_add(&north, new).await.unwrap().1.version, 1);
        }
        assert_eq!(in_use(t, &north, &at).await, Some((1, "north".into())));
        for place in &elsewhere {
            assert_eq!(in_use(t, &north, place).await, Some((1, "elsewhere".into())));
        }
        assert_eq!(in_use(t, &south, &at).await, None);
        assert_eq!((t.store.template_places(&north).await.unwrap().len(), t.store.template_places(&south).await.unwrap().len()), (5, 0));
        assert!(matches!(t.store.template_get(&south, &at).await, Err(StoreError::NotFound("template"))));
    }

    async fn of_writers_at_the_same_moment_each_gets_a_version(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let texts: Vec<_> = (0..6).map(|n| format!("text {n}")).collect();
        let added = join_all(texts.iter().map(|text| t.store.template_version_add(&scope, wording(text)))).await;
        let mut versions: Vec<_> = added.into_iter().map(|added| added.unwrap().1.version).collect();
        versions.sort_unstable();
        assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
        let same = join_all((0..6).map(|_| t.store.template_version_add(&scope, wording("same")))).await;
        assert!(same.into_iter().all(|added| added.unwrap().1.version == 7));
        assert_eq!(in_use(t, &scope, &wording("").at).await, Some((7, "same".into())));
        assert_eq!(changes(t).await, 7);
    }

    async fn a_practice_that_is_stored_again_keeps_its_wording(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.template_version_add(&scope, wording("one")).await.unwrap();
        let moved = heedwell::domain::Practice { postal_address: "1 Elm Street".into(), ..practice(NORTH) };
        t.store.practice_put(&scope, moved, None).await.unwrap();
        assert_eq!((in_use(t, &scope, &wording("").at).await, changes(t).await), (Some((1, "one".into())), 1));
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
    }

    async fn wording_opens_in_its_own_place_only(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.template_version_add(&scope, wording("one")).await.unwrap();
        t.store.template_version_add(&scope, wording("two")).await.unwrap();
        t.execute(
            "UPDATE template_version SET body_ct = (SELECT body_ct FROM template_version WHERE version = 1) WHERE version = 2",
        )
        .await;
        let history = t.store.template_get(&scope, &wording("").at).await;
        assert!(matches!(history, Err(StoreError::Corrupt("template_version"))));
    }

    async fn the_newest_fifty_versions_are_shown(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for n in 1..=52 {
            t.store.template_version_add(&scope, idle(&format!("text {n}"))).await.unwrap();
        }
        let history = t.store.template_get(&scope, &wording("").at).await.unwrap();
        let versions: Vec<_> = history.versions.iter().map(|version| version.version).collect();
        assert_eq!(versions, (3..=52).rev().collect::<Vec<_>>());
    }
}
