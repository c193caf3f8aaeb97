//! The schema, change by change, in the order in which they are applied. A change is never edited once it was applied:
//! the next one corrects it. Nothing here knows the entities, so an old change does not alter when they do.

pub use sea_orm_migration::prelude::*;

mod m20261125_000001_create_practices;
mod m20261125_000002_create_notifications;
mod m20261125_000003_create_deliveries;
mod m20261125_000004_create_feed;
mod m20261125_000005_create_ledgers;
mod m20261125_000006_schedule_parked_callbacks;
mod m20261125_000007_index_unnamed_attempts;
mod m20261125_000008_add_choices_to_patients;
mod m20261125_000009_keep_consent;
mod m20261125_000010_add_expiry_to_notifications;
mod m20261125_000011_let_shares_be_retried;
mod m20261125_000016_park_deliveries;
mod m20261129_000017_seal_consent_heads;
mod m20261129_000018_create_templates;
mod m20261129_000019_keep_push_devices;
mod m20261129_000021_index_tests;
mod m20261129_000022_index_marks;
mod m20261129_000023_create_conversations;
mod m20261129_000025_index_automatic_messages;
mod m20261129_000026_create_attachments;
mod m20261129_000027_index_kept_attachments;
mod m20261129_000028_fill_audit_trails;
mod m20261130_000029_create_broadcasts;
mod m20261130_000030_count_deliveries;
mod m20261130_000032_index_what_is_looked_for;
mod m20261130_000036_seal_practices;
mod m20261130_000037_bind_superusers;
mod m20261130_000039_count_texts;
mod m20261130_000042_create_subject_keys;
mod m20261130_000043_erase_patients;
mod m20261130_000044_index_texts;
mod m20261130_000045_know_instances;
mod m20261130_000046_trace_deliveries;
mod m20261130_000047_let_older_releases_start;
mod m20261130_000048_part_keys_of_files;
mod m20261130_000049_count_uses_of_subject_keys;
mod seal;

/// Applies the changes below.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261125_000001_create_practices::Migration),
            Box::new(m20261125_000002_create_notifications::Migration),
            Box::new(m20261125_000003_create_deliveries::Migration),
            Box::new(m20261125_000004_create_feed::Migration),
            Box::new(m20261125_000005_create_ledgers::Migration),
            Box::new(m20261125_000006_schedule_parked_callbacks::Migration),
            Box::new(m20261125_000007_index_unnamed_attempts::Migration),
            Box::new(m20261125_000008_add_choices_to_patients::Migration),
            Box::new(m20261125_000009_keep_consent::Migration),
            Box::new(m20261125_000010_add_expiry_to_notifications::Migration),
            Box::new(m20261125_000011_let_shares_be_retried::Migration),
            Box::new(m20261125_000016_park_deliveries::Migration),
            Box::new(m20261129_000017_seal_consent_heads::Migration),
            Box::new(m20261129_000018_create_templates::Migration),
            Box::new(m20261129_000019_keep_push_devices::Migration),
            Box::new(m20261129_000021_index_tests::Migration),
            Box::new(m20261129_000022_index_marks::Migration),
            Box::new(m20261129_000023_create_conversations::Migration),
            Box::new(m20261129_000025_index_automatic_messages::Migration),
            Box::new(m20261129_000026_create_attachments::Migration),
            Box::new(m20261129_000027_index_kept_attachments::Migration),
            Box::new(m20261129_000028_fill_audit_trails::Migration),
            Box::new(m20261130_000029_create_broadcasts::Migration),
            Box::new(m20261130_000030_count_deliveries::Migration),
            Box::new(m20261130_000032_index_what_is_looked_for::Migration),
            Box::new(m20261130_000036_seal_practices::Migration),
            Box::new(m20261130_000037_bind_superusers::Migration),
            Box::new(m20261130_000039_count_texts::Migration),
            Box::new(m20261130_000042_create_subject_keys::Migration),
            Box::new(m20261130_000043_erase_patients::Migration),
            Box::new(m20261130_000044_index_texts::Migration),
            Box::new(m20261130_000045_know_instances::Migration),
            Box::new(m20261130_000046_trace_deliveries::Migration),
            Box::new(m20261130_000047_let_older_releases_start::Migration),
            Box::new(m20261130_000048_part_keys_of_files::Migration),
            Box::new(m20261130_000049_count_uses_of_subject_keys::Migration),
        ]
    }
}
