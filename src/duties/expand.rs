//! Goes on with broadcasts: makes the deliveries of a page of recipients after the other, and stops what waits of those that were
//! cancelled. A broadcast has a few pages at a time, so that none waits for the end of another.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    crypto,
    domain::{
        Author, Channel, Content, DeliveryId, Engine, Kind, NotificationId, Planner, Share,
        template::{self, Announced, RenderError},
    },
    store::{AddressKey, Member, NewDelivery, NewNotification, Over, PlanTurn, SharePage, Store, StoreError},
    telemetry,
};

/// Recipients of a page.
const PAGE: usize = 100;
/// The same where there is one writer: few enough that whoever else wants to write hardly waits for them.
/// While others do, there is no page for as long as the last one took.
const PAGE_OF_ONE_WRITER: usize = 12;
/// Recipients that a broadcast has before the next one's turn, or a few more.
const TURN: usize = 1_600;
/// Deliveries that are stopped in one transaction.
const STOPPED: u64 = 200;
/// When a broadcast comes up again after something went wrong.
const RETRY: TimeDelta = TimeDelta::seconds(2);

/// Goes on with every broadcast that has something to be done now. After `stop` nothing more is begun, and the turn is given back,
/// so that another goes on at once.
pub(super) async fn run_once(store: &Store, engine: &Engine, public_url: &str, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let turn = match store.broadcast_turn(engine).await {
            Ok(Some(turn)) => turn,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = %telemetry::chain(&error), "broadcasts could not be looked for");
                return;
            }
        };
        if let Err(error) = go_on(store, turn.clone(), (public_url, stop)).await {
            tracing::error!(
                broadcast.id = %turn.broadcast.id,
                error = %telemetry::chain(&error),
                "a broadcast could not go on and is tried again"
            );
            // If not even that can be written, the turn ends by itself.
            let _ = store.broadcast_leave(&turn, Some(RETRY)).await;
            return;
        }
    }
}

/// Uses a turn.
async fn go_on(
    store: &Store,
    mut turn: PlanTurn,
    (public_url, stop): (&str, &CancellationToken),
) -> Result<(), StoreError> {
    if turn.canceller.is_some() && !stop_all(store, &turn, stop).await? {
        return Ok(());
    }
    if turn.planned {
        return store.broadcast_leave(&turn, None).await;
    }
    let size = if store.is_alone() { PAGE_OF_ONE_WRITER } else { PAGE };
    for _ in 0..TURN.div_ceil(size) {
        if stop.is_cancelled() {
            break;
        }
        let start = Instant::now();
        let page = prepare(store, &turn, (public_url, size)).await?;
        match store.broadcast_plan(turn, page).await? {
            Some(next) => turn = next,
            None => return Ok(()),
        }
        if store.is_alone() && store.is_asked() {
            stop.run_until_cancelled(sleep(start.elapsed())).await;
        }
    }
    store.broadcast_leave(&turn, Some(TimeDelta::zero())).await
}

