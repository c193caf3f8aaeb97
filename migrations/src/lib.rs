//! The schema, change by change.
pub use sea_orm_migration::prelude::*;
