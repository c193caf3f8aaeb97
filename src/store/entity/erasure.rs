//! Patients who were erased, and when.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "erasure")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub patient_id: String,
    /// What is older goes; whoever has this id since is somebody else.
    pub erase_time: DateTimeUtc,
    /// When what is left is looked for; unset: nothing can be left.
    pub sweep_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
