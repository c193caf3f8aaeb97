//! Which releases may still work with the schema: those that know the change named here. A change that only adds leaves it as it is; one
//! that takes away names the first change of the release that no longer needs what is gone. So the servers of two neighbouring releases
//! run side by side, and start anew, while one takes the other's place.

use sea_orm_migration::{prelude::*, schema::text};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "schema_floor";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(Table::create().table(TABLE).col(text("migration").primary_key()).to_owned()).await?;
        let floor =
            Query::insert().into_table(TABLE).columns(["migration"]).values_panic([self.name().into()]).to_owned();
        m.get_connection().execute(&floor).await.map(drop)
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_table(Table::drop().table(TABLE).to_owned()).await
    }
}
