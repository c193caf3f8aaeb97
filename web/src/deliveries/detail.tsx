// What became of one delivery, and why. Text and decisions are fetched only when somebody asks: reading them is recorded.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import {
  type ChannelDecision,
  type Delivery,
  type DeliveryEvent,
  DecisionStep_Outcome as Outcome,
  NotificationView,
} from "../../gen/heedwell/v1/notify_service_pb.js";
import { DeliveryState } from "../../gen/heedwell/v1/types_pb.js";
import { announce } from "../announce.js";
import { notify, requestId } from "../api.js";
import { textGone, useHere } from "../practice.js";
import { href } from "../route.js";
import { Time } from "../time.js";
import { Ask, Problem, Shape, Skeleton, State, useFocus, useLoaded } from "../ui.js";
import { CHANNELS, KINDS, RULES, STATES, actor, plural, skipped, word } from "../words.js";
import type { Rows } from "./rows.js";
import { Reason } from "./table.js";
import { isRetriable } from "./words.js";

/** As in app.css: no room beside the table. */
const COVERS = "(max-width: 69.99rem)";

/** What stands beside this and beside what it is in, but for what tells changes. */
function* around(panel: HTMLElement): Generator<HTMLElement> {
  for (let at = panel; at.parentElement && at.id !== "app"; at = at.parentElement) {
    for (const each of at.parentElement.children) {
      if (each instanceof HTMLElement && each !== at && !each.matches("[role=status]")) yield each;
    }
  }
}

/** Where the panel lies over the page, nothing below it can be reached. */
function useCover() {
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    const width = matchMedia(COVERS);
    const others = panel.current ? [...around(panel.current)] : [];
    const cover = (covered: boolean) => others.forEach((each) => (each.inert = covered));
    const fit = () => cover(width.matches);
    fit();
    width.addEventListener("change", fit);
    return () => {
      width.removeEventListener("change", fit);
      cover(false);
    };
  }, []);
  return panel;
}

interface Props {
  opened: string;
  row: Delivery | undefined;
  rows: Rows;
  close: () => void;
  open: (delivery: Delivery) => void;
}

export function Detail({ opened, row, close, open }: Props) {
  const { id, isStaff } = useHere();
  const [notificationId = "", deliveryId = ""] = opened.split(":");
  const loaded = useLoaded(async (signal) => {
    return notificationId ? notify.getNotification({ practiceId: id, notificationId }, { signal }) : undefined;
  }, [id, notificationId]);
  // A change of the row is one of its timeline too.
  useEffect(() => {
    if (loaded.value || loaded.error) loaded.reload();
  }, [row?.revision]);
  const panel = useCover();
  const heading = useFocus<HTMLHeadingElement>([opened]);
  const siblings = loaded.value?.notification?.deliveries ?? [];
  const newest = (left: Delivery | undefined, right: Delivery | undefined) =>
    left && right ? (left.revision >= right.revision ? left : right) : (left ?? right);
  const delivery = newest(row, siblings.find((each) => each.deliveryId === deliveryId));
  const detail = loaded.value?.details.find((each) => each.deliveryId === deliveryId);
  return (
    <aside class="panel" aria-labelledby="detail-title" ref={panel}>
      <header>
        <h2 id="detail-title" tabIndex={-1} ref={heading}>
          {delivery ? `${word(KINDS, delivery.kind)} by ${word(CHANNELS, delivery.channel)}` : "Delivery"}
        </h2>
        <button class="icon" aria-label="Close" title="Close (Esc)" onClick={close}>
          <Shape path="m4 4 8 8m0-8-8 8" />
        </button>
      </header>
      {loaded.error !== undefined && <Problem error={loaded.error} retry={loaded.reload} />}
      {!delivery && loaded.loading && <Skeleton what="delivery" />}
      {delivery && (
        <>
          <p class="state-line">
            <State state={delivery.state} /> <Reason delivery={delivery} />
          </p>
          {isStaff && <Actions delivery={delivery} siblings={siblings} open={open} />}
          <Facts delivery={delivery} />
          <Siblings delivery={delivery} siblings={siblings} open={open} />
          {detail && <Timeline events={detail.events} />}
          {isStaff && notificationId && <Recorded notificationId={notificationId} delivery={delivery} />}
        </>
      )}
    </aside>
  );
}

