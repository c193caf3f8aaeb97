//! Patients; names and addresses are sealed, addresses can be found by blind index.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "patient")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub patient_id: String,
    #[sea_orm(column_type = "Blob")]
    pub contact_ct: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub email_bi: Option<Vec<u8>>,
    #[sea_orm(column_type = "Blob")]
    pub phone_bi: Option<Vec<u8>>,
    pub locale: String,
    pub time_zone: String,
    pub portal_enabled: bool,
    pub inactive: bool,
    pub update_time: DateTimeUtc,
    pub revision: i64,
    pub choices: String,
    pub choices_time: Option<DateTimeUtc>,
    pub choices_revision: i64,
    pub push_devices: i32,
}

impl ActiveModelBehavior for ActiveModel {}
