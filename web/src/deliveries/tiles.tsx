import { useEffect, useState } from "preact/hooks";
import type { GetDeliveryStatsResponse, GetDeliveryStatsResponse_ChannelStats } from "../../gen/heedwell/v1/notify_service_pb.js";
import { notify } from "../api.js";
import { useHere } from "../practice.js";
import { href } from "../route.js";
import { Time } from "../time.js";
import { Problem, Skeleton, useLoaded } from "../ui.js";
import { CHANNELS, FAILURES, slug, word } from "../words.js";
import { hoursAgo } from "./filter.js";
import { changes } from "./rows.js";

/** Beyond this share of failures something is wrong. */
const BAD_SHARE = 0.03;
const PERIODS = { "24h": 24, "7d": 7 * 24 };
type Period = keyof typeof PERIODS;
/** However much happens, it is not counted more often. */
const REST_MS = 5_000;

export function Tiles() {
  const { id } = useHere();
  const [period, set] = useState<Period>("24h");
  const stats = useLoaded((signal) => {
    return notify.getDeliveryStats({ practiceId: id, startTime: hoursAgo(PERIODS[period]) }, { signal });
  }, [id, period]);
  useChanges(stats.reload);
  return (
    <section class="stats" aria-label="Counts">
      <div class="switch" role="group" aria-label="Period of the counts">
        {(Object.keys(PERIODS) as Period[]).map((each) => (
          <button key={each} aria-pressed={each === period} onClick={() => set(each)}>
            {each === "24h" ? "24 hours" : "7 days"}
          </button>
        ))}
        <button class="quiet" onClick={stats.reload}>
          Count again
        </button>
        {stats.value && (
          <span class="dim small">
            Whole hours, since <Time at={stats.value.startTime} />
          </span>
        )}
      </div>
      {stats.error !== undefined && <Problem error={stats.error} retry={stats.reload} />}
      {stats.value ? <Counts stats={stats.value} period={period} /> : stats.loading && <Skeleton what="counts" lines={2} />}
    </section>
  );
}

/** Counts anew after changes, while somebody looks at it. */
function useChanges(count: () => void): void {
  useEffect(() => {
    let timer = 0;
    const later = () => {
      timer ||= window.setTimeout(() => {
        timer = 0;
        if (document.hidden) later();
        else count();
      }, REST_MS);
    };
    changes.addEventListener("change", later);
    return () => {
      changes.removeEventListener("change", later);
      clearTimeout(timer);
    };
  }, []);
}

function Counts({ stats, period }: { stats: GetDeliveryStatsResponse; period: Period }) {
  const failures = [...stats.failures].sort((left, right) => Number(right.count - left.count)).slice(0, 3);
  return (
    <>
      <ul class="tiles">
        {stats.channels.map((each) => (
          <Tile key={each.channel} stats={each} period={period} />
        ))}
      </ul>
      {failures.length > 0 && (
        <p class="small">
          Most frequent:{" "}
          {failures.map(({ channel, reason, count }, at) => (
            <span key={`${channel}-${reason}`}>
              {at > 0 && " · "}
              {word(FAILURES, reason)} ({word(CHANNELS, channel)}, {count.toLocaleString("en-US")})
            </span>
          ))}
        </p>
      )}
    </>
  );
}

/** All states: a tile adds up to its number. */
const LINES = ["delivered", "sent", "failed", "skipped", "unconfirmed", "pending", "cancelled"] as const;

function Tile({ stats, period }: { stats: GetDeliveryStatsResponse_ChannelStats; period: Period }) {
  const { channel, counts } = stats;
  if (!counts) return null;
  const name = word(CHANNELS, channel);
  const all = LINES.reduce((sum, state) => sum + counts[state], 0n);
  // What a provider has or had: of what never went, nothing can be said to have arrived.
  const left = Number(counts.sent + counts.delivered + counts.failed + counts.unconfirmed);
  const share = (state: "delivered" | "failed") => (left > 0 ? Number(counts[state]) / left : 0);
  const percent = (state: "delivered" | "failed") => share(state).toLocaleString("en-US", { style: "percent", maximumFractionDigits: 1 });
  const isBad = (state: string) => state === "unconfirmed" || (state === "failed" && share(state) >= BAD_SHARE);
  const to = (state: string) => href("deliveries", "", { channel: slug(name), state, period });
  return (
    <li class="tile">
      <a class="whole" href={to("")}>
        <b>{name}</b> <span class="count">{all.toLocaleString("en-US")}</span>
      </a>
      {LINES.filter((state) => counts[state] > 0n).map((state) => (
        <a key={state} class={isBad(state) ? "warn" : ""} href={to(state)}>
          {counts[state].toLocaleString("en-US")} {state}
          {(state === "delivered" || state === "failed") && ` – ${percent(state)}`}
        </a>
      ))}
      {counts.failed === 0n && <span>No failures</span>}
    </li>
  );
}
