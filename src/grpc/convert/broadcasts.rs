//! Broadcasts: what is asked for, and how they are shown.

use std::collections::BTreeSet;

use prost::Message;

use super::{
    author,
    check::{Check, page_size, request_id},
    delivery::counts,
    notification::rendered,
    timestamp,
};
use crate::{
    domain::{
        Announcement, Audience, Broadcast, BroadcastId, BroadcastState, Channel, ChannelSet, PatientId, Phi, template,
    },
    grpc::proto::{
        self,
        audience::{AllPatients, PatientIds, Selection, Tags},
        preview_broadcast_response::{ChannelReach, SkipCount},
    },
    service::{
        Error,
        broadcasts::{Input, ListQuery, Made, Order, Preview, Reach},
        watch::BroadcastStep,
    },
};

/// Most patients that an audience names.
const MOST_PATIENTS: usize = 10_000;
/// Most tags that an audience names.
const MOST_TAGS: usize = 100;
/// The longest body, in characters: what wording may be.
const LONGEST_BODY: usize = 16 * 1024;

/// A broadcast to accept.
pub(crate) fn order(mut request: proto::CreateBroadcastRequest) -> Result<Order, Error> {
    let mut check = Check::default();
    let request_id = request_id(&mut check, std::mem::take(&mut request.request_id));
    // Without the key: equal requests give equal bytes.
    let canonical = Phi::new(request.encode_to_vec());
    let expected = request.expected_recipients;
    check.expect("expected_recipients", expected > 0, "is required: what PreviewBroadcast says, at least 1");
    let input = check.required("broadcast", request.broadcast, input);
    check.finish(input.map(|input| Order { request_id, canonical, input, expected }))
}

/// A broadcast to look at, and whose data to render it with.
pub(crate) fn to_preview(request: proto::PreviewBroadcastRequest) -> Result<(Input, Option<PatientId>), Error> {
    let mut check = Check::default();
    let input = check.required("broadcast", request.broadcast, input);
    let sample = check.parsed_if_set("sample_patient_id", &request.sample_patient_id, str::parse);
    check.finish(input.map(|input| (input, sample)))
}

fn input(check: &mut Check, input: proto::BroadcastInput) -> Option<Input> {
    let title = check.required_name("title", input.title, 120);
    let audience = check.required("audience", input.audience, audience);
    check.count("channels", input.channels.len(), 1..=Channel::ALL.len());
    let channels: ChannelSet = check.choices("channels", input.channels, Channel::from_number).into_iter().collect();
    let only_texts = channels.is_empty() || channels == ChannelSet::NONE.with(Channel::Sms);
    let subject = if only_texts {
        check.name("subject", input.subject, 200)
    } else {
        check.required_name("subject", input.subject, 200)
    };
    check.expect("body", !input.body.trim().is_empty(), "is required");
    let body = check.seen_lines("body", input.body.replace("\r\n", "\n"), LONGEST_BODY);
    let schedule_time = check.time("schedule_time", input.schedule_time);
    let [title, subject, body] = [title, subject, body].map(Phi::new);
    let announcement = Announcement { title, subject, body };
    for (field, fault) in template::announcement_faults(&announcement) {
        check.expect(field, false, fault);
    }
    audience.map(|audience| Input { announcement, audience, channels, schedule_time })
}

fn audience(check: &mut Check, audience: proto::Audience) -> Option<Audience> {
    match audience.selection {
        None => check.fail("must name patients or tags, or all"),
        Some(Selection::All(AllPatients {})) => Some(Audience::All),
        Some(Selection::PatientIds(PatientIds { values })) => check.at("patient_ids", |check| {
            check.count("values", values.len(), 1..=MOST_PATIENTS);
            let ids = values.iter().take(MOST_PATIENTS).enumerate();
            let ids = ids.filter_map(|(place, id)| check.parsed(&format!("values[{place}]"), id, str::parse));
            Some(Audience::Patients(ids.collect()))
        }),
        Some(Selection::Tags(Tags { values })) => check.at("tags", |check| {
            check.count("values", values.len(), 1..=MOST_TAGS);
            let tags = values.into_iter().take(MOST_TAGS).enumerate();
            let tags: BTreeSet<String> =
                tags.map(|(place, tag)| check.required_line(&format!("values[{place}]"), tag, 64)).collect();
            Some(Audience::Tags(tags))
        }),
    }
}