function Facts({ delivery }: { delivery: Delivery }) {
  const facts: [string, ComponentChildren][] = [
    ["Patient", delivery.patientId ? <a href={href("patients", delivery.patientId)}>{delivery.patientId}</a> : "Not linked to a patient"],
    ["Address", delivery.addressHint],
    ["Reference", delivery.reference && <a href={href("deliveries", "", { reference: delivery.reference })}>{delivery.reference}</a>],
    ["Belongs to", delivery.source.case === "conversationMessageId" && <Talk delivery={delivery} />],
    ["Broadcast", delivery.broadcastId && <a href={href("broadcasts", delivery.broadcastId)}>Show broadcast</a>],
    ["Created", <Time at={delivery.createTime} full />],
    ["Sent", delivery.sendTime && <Time at={delivery.sendTime} full />],
    ["Delivered", delivery.deliverTime && <Time at={delivery.deliverTime} full />],
    ["Opened", delivery.openTime && <Time at={delivery.openTime} full />],
    ["Attempts", delivery.attempts > 0 && String(delivery.attempts)],
    ["Segments", delivery.smsSegments > 0 && String(delivery.smsSegments)],
    ["Provider", delivery.provider],
    ["Provider’s ID", delivery.providerMessageId && <code>{delivery.providerMessageId}</code>],
    ["Code", delivery.failure?.providerCode && <code>{delivery.failure.providerCode}</code>],
  ];
  return (
    <dl class="facts">
      {facts.map(
        ([name, value]) =>
          value && (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

function Talk({ delivery }: { delivery: Delivery }) {
  const to = delivery.patientId ? href("conversations", "", { patient: delivery.patientId }) : href("conversations", "", { subset: "unlinked" });
  return <a href={to}>A conversation</a>;
}

function Siblings({ delivery, siblings, open }: { delivery: Delivery; siblings: Delivery[]; open: (delivery: Delivery) => void }) {
  const others = siblings.filter(({ deliveryId }) => deliveryId !== delivery.deliveryId);
  if (others.length === 0) return null;
  const how = (each: Delivery) =>
    each.retryOfDeliveryId === delivery.deliveryId ? ", this one sent again" : delivery.retryOfDeliveryId === each.deliveryId ? ", which this one repeats" : "";
  return (
    <section>
      <h3>The same message</h3>
      <ul class="siblings">
        {others.map((each) => (
          <li key={each.deliveryId}>
            <button class="quiet" onClick={() => open(each)}>
              {word(CHANNELS, each.channel)}
              {how(each)}
            </button>
            <State state={each.state} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Timeline({ events }: { events: DeliveryEvent[] }) {
  if (events.length === 0) {
    return (
      <section>
        <h3>Timeline</h3>
        <p class="dim">The steps of this delivery are no longer kept.</p>
      </section>
    );
  }
  return (
    <section>
      <h3>Timeline</h3>
      <ol class="timeline">
        {events.map((event, at) => {
          const provider = [event.providerStatus, event.providerCode].filter(Boolean).join(" ");
          const changed = event.state !== events[at - 1]?.state;
          return (
            <li key={at} class={changed ? `s${event.state}` : ""}>
              <Time at={event.eventTime} full />
              <span>
                {changed && <b>{word(STATES, event.state)}. </b>}
                {event.detail}
                {provider && <code> {provider}</code>}
                {event.attempt > 0 && <span class="dim"> Attempt {event.attempt}.</span>}
                {event.consentPosition > 0n && <span class="dim"> Consent read up to entry {event.consentPosition.toString()}.</span>}
                {event.actor && <span class="dim"> By {actor(event.actor)}.</span>}
              </span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

function Recorded(props: { notificationId: string; delivery: Delivery }) {
  const [asked, ask] = useState(false);
  if (asked) return <Full {...props} />;
  return (
    <section>
      <h3>Text and decision</h3>
      <p class="dim small">That you read them is put on record.</p>
      <button onClick={() => ask(true)}>Show text and why</button>
    </section>
  );
}

function Full({ notificationId, delivery }: { notificationId: string; delivery: Delivery }) {
  const { id, settings } = useHere();
  const loaded = useLoaded((signal) => {
    return notify.getNotification({ practiceId: id, notificationId, view: NotificationView.FULL }, { signal });
  }, [id, notificationId]);
  if (loaded.error !== undefined) return <Problem error={loaded.error} retry={loaded.reload} />;
  if (!loaded.value) return <Skeleton what="text" lines={3} />;
  const detail = loaded.value.details.find(({ deliveryId }) => deliveryId === delivery.deliveryId);
  const content = detail?.content;
  return (
    <>
      <section>
        <h3>Text</h3>
        {content ? (
          <figure class="text">
            {content.subject && <figcaption dir="auto">{content.subject}</figcaption>}
            <p dir="auto">{content.text}</p>
          </figure>
        ) : (
          <p class="dim">{delivery.state === DeliveryState.SKIPPED ? "None was written, since it was skipped." : textGone(settings.value)}</p>
        )}
        {content && (
          <p class="dim small">
            {content.templateKey && `Wording ${content.templateKey}${content.templateVersion > 0 ? `, version ${content.templateVersion}` : ""}. `}
            {content.smsSegments > 0 && `${plural(content.smsSegments, "segment")}, ${content.smsGsm7 ? "7-bit" : "UCS-2"}.`}
          </p>
        )}
      </section>
      <section>
        <h3>Why</h3>
        {loaded.value.decisions.map((decision) => (
          <Decision key={decision.channel} decision={decision} open={decision.channel === delivery.channel} />
        ))}
      </section>
    </>
  );
}

const OUTCOMES: Record<number, [string, string]> = {
  [Outcome.PASSED]: ["passed", "m3 8.5 3.5 3.5L13 5"],
  [Outcome.HELD]: ["held", "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 2.5V8l2.5 1.5"],
  [Outcome.REFUSED]: ["refused", "m4 4 8 8m0-8-8 8"],
};

function Decision({ decision, open }: { decision: ChannelDecision; open: boolean }) {
  const verdict = !decision.considered ? "not considered" : decision.skipReason ? skipped(decision.skipReason, decision.channel) : "used";
  return (
    <details class="decision" open={open}>
      <summary>
        <b>{word(CHANNELS, decision.channel)}</b>: {verdict}
      </summary>
      {decision.considered && !decision.skipReason && decision.attemptTime && (
        <p class="small">
          May first go <Time at={decision.attemptTime} full />
        </p>
      )}
      <ol>
        {decision.steps.map((step) => {
          const [outcome, path] = OUTCOMES[step.outcome] ?? ["other", "M4 8h8"];
          return (
            <li key={step.rule} class={outcome}>
              <Shape path={path} />
              <span>
                <span class="unseen">{outcome}: </span>
                {word(RULES, step.rule)}
                {step.detail && <span class="dim"> – {step.detail}</span>}
              </span>
            </li>
          );
        })}
      </ol>
    </details>
  );
}

function Actions({ delivery, siblings, open }: { delivery: Delivery; siblings: Delivery[]; open: (delivery: Delivery) => void }) {
  const { id } = useHere();
  const [asking, ask] = useState<"cancel" | "retry" | "">("");
  const notificationId = delivery.source.case === "notificationId" ? delivery.source.value : "";
  const others = siblings.filter((each) => each.state === DeliveryState.PENDING && each.deliveryId !== delivery.deliveryId);
  const cancel = async () => {
    const { cancelledDeliveries } = await notify.cancelNotification({ practiceId: id, notificationId });
    announce(cancelledDeliveries > 0 ? `${plural(cancelledDeliveries, "delivery", "deliveries")} cancelled` : "There was nothing left to cancel");
  };
  const [retryId] = useState(requestId);
  const retry = async () => {
    const { delivery: again } = await notify.retryDelivery({ practiceId: id, requestId: retryId, deliveryId: delivery.deliveryId });
    announce("Sent again");
    if (again) open(again);
  };
  const canCancel = delivery.state === DeliveryState.PENDING && notificationId !== "";
  // A button that has done its work goes, and would take the focus along.
  useEffect(() => {
    if (document.activeElement === document.body) document.getElementById("detail-title")?.focus({ preventScroll: true });
  }, [canCancel, isRetriable(delivery)]);
  if (!canCancel && !isRetriable(delivery)) return null;
  return (
    <p class="buttons">
      {canCancel && <button onClick={() => ask("cancel")}>Cancel</button>}
      {isRetriable(delivery) && <button onClick={() => ask("retry")}>Send again</button>}
      {asking === "cancel" && (
        <Ask title="Cancel this message?" yes="Cancel it" act={cancel} close={() => ask("")}>
          <p>
            What has not gone yet stays here
            {others.length > 0 && `, on ${others.map(({ channel }) => word(CHANNELS, channel)).join(" and ")} too`}. Its secure links stop working.
          </p>
        </Ask>
      )}
      {asking === "retry" && (
        <Ask title="Send it again?" yes="Send again" act={retry} close={() => ask("")}>
          {delivery.state === DeliveryState.UNCONFIRMED && (
            <p>
              <b>The patient may already have it.</b>
            </p>
          )}
          <p>The same text goes to the patient’s present address over {word(CHANNELS, delivery.channel)}, if consent allows.</p>
        </Ask>
      )}
    </p>
  );
}
