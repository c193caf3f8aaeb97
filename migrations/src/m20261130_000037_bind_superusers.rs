//! Makes a role for servers that connect as a user whom no policy binds, a superuser for one: they step down to it. Nobody else
//! needs it, and whoever may not make roles need not have it.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

/// Roles belong to the whole cluster: another database's may be there already, or be made at this moment.
const UP: &str = r#"
DO $$
DECLARE
    schema text := current_schema();
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)) THEN
        RETURN;
    END IF;
    BEGIN
        CREATE ROLE heedwell_bound NOLOGIN;
        EXECUTE format('GRANT heedwell_bound TO %I', current_user);
    EXCEPTION
        WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
    END;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'heedwell_bound') THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO heedwell_bound', schema);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO heedwell_bound', schema);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO heedwell_bound', schema);
END $$"#;

const DOWN: &str = r#"
DO $$
DECLARE
    schema text := current_schema();
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'heedwell_bound') THEN
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I REVOKE ALL ON TABLES FROM heedwell_bound', schema);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM heedwell_bound', schema);
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM heedwell_bound', schema);
    END IF;
END $$"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        run(m, UP).await
    }

    /// The role stays: other databases of the cluster may need it.
    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        run(m, DOWN).await
    }
}

async fn run(m: &SchemaManager<'_>, statement: &str) -> Result<(), DbErr> {
    if m.get_connection().get_database_backend() == DbBackend::Postgres {
        m.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}
