//! What a send would do now, and by which rules. Nothing is written, and no address is made that would open anything.

use uuid::Uuid;

use super::{
    Input, Notify,
    prepare::{Addresses, Plan, render},
};
use crate::{
    domain::{
        Channel, Content, Decision, DeliveryId, Scope,
        template::{self, RenderError},
    },
    service::Error,
    store::GroundsRow,
};

/// Stands for the token of the link that a send would make. It opens nothing, and is as long.
const NO_TOKEN: [u8; 16] = [0; 16];
/// The mail that is not sent: nobody can unsubscribe by it.
const NO_MAIL: DeliveryId = DeliveryId(Uuid::nil());

/// What would happen on one channel.
#[derive(Clone, Debug)]
pub struct ChannelPreview {
    /// The decision, with the rules that led to it.
    pub decision: Decision,
    /// Masked address; empty where there is none.
    pub address_hint: String,
    /// The text, also where it would not be sent; unset if there can be none.
    pub content: Option<Content>,
    /// Sentences fit to show to staff.
    pub warnings: Vec<String>,
}

impl Notify {
    /// Says for each channel what [`Notify::send`] would do with `input` now. It shows the patient's name, and who is addressed:
    /// the audit trail tells.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `NOT_FOUND` (patient).
    pub async fn preview(&self, scope: &Scope, input: Input) -> Result<Vec<ChannelPreview>, Error> {
        let row = self.store.grounds(scope, &input.patient).await;
        let row = row.map_err(|error| Error::from(error).named(&input.patient))?;
        let plan = Plan::of(&input, &row)?;
        let addresses = Addresses {
            link: input.payload.link().map(|_| self.short_address(&NO_TOKEN)),
            unsubscribe: self.way_out(NO_MAIL),
        };
        let patient = input.patient.clone();
        let previews = tokio::task::spawn_blocking(move || {
            let preview = |decision| preview(&input, &row, decision, &addresses);
            plan.decisions.into_iter().map(preview).collect::<Result<Vec<_>, _>>()
        });
        let previews = previews.await.map_err(|error| Error::Internal(error.into()))??;
        self.store.audit_read(scope, Some(&patient), "preview").await?;
        Ok(previews)
    }
}

fn preview(
    input: &Input,
    row: &GroundsRow,
    decision: Decision,
    addresses: &Addresses,
) -> Result<ChannelPreview, Error> {
    let channel = decision.channel;
    let address_hint = row.patient.address_hint(channel);
    let ask = render::ask(input, row, channel, addresses);
    let (content, warnings) = match template::render(&ask) {
        Ok(content) => {
            let warnings = template::warnings(&ask, &content);
            (Some(content), warnings)
        }
        // What is not sent refuses nothing.
        Err(RenderError::TooLong) if !decision.uses() => (None, vec![too_long(channel)]),
        Err(error) if decision.uses() => return Err(render::refused(input, channel, error)),
        Err(_) => (None, Vec::new()),
    };
    Ok(ChannelPreview { decision, address_hint, content, warnings })
}

fn too_long(channel: Channel) -> String {
    format!("The text is too long for {}.", channel.label())
}