/// Stops what waits. False: somebody else does.
async fn stop_all(store: &Store, turn: &PlanTurn, stop: &CancellationToken) -> Result<bool, StoreError> {
    let canceller = turn.canceller.clone().unwrap_or_else(Author::system);
    let scope = turn.scope.by(canceller);
    let mut after = None;
    loop {
        if stop.is_cancelled() {
            store.broadcast_leave(turn, Some(TimeDelta::zero())).await?;
            return Ok(false);
        }
        match store.broadcast_stop((&scope, turn.broadcast.id), Some(turn), after, STOPPED).await {
            Ok(None) => return Ok(true),
            Ok(last) => after = last,
            Err(StoreError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// The shares of the next page, decided on and written, and nothing stored yet.
async fn prepare(store: &Store, turn: &PlanTurn, (public_url, size): (&str, usize)) -> Result<SharePage, StoreError> {
    let page = store.audience_page(&turn.scope, &turn.broadcast.audience, &turn.position, size).await?;
    let addresses = |member: &Member| member.addresses.clone().into_iter().collect::<Vec<_>>();
    let taken = store.broadcast_taken(turn, page.members.iter().flat_map(addresses)).await?;
    let planner = Planner::new(turn.broadcast.channels, turn.due_time, taken);
    let (turn, public_url, store) = (turn.clone(), Arc::<str>::from(public_url), store.clone());
    // Rendering is bounded, but it is work: it does not belong on a thread that serves connections.
    let work = tokio::task::spawn_blocking(move || {
        let desk = Desk { turn: &turn, public_url: &public_url, store: &store };
        let (shares, taken) = desk.write_all(page.members, planner);
        SharePage { shares, taken, next: page.next }
    });
    work.await.map_err(|_| StoreError::Abandoned)
}

/// Where the shares of a page are written.
struct Desk<'a> {
    turn: &'a PlanTurn,
    public_url: &'a str,
    store: &'a Store,
}

impl Desk<'_> {
    /// The shares, and the addresses that they are the first to have.
    fn write_all(
        &self,
        members: Vec<Member>,
        mut planner: Planner<AddressKey>,
    ) -> (Vec<NewNotification>, Vec<(Channel, AddressKey)>) {
        let Some(practice) = members.first().map(|member| Arc::clone(&member.grounds.practice)) else {
            return (Vec::new(), Vec::new());
        };
        let announced = Announced::new(&self.turn.broadcast.announcement, &practice);
        let (mut shares, mut taken) = (Vec::new(), Vec::new());
        for member in members {
            let grounds = member.grounds.grounds(Kind::Announcement);
            let share = planner.share(&grounds, |channel| member.addresses.get(&channel).copied());
            let used = share.decisions.iter().filter(|decision| decision.uses());
            taken.extend(used.filter_map(|it| Some((it.channel, *member.addresses.get(&it.channel)?))));
            shares.push(self.write(member, share, &announced));
        }
        (shares, taken)
    }

    /// What is stored of one recipient's share.
    fn write(&self, member: Member, share: Share, announced: &Announced) -> NewNotification {
        let broadcast = &self.turn.broadcast;
        let now = member.grounds.now;
        let deliveries = share.decisions.iter().filter(|decision| decision.considered).map(|decision| {
            let id = DeliveryId(crypto::new_id(now));
            let (content, over) = match (decision.uses(), self.turn.canceller.is_some()) {
                (false, _) => (None, None),
                (true, true) => (None, Some(Over::Cancelled)),
                (true, false) => match self.text(&member, (decision.channel, id), announced) {
                    Ok(content) => (Some(content), None),
                    Err(error) => {
                        tracing::warn!(
                            broadcast.id = %broadcast.id,
                            delivery.id = %id,
                            error = %telemetry::chain(&error),
                            "there is no text for a recipient"
                        );
                        (None, Some(Over::NoText))
                    }
                },
            };
            NewDelivery { id, channel: decision.channel, content, over }
        });
        NewNotification {
            id: NotificationId(crypto::new_id(now)),
            request_id: String::new(),
            fingerprint: [0; 32],
            kind: Kind::Announcement,
            reference: String::new(),
            urgent: false,
            security: false,
            requested: Some(broadcast.channels),
            schedule_time: broadcast.schedule_time,
            expire_time: share.expire_time,
            default_expiry: true,
            visit_time: None,
            deliveries: deliveries.collect(),
            decisions: share.decisions,
            links: Vec::new(),
            broadcast: Some(broadcast.id),
            patient: member.grounds.patient,
        }
    }

    fn text(
        &self,
        member: &Member,
        (channel, id): (Channel, DeliveryId),
        announced: &Announced,
    ) -> Result<Content, RenderError> {
        let grounds = &member.grounds;
        let unsubscribe = format!("{}/u/{}", self.public_url, self.store.unsubscribe_token(id));
        let home = (&*grounds.practice, &*grounds.settings);
        template::render(&announced.for_one(channel, home, &grounds.patient, &unsubscribe))
    }
}
