//! `PreferencesService`: scope, parse, call, show.

use tonic::{Request, Response, Status};

use super::{
    auth, convert,
    proto::{
        BatchGetReachabilityRequest, BatchGetReachabilityResponse, GetPatientPreferencesRequest,
        GetPatientPreferencesResponse, GetPracticeSettingsRequest, GetPracticeSettingsResponse,
        ListConsentRecordsRequest, ListConsentRecordsResponse, RecordConsentRequest, RecordConsentResponse,
        UpdatePatientPreferencesRequest, UpdatePatientPreferencesResponse, UpdatePracticeSettingsRequest,
        UpdatePracticeSettingsResponse, preferences_service_server::PreferencesService,
    },
};
use crate::{
    domain::{ConsentSource, Role},
    service::{consent::Consents, preferences::Preferences},
};

/// The handlers.
pub(super) struct Handlers {
    pub(super) preferences: Preferences,
    pub(super) consents: Consents,
}

#[tonic::async_trait]
impl PreferencesService for Handlers {
    async fn get_practice_settings(
        &self,
        request: Request<GetPracticeSettingsRequest>,
    ) -> Result<Response<GetPracticeSettingsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let settings = convert::settings::shown(self.preferences.settings_get(&scope).await?);
        Ok(Response::new(GetPracticeSettingsResponse { settings: Some(settings) }))
    }

    async fn update_practice_settings(
        &self,
        request: Request<UpdatePracticeSettingsRequest>,
    ) -> Result<Response<UpdatePracticeSettingsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::PracticeAdmin])?;
        let update = convert::settings::Update::read(request.into_inner())?;
        let change = |settings| update.apply(settings);
        let settings = self.preferences.settings_update(&scope, update.revision(), change).await?;
        Ok(Response::new(UpdatePracticeSettingsResponse { settings: Some(convert::settings::shown(settings)) }))
    }

    async fn get_patient_preferences(
        &self,
        request: Request<GetPatientPreferencesRequest>,
    ) -> Result<Response<GetPatientPreferencesResponse>, Status> {
        let roles = &[Role::Staff, Role::Sender, Role::Patient, Role::Portal];
        auth::not_offered(&request, &request.get_ref().practice_id, roles)
    }

    async fn update_patient_preferences(
        &self,
        request: Request<UpdatePatientPreferencesRequest>,
    ) -> Result<Response<UpdatePatientPreferencesResponse>, Status> {
        auth::not_offered(&request, &request.get_ref().practice_id, &[Role::Staff, Role::Patient, Role::Portal])
    }

    async fn record_consent(
        &self,
        request: Request<RecordConsentRequest>,
    ) -> Result<Response<RecordConsentResponse>, Status> {
        // Whoever may act in several roles acts in that of the source which they name.
        let portal = request.get_ref().source == i32::from(ConsentSource::Portal.number());
        let roles = if portal {
            [Role::Patient, Role::Portal, Role::Staff]
        } else {
            [Role::Staff, Role::Patient, Role::Portal]
        };
        let scope = auth::scope(&request, &request.get_ref().practice_id, &roles)?;
        let now = self.consents.now().await?;
        let order = convert::consent::order(&scope, request.into_inner(), now)?;
        Ok(Response::new(convert::consent::recorded(self.consents.record(&scope, order).await?)))
    }

    async fn list_consent_records(
        &self,
        request: Request<ListConsentRecordsRequest>,
    ) -> Result<Response<ListConsentRecordsResponse>, Status> {
        let roles = &[Role::Staff, Role::Auditor, Role::Patient, Role::Portal];
        let scope = auth::scope(&request, &request.get_ref().practice_id, roles)?;
        let list = convert::consent::list(&scope, request.into_inner())?;
        Ok(Response::new(convert::consent::listed(self.consents.list(&scope, list).await?)))
    }

    async fn batch_get_reachability(
        &self,
        request: Request<BatchGetReachabilityRequest>,
    ) -> Result<Response<BatchGetReachabilityResponse>, Status> {
        auth::not_offered(&request, &request.get_ref().practice_id, &[Role::Staff, Role::Sender])
    }
}
