//! `DirectoryService`: scope, parse, call, show.

use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{self, revision},
    proto::{
        BatchPutPatientsRequest, BatchPutPatientsResponse, ErasePatientRequest, ErasePatientResponse,
        GetPatientRequest, GetPatientResponse, GetPracticeRequest, GetPracticeResponse, ListPatientsRequest,
        ListPatientsResponse, PutPracticeRequest, PutPracticeResponse, directory_service_server::DirectoryService,
    },
};
use crate::{domain::Role, service::directory::Directory};

/// The handlers.
pub(super) struct Handlers {
    pub(super) directory: Directory,
}

#[tonic::async_trait]
impl DirectoryService for Handlers {
    async fn put_practice(
        &self,
        request: Request<PutPracticeRequest>,
    ) -> Result<Response<PutPracticeResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Operator])?;
        let PutPracticeRequest { practice_id, practice } = request.into_inner();
        let revision = practice.as_ref().and_then(|practice| revision(&practice.etag));
        let practice = convert::directory::practice(practice)?;
        let stored = self.directory.practice_put(&scope, practice, revision).await?;
        let practice = Some(convert::directory::shown_practice(practice_id, stored));
        Ok(Response::new(PutPracticeResponse { practice }))
    }

    async fn get_practice(
        &self,
        request: Request<GetPracticeRequest>,
    ) -> Result<Response<GetPracticeResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &Role::ALL)?;
        let stored = self.directory.practice_get(&scope).await?;
        let practice = Some(convert::directory::shown_practice(request.into_inner().practice_id, stored));
        Ok(Response::new(GetPracticeResponse { practice }))
    }

    async fn batch_put_patients(
        &self,
        request: Request<BatchPutPatientsRequest>,
    ) -> Result<Response<BatchPutPatientsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Directory])?;
        let patients = convert::directory::patients(request.into_inner().patients)?;
        let (created_count, updated_count) = self.directory.patients_put(&scope, patients).await?;
        Ok(Response::new(BatchPutPatientsResponse { created_count, updated_count }))
    }

    async fn get_patient(&self, request: Request<GetPatientRequest>) -> Result<Response<GetPatientResponse>, Status> {
        let roles = &[Role::Staff, Role::Directory, Role::Patient];
        let scope = auth::scope(&request, &request.get_ref().practice_id, roles)?;
        let id = convert::directory::patient_id(&request.get_ref().patient_id)?;
        let stored = self.directory.patient_get(&scope, &id).await?;
        Ok(Response::new(GetPatientResponse { patient: Some(convert::directory::shown_patient(stored)) }))
    }

    async fn list_patients(
        &self,
        request: Request<ListPatientsRequest>,
    ) -> Result<Response<ListPatientsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff, Role::Directory])?;
        let list = convert::directory::list(request.into_inner())?;
        let page = self.directory.patients_list(&scope, list).await?;
        Ok(Response::new(convert::directory::page(page)))
    }

    async fn erase_patient(
        &self,
        request: Request<ErasePatientRequest>,
    ) -> Result<Response<ErasePatientResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::PracticeAdmin])?;
        let id = convert::directory::patient_id(&request.get_ref().patient_id)?;
        self.directory.patient_erase(&scope, &id).await?;
        Ok(Response::new(ErasePatientResponse {}))
    }
}
