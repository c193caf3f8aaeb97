//! `AuditService`: scope, parse, call, show.

use tonic::{Request, Response, Status};

use super::{
    auth, convert,
    proto::{ListAuditEventsRequest, ListAuditEventsResponse, audit_service_server::AuditService},
};
use crate::{domain::Role, service::audit::Audit};

/// The handlers.
pub(super) struct Handlers {
    pub(super) audit: Audit,
}

#[tonic::async_trait]
impl AuditService for Handlers {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Auditor])?;
        let list = convert::audit::list(request.into_inner())?;
        Ok(Response::new(convert::audit::listed(self.audit.list(&scope, list).await?)))
    }
}