/// Which broadcast is asked for.
pub(crate) fn wanted(id: &str) -> Result<BroadcastId, Error> {
    let mut check = Check::default();
    let id = check.id("broadcast_id", id);
    check.finish(id)
}

/// What a list is asked for.
pub(crate) fn list(mut request: proto::ListBroadcastsRequest) -> Result<ListQuery, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let page_size = page_size(std::mem::take(&mut request.page_size), 50, 200);
    // Without size and token: what a page token is bound to.
    let canonical = Phi::new(request.encode_to_vec());
    let mut check = Check::default();
    let states = check.choices("states", request.states, BroadcastState::from_number);
    check.finish(Some(ListQuery { states, page_size, page_token, canonical }))
}

/// Who may see what a broadcast says: auditors see where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// All of it.
    Whole,
    /// Without its words.
    Unworded,
}

/// What an accept answers.
pub(crate) fn made(made: Made) -> proto::CreateBroadcastResponse {
    proto::CreateBroadcastResponse { broadcast: Some(shown(made.broadcast, View::Whole)), replayed: made.replayed }
}

/// What a list answers.
pub(crate) fn page(
    (broadcasts, next_page_token): (Vec<Broadcast>, String),
    view: View,
) -> proto::ListBroadcastsResponse {
    let broadcasts = broadcasts.into_iter().map(|broadcast| shown(broadcast, view)).collect();
    proto::ListBroadcastsResponse { broadcasts, next_page_token }
}

/// What a preview answers.
pub(crate) fn previewed(preview: Preview) -> proto::PreviewBroadcastResponse {
    proto::PreviewBroadcastResponse {
        recipient_count: preview.recipients,
        reaches: preview.reaches.into_iter().map(reach).collect(),
    }
}

fn reach(reach: Reach) -> ChannelReach {
    let skips = reach.skips.into_iter().map(|(reason, count)| SkipCount { reason: reason.number().into(), count });
    ChannelReach {
        channel: reach.channel.number().into(),
        would_send: reach.sends,
        skips: skips.collect(),
        sample: reach.sample.map(rendered),
        warnings: reach.warnings,
    }
}

/// A step of a watch.
pub(crate) fn step(step: BroadcastStep, view: View) -> proto::WatchBroadcastResponse {
    proto::WatchBroadcastResponse {
        broadcast: Some(shown(step.broadcast, view)),
        server_time: Some(timestamp(step.server_time)),
    }
}

/// A broadcast.
pub(crate) fn shown(broadcast: Broadcast, view: View) -> proto::Broadcast {
    let Announcement { title, subject, body } = broadcast.announcement;
    let [subject, body] = [subject, body].map(|text| match view {
        View::Whole => text.into_inner(),
        View::Unworded => String::new(),
    });
    proto::Broadcast {
        broadcast_id: broadcast.id.to_string(),
        title: title.into_inner(),
        audience: Some(selection(broadcast.audience)),
        channels: broadcast.channels.iter().map(|channel| channel.number().into()).collect(),
        subject,
        body,
        state: broadcast.state.number().into(),
        counts: Some(counts(&broadcast.counts)),
        recipient_count: broadcast.recipients,
        create_time: Some(timestamp(broadcast.create_time)),
        schedule_time: broadcast.schedule_time.map(timestamp),
        start_time: broadcast.start_time.map(timestamp),
        complete_time: broadcast.complete_time.map(timestamp),
        creator: Some(author(broadcast.creator)),
    }
}

fn selection(audience: Audience) -> proto::Audience {
    let selection = match audience {
        Audience::All => Selection::All(AllPatients {}),
        Audience::Tags(tags) => Selection::Tags(Tags { values: tags.into_iter().collect() }),
        Audience::Patients(patients) => {
            Selection::PatientIds(PatientIds { values: patients.into_iter().map(|id| id.to_string()).collect() })
        }
    };
    proto::Audience { selection: Some(selection) }
}
