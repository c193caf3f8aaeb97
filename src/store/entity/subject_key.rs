//! Keys of patients, and of those who write from a number that is nobody's, each sealed under a key of the practice.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "subject_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    /// Empty: nobody's in the directory.
    pub patient_id: String,
    /// Whose texts are sealed with it; unset: nothing new is, since the conversation went to a patient, or it sealed often enough.
    pub owner: Option<String>,
    #[sea_orm(column_type = "Blob")]
    pub wrapped: Vec<u8>,
    pub create_time: DateTimeUtc,
    /// How often it has sealed, as far as that was counted, which is by a sample.
    pub uses: i64,
}

impl ActiveModelBehavior for ActiveModel {}
