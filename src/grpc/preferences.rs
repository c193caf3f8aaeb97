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
        let update = convert::settings::Update::read(request.into_inner(), self.preferences.any_relay_port())?;
        let change = |settings| update.apply(settings);
        let settings = self.preferences.settings_update(&scope, update.revision(), change).await?;
        Ok(Response::new(UpdatePracticeSettingsResponse { settings: Some(convert::settings::shown(settings)) }))
    }

    async fn get_patient_preferences(
        &self,
        request: Request<GetPatientPreferencesRequest>,
    ) -> Result<Response<GetPatientPreferencesResponse>, Status> {
        let roles = &[Role::Staff, Role::Sender, Role::Patient, Role::Portal];
        let scope = auth::scope(&request, &request.get_ref().practice_id, roles)?;
        let patient = convert::directory::patient_id(&request.get_ref().patient_id)?;
        let view = self.preferences.patient_get(&scope, &patient).await?;
        let preferences = Some(convert::preferences::shown(view));
        Ok(Response::new(GetPatientPreferencesResponse { preferences }))
    }

    async fn update_patient_preferences(
        &self,
        request: Request<UpdatePatientPreferencesRequest>,
    ) -> Result<Response<UpdatePatientPreferencesResponse>, Status> {
        let roles = &[Role::Staff, Role::Patient, Role::Portal];
        let scope = auth::scope(&request, &request.get_ref().practice_id, roles)?;
        let update = convert::preferences::update(request.into_inner())?;
        let change = self.preferences.patient_update(&scope, &update.patient, update.revision, &update.changes);
        let preferences = Some(convert::preferences::shown(change.await?));
        Ok(Response::new(UpdatePatientPreferencesResponse { preferences }))
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
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff, Role::Sender])?;
        let (kind, patients) = convert::preferences::to_reach(request.into_inner())?;
        let answer = self.preferences.reachability(&scope, kind, patients).await?;
        Ok(Response::new(convert::preferences::reachable(answer)))
    }
}
