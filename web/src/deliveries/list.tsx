// Filters, the live table and the panel beside it; the view of all deliveries and the history of one patient are both this.
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import type { Delivery } from "../../gen/heedwell/v1/notify_service_pb.js";
import { announce } from "../announce.js";
import { useKeys } from "../keys.js";
import { useHere } from "../practice.js";
import { href } from "../route.js";
import { useStream } from "../stream.js";
import { Empty, Problem, Skeleton, useAction } from "../ui.js";
import { plural } from "../words.js";
import { Detail } from "./detail.js";
import { type Filter, isEmpty, nothing } from "./filter.js";
import { Filters, NONE } from "./filters.js";
import { Rows } from "./rows.js";
import { Table } from "./table.js";

/** Further down somebody is reading. */
const TOP_PX = 200;

interface Props {
  filter: Filter;
  setFilter: (filter: Filter) => void;
  /** Ids of a notification and of the delivery that is looked at, joined by a colon. */
  opened: string;
  setOpened: (opened: string) => void;
  fixed?: boolean;
}

function useRows(filter: Filter): Rows {
  const { id } = useHere();
  const stream = useStream();
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const key = JSON.stringify(filter);
  const rows = useMemo(() => new Rows(id, filter, () => draw(undefined as never)), [id, key]);
  useEffect(() => stream.follow(rows), [rows]);
  return rows;
}

export function List({ filter, setFilter, opened, setOpened, fixed }: Props) {
  const rows = useRows(filter);
  const stream = useStream();
  const hold = useHold(rows, stream.paused);
  const older = useAction();
  const [, deliveryId = ""] = opened.split(":");
  const close = () => setOpened("");
  // Whatever closed it, also a step back: who was in the panel is on its row again.
  const last = useRef("");
  useEffect(() => {
    if (!deliveryId && document.activeElement === document.body) document.getElementById(`row-${last.current}`)?.focus();
    last.current = deliveryId;
  }, [deliveryId]);
  useKeys({ Escape: () => opened && close() });
  const open = (delivery: Delivery) => setOpened(`${delivery.source.case === "notificationId" ? delivery.source.value : ""}:${delivery.deliveryId}`);
  const caption = fixed ? "Deliveries to this patient, newest first" : "Deliveries, newest first";
  return (
    <div class={opened ? "split open" : "split"}>
      <div class="main">
        <Filters filter={filter} set={setFilter} fixed={fixed} />
        {stream.status.kind === "stopped" && <Problem error={stream.status.error} />}
        {stream.status.kind === "waiting" && !rows.loaded && <Problem error={stream.status.error} retry={() => stream.retry()} />}
        {rows.caughtUp && <CaughtUp rows={rows} />}
        {!rows.loaded && stream.status.kind === "loading" && <Skeleton what="deliveries" lines={10} />}
        {rows.loaded && rows.shown.length === 0 && <None filter={filter} setFilter={setFilter} fixed={fixed} />}
        <div
          onPointerEnter={() => hold("pointer", true)}
          onPointerLeave={() => hold("pointer", false)}
          onFocusIn={() => hold("focus", true)}
          onFocusOut={(event) => event.currentTarget.contains(event.relatedTarget as Node) || hold("focus", false)}
        >
          {rows.waiting > 0 && (
            <p class="news">
              <button class="primary" onClick={() => (rows.settle(), scrollTo({ top: 0 }))}>
                {rows.waiting.toLocaleString("en-US")} new
              </button>
            </p>
          )}
          {rows.shown.length > 0 && (
            <div class={stream.isStale ? "stale" : ""}>
              <Table rows={rows} opened={deliveryId} open={open} caption={caption} fixed={fixed} />
            </div>
          )}
        </div>
        {rows.more && (
          <p class="older">
            <button disabled={older.busy} onClick={() => older.run(() => rows.older()).then(() => announce(`${plural(rows.shown.length, "delivery", "deliveries")} shown`))}>
              Load older
            </button>
          </p>
        )}
        {older.error !== undefined && <Problem error={older.error} />}
      </div>
      {opened && <Detail key={opened} opened={opened} row={rows.shown.find((each) => each.deliveryId === deliveryId)} rows={rows} close={close} open={open} />}
    </div>
  );
}

/** Rows stand still under a pointer, under the focus, further down, and on a pause. */
function useHold(rows: Rows, paused: boolean): (why: "pointer" | "focus", held: boolean) => void {
  const reasons = useRef({ pointer: false, focus: false, down: false });
  const weigh = () => rows.hold(paused || Object.values(reasons.current).some(Boolean));
  useEffect(() => {
    const scrolled = () => {
      reasons.current.down = scrollY > TOP_PX;
      weigh();
    };
    addEventListener("scroll", scrolled, { passive: true });
    weigh();
    return () => removeEventListener("scroll", scrolled);
  });
  return (why, held) => {
    reasons.current[why] = held;
    weigh();
  };
}

function CaughtUp({ rows }: { rows: Rows }) {
  const [, draw] = useState(0);
  return (
    <p class="note" role="status">
      Caught up after a gap: what changed in between is in the list, but was not shown as it happened.
      <button class="quiet" onClick={() => ((rows.caughtUp = false), draw(1))}>
        Dismiss
      </button>
    </p>
  );
}

function None({ filter, setFilter, fixed }: { filter: Filter; setFilter: (filter: Filter) => void; fixed?: boolean | undefined }) {
  if (!isEmpty(fixed ? { ...filter, patient: "" } : filter)) {
    return (
      <Empty title={nothing(filter)}>
        <button onClick={() => setFilter({ ...NONE, patient: fixed ? filter.patient : "" })}>Clear filters</button>
      </Empty>
    );
  }
  if (fixed) return <Empty title="Nothing was sent to this patient yet" />;
  return <Never />;
}

function Never() {
  const { id } = useHere();
  return (
    <Empty title="No deliveries yet">
      <p>What your services send appears here as it happens. A first one, over gRPC:</p>
      <pre>
        {`grpcurl -H "authorization: Bearer $TOKEN" -d '{
  "practice_id": "${id}", "request_id": "first-send",
  "notification": {
    "patient_id": "PATIENT",
    "system": {"title": "Hello", "body": "A first message."}
  }
}' HOST:50051 heedwell.v1.NotifyService/SendNotification`}
      </pre>
      <p>
        <a href={href("settings")}>See whether the channels are set up</a>
      </p>
    </Empty>
  );
}
