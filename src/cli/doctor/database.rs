//! The database, its clock and disk, the keys in it, and what practices have set up.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::{Around, Report};
use crate::{
    app,
    config::Config,
    crypto::KeyFile,
    domain::{Channel, EmailProvider, PracticeSettings, Provider},
    store::{self, Binding, Examination, Examined, OpenError, Reason, Room, SchemaState, Sealing, Standing, Time},
    telemetry,
};

const NAME: &str = "HEEDWELL_DATABASE_URL";
/// By how much clocks may differ before somebody should look, and before tokens and leases go wrong: the leeway of tokens.
const CLOCKS: [TimeDelta; 2] = [TimeDelta::seconds(2), TimeDelta::seconds(30)];
/// Seals of one key at most, far beyond when another should have taken over (NIST SP 800-38D, 8.3: 2^32 with random nonces).
const MOST_USES: i64 = 1 << 31;

/// What practices use of what is outside.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) providers: BTreeSet<Provider>,
    /// Host and port.
    pub(super) relays: BTreeSet<(String, u16)>,
}

pub(super) async fn look(config: &Config, keys: Option<KeyFile>, around: &Around, report: &mut Report) -> Used {
    let time = Time::Database(around.clock.clone());
    match store::examine(&config.store, keys, time, &app::operator()).await {
        Ok(Examined::Absent) => report.ok("database", NAME, "is not there yet: the first start makes it".to_owned()),
        Ok(Examined::There(found)) => return there(&found, report),
        Err(error @ OpenError::UnsafeSetting { .. }) => {
            report.wrong("database", NAME, telemetry::chain(&error).to_string())
        }
        // What a driver says may name whom it tried as, and where; the rest is ours.
        Err(error) => report.wrong("database", NAME, error.to_string()),
    }
    Used::default()
}

fn there(found: &Examination, report: &mut Report) -> Used {
    report.ok("database", NAME, "can be reached".to_owned());
    match &found.schema {
        SchemaState::Current => report.ok("schema", NAME, "is up to date".to_owned()),
        SchemaState::Empty if found.room.is_some() => {
            report.ok("schema", NAME, "is not there yet: the first start makes it".to_owned());
        }
        SchemaState::Empty => report.wrong("schema", NAME, "is not there yet: run `heedwell migrate`".to_owned()),
        SchemaState::Older(count) if found.room.is_some() => {
            report.warning("schema", NAME, format!("is older by {count} changes: the next start makes them"));
        }
        SchemaState::Older(count) => {
            report.wrong("schema", NAME, format!("is older by {count} changes: run `heedwell migrate`"));
        }
        SchemaState::Ahead(name) => {
            let text = format!("is of a newer release (it holds {name}), beside which this one may work");
            report.ok("schema", NAME, text);
        }
        SchemaState::Newer(name) => {
            let text = format!("is newer than this binary (it holds {name}): start the newer release");
            report.wrong("schema", NAME, text);
        }
    }
    if let Some(sealing) = &found.sealing {
        seals(sealing, report);
    }
    if let Some((skew, doubt)) = found.clock {
        clock(skew, doubt, report);
    }
    if let Some(room) = found.room {
        disk(room, report);
    }
    if let Some(standing) = &found.standing {
        instance(standing, report);
    }
    if found.key_belongs == Some(false) {
        let text = "does not belong to this database: it must be the one that the database was made with".to_owned();
        report.wrong("key check", "HEEDWELL_MASTER_KEY_FILE", text);
    } else if found.key_belongs == Some(true) {
        report.ok("key check", "", "the master keys belong to this database".to_owned());
    }
    data_keys(found, report);
    practices(found, report)
}

fn seals(sealing: &Sealing, report: &mut Report) {
    match sealing.binding {
        Binding::Bound => report.ok("row-level security", NAME, "binds the database's user".to_owned()),
        Binding::StepsDown => report.warning(
            "row-level security",
            NAME,
            "does not bind the database's user, who is a superuser or has BYPASSRLS: the server steps down to heedwell_bound; better \
             connect as an ordinary user that owns the tables"
                .to_owned(),
        ),
        Binding::Unbound => report.wrong("row-level security", NAME, OpenError::Unsealed.to_string()),
    }
    for table in &sealing.open_tables {
        let text = format!(
            "does not keep the rows of practices in {table} apart: run `ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE \
             {table} FORCE ROW LEVEL SECURITY`, and see that its policy own_practice is there"
        );
        report.wrong("row-level security", NAME, text);
    }
}

