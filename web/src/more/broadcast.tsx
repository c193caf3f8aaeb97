import { useEffect, useMemo, useReducer, useState } from "preact/hooks";
import { type Broadcast, Broadcast_State as Stage } from "../../gen/heedwell/v1/broadcast_service_pb.js";
import type { DeliveryCounts } from "../../gen/heedwell/v1/notify_service_pb.js";
import { DeliveryState } from "../../gen/heedwell/v1/types_pb.js";
import { announce, tally } from "../announce.js";
import { watching } from "../api.js";
import { useHere } from "../practice.js";
import { href } from "../route.js";
import { type Feed, useStream } from "../stream.js";
import { Time } from "../time.js";
import { Ask, Problem, Skeleton, State, useAction, useFocus } from "../ui.js";
import { CHANNELS, STATES as DELIVERY_STATES, plural, slug, word } from "../words.js";
import { broadcasts } from "./api.js";
import { STATES } from "./broadcasts.js";
import { download } from "./csv.js";

interface Step {
  cursor: string;
  broadcast: Broadcast | undefined;
}

/** There is no cursor: each step replaces the last. */
class Watch implements Feed<Step> {
  broadcast: Broadcast | undefined;

  constructor(
    readonly practiceId: string,
    readonly broadcastId: string,
    readonly draw: () => void,
  ) {}

  async list(signal: AbortSignal): Promise<string> {
    const { practiceId, broadcastId } = this;
    this.put((await broadcasts.getBroadcast({ practiceId, broadcastId }, { signal })).broadcast);
    return "none";
  }

  async *watch(cursor: string, signal: AbortSignal): AsyncIterable<Step> {
    const { practiceId, broadcastId } = this;
    for await (const { broadcast } of broadcasts.watchBroadcast({ practiceId, broadcastId }, watching(signal))) yield { cursor, broadcast };
  }

  apply({ broadcast }: Step): void {
    const before = this.broadcast;
    this.put(broadcast);
    const failed = Number((broadcast?.counts?.failed ?? 0n) - (before?.counts?.failed ?? 0n));
    if (before && failed > 0) announce(`${failed} failed`);
    if (broadcast && before && broadcast.state !== before.state) tally(word(STATES, broadcast.state).toLowerCase());
  }

  isOver = () => this.broadcast?.state === Stage.COMPLETED || this.broadcast?.state === Stage.CANCELLED;

  put(broadcast: Broadcast | undefined): void {
    this.broadcast = broadcast;
    this.draw();
  }
}

export function Watched({ id }: { id: string }) {
  const { id: practiceId, isAdmin } = useHere();
  const stream = useStream();
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const watch = useMemo(() => new Watch(practiceId, id, () => draw(undefined as never)), [practiceId, id]);
  useEffect(() => stream.follow(watch), [watch]);
  const [asking, ask] = useState(false);
  const csv = useAction();
  const { broadcast } = watch;
  const heading = useFocus<HTMLHeadingElement>([broadcast?.broadcastId]);
  const { status } = stream;
  if (!broadcast) {
    return status.kind === "stopped" || status.kind === "waiting" ? <Problem error={status.error} retry={() => stream.retry()} /> : <Skeleton what="broadcast" />;
  }
  const cancel = async () => {
    watch.put((await broadcasts.cancelBroadcast({ practiceId, broadcastId: id })).broadcast);
    announce("Cancelled");
  };
  const filter = { broadcast: id };
  return (
    <div class="narrow">
      <h1 tabIndex={-1} ref={heading}>
        {broadcast.title}
      </h1>
      <p class="dim">
        {word(STATES, broadcast.state)} · {broadcast.channels.map((channel) => word(CHANNELS, channel)).join(", ")}
        {broadcast.recipientCount > 0n && ` · ${plural(broadcast.recipientCount, "patient")}`}
        {broadcast.scheduleTime && (
          <>
            {" "}
            · for <Time at={broadcast.scheduleTime} />
          </>
        )}
      </p>
      {broadcast.counts && <Counts counts={broadcast.counts} id={id} />}
      <p class="buttons">
        <a class="button" href={href("deliveries", "", filter)}>
          All deliveries
        </a>
        <a class="button" href={href("deliveries", "", { ...filter, state: "skipped" })}>
          Who was skipped, and why
        </a>
        <button disabled={csv.busy} onClick={() => csv.run(() => download(practiceId, id))}>
          {csv.busy ? "Gathering" : "Download CSV"}
        </button>
        {isAdmin && !watch.isOver() && <button onClick={() => ask(true)}>Cancel rest</button>}
      </p>
      {csv.error !== undefined && <Problem error={csv.error} />}
      <section class="sheet">
        <h2>{broadcast.subject || "Text"}</h2>
        <p class="text">{broadcast.body}</p>
      </section>
      {asking && (
        <Ask title="Cancel what has not gone yet?" yes="Cancel rest" act={cancel} close={() => ask(false)}>
          <p>What was handed to a provider stays as it is.</p>
        </Ask>
      )}
    </div>
  );
}

const ORDER: [keyof DeliveryCounts, DeliveryState][] = [
  ["delivered", DeliveryState.DELIVERED],
  ["sent", DeliveryState.SENT],
  ["unconfirmed", DeliveryState.UNCONFIRMED],
  ["failed", DeliveryState.FAILED],
  ["skipped", DeliveryState.SKIPPED],
  ["cancelled", DeliveryState.CANCELLED],
  ["pending", DeliveryState.PENDING],
];

function Counts({ counts, id }: { counts: DeliveryCounts; id: string }) {
  const parts = ORDER.map(([name, state]) => ({ state, count: Number(counts[name]) }));
  const total = parts.reduce((sum, { count }) => sum + count, 0);
  const done = total - Number(counts.pending);
  return (
    <>
      <div class="bar" role="progressbar" aria-label="Deliveries that are no longer pending" aria-valuemin={0} aria-valuemax={total} aria-valuenow={done}>
        {parts.map(({ state, count }) => count > 0 && <i key={state} class={`s${state}`} style={{ flexGrow: String(count) }} />)}
      </div>
      <ul class="counts">
        {parts.map(
          ({ state, count }) =>
            count > 0 && (
              <li key={state}>
                <a href={href("deliveries", "", { broadcast: id, state: slug(word(DELIVERY_STATES, state)) })}>
                  <State state={state} /> {count.toLocaleString("en-US")}
                </a>
              </li>
            ),
        )}
      </ul>
    </>
  );
}
