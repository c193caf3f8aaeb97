//! Deliveries: what is shown of them, and where the queue stands with them.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    pub patient_id: String,
    pub source_kind: i16,
    pub source_id: Uuid,
    pub broadcast_id: Option<Uuid>,
    pub kind: i16,
    pub channel: i16,
    pub class: i16,
    #[sea_orm(column_type = "Blob")]
    pub address_bi: Option<Vec<u8>>,
    pub address_hint: String,
    pub retry_of: Option<Uuid>,
    pub retried_by: Option<Uuid>,
    pub reference: String,
    pub facts: i32,
    pub state: i16,
    pub revision: i64,
    pub flags: i32,
    pub phase: i16,
    pub epoch: i32,
    pub claimed_by: Option<Uuid>,
    pub lease_until: Option<DateTimeUtc>,
    pub not_before: DateTimeUtc,
    pub parked_until: Option<DateTimeUtc>,
    pub give_up_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    pub attempts: i32,
    pub crashes: i16,
    pub looks: i16,
    pub absences: i16,
    pub doubt_since: Option<DateTimeUtc>,
    pub poll_at: Option<DateTimeUtc>,
    pub events: i32,
    pub skip_reason: Option<i16>,
    pub failure_reason: Option<i16>,
    pub failure_code: String,
    pub failure_time: Option<DateTimeUtc>,
    pub provider: Option<i16>,
    pub provider_ref: String,
    pub sms_segments: i32,
    pub create_time: DateTimeUtc,
    pub update_time: DateTimeUtc,
    pub send_time: Option<DateTimeUtc>,
    pub deliver_time: Option<DateTimeUtc>,
    pub open_time: Option<DateTimeUtc>,
    /// Where the call that asked for it stands in its trace, if that is recorded.
    #[sea_orm(column_type = "Blob")]
    pub trace: Option<Vec<u8>>,
}

impl ActiveModelBehavior for ActiveModel {}