fn instance(standing: &Standing, report: &mut Report) {
    const CHECK: &str = "instance";
    let Standing::Quiet(quiet) = standing else {
        report.ok(CHECK, NAME, "may send".to_owned());
        return;
    };
    let text = match quiet.reason {
        Reason::Held => "sends nothing, since an operator held it: `heedwell resume` ends that".to_owned(),
        Reason::Copy => {
            let made = quiet.copy_time.map(|time| format!(", made at {}", time.to_rfc3339())).unwrap_or_default();
            format!(
                "is a copy of another database{made}, and sends nothing: see to it that the other never runs again, then run \
                 `heedwell resume`"
            )
        }
        Reason::Moved => {
            "was moved to another database, and sends nothing: HEEDWELL_DATABASE_URL must name that".to_owned()
        }
    };
    report.wrong(CHECK, NAME, text);
}

fn clock(skew: TimeDelta, doubt: TimeDelta, report: &mut Report) {
    let certain = (skew.abs() - doubt).max(TimeDelta::zero());
    let seconds = skew.as_seconds_f64();
    let [soon, bad] = CLOCKS;
    let text = format!("the database's is {seconds:+.1} s beside the local one: have both machines set theirs by NTP");
    if certain > bad {
        report.wrong("clock", "", text);
    } else if certain > soon {
        report.warning("clock", "", text);
    } else {
        report.ok("clock", "", format!("the database's is within {} s of the local one", soon.num_seconds()));
    }
}

fn disk(room: Room, report: &mut Report) {
    const NAME: &str = "HEEDWELL_DISK_RESERVE_MIB";
    let [free, reserve] = [room.free >> 20, room.reserve >> 20];
    let text = format!("{free} MiB are free, and {reserve} MiB are kept for what was accepted");
    if room.free < room.reserve {
        report.wrong("disk", NAME, format!("{text}: nothing new is accepted until there is more room"));
    } else if room.free < room.reserve.saturating_mul(2) {
        report.warning("disk", NAME, format!("{text}: make room soon"));
    } else {
        report.ok("disk", NAME, text);
    }
}

fn data_keys(found: &Examination, report: &mut Report) {
    let seals = found.keys.iter().filter(|key| key.retire_time.is_none());
    let mut fine = true;
    for key in seals.filter(|key| key.uses >= found.key_uses) {
        fine = false;
        let text = format!(
            "the data key of {} has sealed {} times, and another should have taken over at {}: run `heedwell keys rotate --practice {}`",
            key.practice, key.uses, found.key_uses, key.practice
        );
        if key.uses >= MOST_USES { report.wrong("data keys", "", text) } else { report.warning("data keys", "", text) }
    }
    if fine && !found.keys.is_empty() {
        report.ok("data keys", "", format!("{}, none of which has sealed too often", found.keys.len()));
    }
}

fn practices(found: &Examination, report: &mut Report) -> Used {
    let (mut used, mut fine) = (Used::default(), true);
    for (practice, settings) in &found.practices {
        match settings {
            Ok(settings) => note(settings, &mut used),
            Err(error) => {
                fine = false;
                let text = format!(
                    "what {practice} has set up cannot be opened ({error}): is a master missing in the key file?"
                );
                report.wrong("practices", "HEEDWELL_MASTER_KEY_FILE", text);
            }
        }
    }
    if fine && !found.practices.is_empty() {
        report.ok("practices", "", format!("what {} of them have set up can be opened", found.practices.len()));
    }
    used
}

fn note(settings: &PracticeSettings, used: &mut Used) {
    if settings.is_set_up(Channel::Sms) {
        used.providers.insert(Provider::Twilio);
    }
    if settings.is_set_up(Channel::Push) {
        used.providers.insert(Provider::Fcm);
    }
    if settings.is_set_up(Channel::Email) {
        match &settings.email.provider {
            Some(EmailProvider::SendGrid(_)) => drop(used.providers.insert(Provider::SendGrid)),
            Some(EmailProvider::Smtp(relay)) => drop(used.relays.insert((relay.host.clone(), relay.port))),
            None => {}
        }
    }
}
