//! `TemplateService`: scope, parse, call, show.

use tonic::{Request, Response, Status};

use super::{
    auth, convert, deadline,
    proto::{
        ActivateTemplateVersionRequest, ActivateTemplateVersionResponse, CreateTemplateVersionRequest,
        CreateTemplateVersionResponse, GetTemplateRequest, GetTemplateResponse, ListTemplatesRequest,
        ListTemplatesResponse, PreviewTemplateRequest, PreviewTemplateResponse, SendTestMessageRequest,
        SendTestMessageResponse, template_service_server::TemplateService,
    },
};
use crate::{domain::Role, service::templates::Templates};

/// The handlers.
pub(super) struct Handlers {
    pub(super) templates: Templates,
}

#[tonic::async_trait]
impl TemplateService for Handlers {
    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let query = convert::templates::list(request.into_inner());
        Ok(Response::new(convert::templates::page(self.templates.list(&scope, query).await?)))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Result<Response<GetTemplateResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let at = convert::templates::wanted(request.into_inner())?;
        Ok(Response::new(convert::templates::history(self.templates.get(&scope, at).await?)))
    }

    async fn create_template_version(
        &self,
        request: Request<CreateTemplateVersionRequest>,
    ) -> Result<Response<CreateTemplateVersionResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::PracticeAdmin])?;
        let draft = convert::templates::draft(request.into_inner())?;
        Ok(Response::new(convert::templates::created(self.templates.create(&scope, draft).await?)))
    }

    async fn activate_template_version(
        &self,
        request: Request<ActivateTemplateVersionRequest>,
    ) -> Result<Response<ActivateTemplateVersionResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::PracticeAdmin])?;
        let (at, version, etag) = convert::templates::to_activate(request.into_inner())?;
        let template = self.templates.activate(&scope, at, version, etag).await?;
        let template = Some(convert::templates::shown(template));
        Ok(Response::new(ActivateTemplateVersionResponse { template }))
    }

    async fn preview_template(
        &self,
        request: Request<PreviewTemplateRequest>,
    ) -> Result<Response<PreviewTemplateResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let trial = convert::templates::trial(request.into_inner())?;
        Ok(Response::new(convert::templates::previewed(self.templates.preview(&scope, trial).await?)))
    }

    async fn send_test_message(
        &self,
        request: Request<SendTestMessageRequest>,
    ) -> Result<Response<SendTestMessageResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::PracticeAdmin])?;
        let deadline = deadline::of(&request);
        let order = convert::templates::test_order(request.into_inner())?;
        let outcome = self.templates.send_test(&scope, order, deadline).await?;
        Ok(Response::new(convert::templates::tested(outcome)))
    }
}
