import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { useState } from "preact/hooks";
import type { DeliveryCounts, GetDeliveryStatsResponse, GetDeliveryStatsResponse_ChannelStats } from "../../gen/heedwell/v1/notify_service_pb.js";
import { notify } from "../api.js";
import { useHere } from "../practice.js";
import { href } from "../route.js";
import { Problem, Skeleton, useLoaded } from "../ui.js";
import { CHANNELS, FAILURES, slug, word } from "../words.js";

/** Beyond this share of failures something is wrong. */
const BAD_SHARE = 0.03;
const PERIODS = { "24h": 24, "7d": 7 * 24 };
type Period = keyof typeof PERIODS;

export function Tiles() {
  const { id } = useHere();
  const [period, set] = useState<Period>("24h");
  const stats = useLoaded((signal) => {
    const startTime = timestampFromMs(Date.now() - PERIODS[period] * 3_600_000);
    return notify.getDeliveryStats({ practiceId: id, startTime }, { signal });
  }, [id, period]);
  return (
    <section class="stats" aria-label="Counts">
      <div class="switch" role="group" aria-label="Period of the counts">
        {(Object.keys(PERIODS) as Period[]).map((each) => (
          <button key={each} aria-pressed={each === period} onClick={() => set(each)}>
            {each === "24h" ? "24 hours" : "7 days"}
          </button>
        ))}
        <button class="quiet" onClick={stats.reload} disabled={stats.loading}>
          Count again
        </button>
      </div>
      {stats.error !== undefined && <Problem error={stats.error} retry={stats.reload} />}
      {stats.value ? <Counts stats={stats.value} period={period} /> : stats.loading && <Skeleton what="counts" lines={2} />}
    </section>
  );
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

const total = (counts: DeliveryCounts) =>
  counts.pending + counts.unconfirmed + counts.sent + counts.delivered + counts.failed + counts.skipped + counts.cancelled;

function Tile({ stats, period }: { stats: GetDeliveryStatsResponse_ChannelStats; period: Period }) {
  const { channel, counts } = stats;
  if (!counts) return null;
  const name = word(CHANNELS, channel);
  const all = Number(total(counts));
  const left = Number(counts.sent + counts.delivered + counts.failed + counts.unconfirmed);
  const share = (count: bigint) => (left > 0 ? Number(count) / left : 0);
  const percent = (count: bigint) => share(count).toLocaleString("en-US", { style: "percent", maximumFractionDigits: 1 });
  const to = (state: string) => href("deliveries", "", { channel: slug(name), state, period });
  return (
    <li class="tile">
      <a class="whole" href={to("")}>
        <b>{name}</b> <span class="count">{all.toLocaleString("en-US")}</span>
      </a>
      {(counts.delivered > 0n || (left > 0 && counts.sent === 0n)) && <a href={to("delivered")}>{percent(counts.delivered)} delivered</a>}
      {counts.sent > 0n && <a href={to("sent")}>{counts.sent.toLocaleString("en-US")} sent</a>}
      {counts.failed > 0n ? (
        <a class={share(counts.failed) >= BAD_SHARE ? "warn" : ""} href={to("failed")}>
          {counts.failed.toLocaleString("en-US")} failed – {percent(counts.failed)}
        </a>
      ) : (
        <span>No failures</span>
      )}
      {counts.skipped > 0n && <a href={to("skipped")}>{counts.skipped.toLocaleString("en-US")} skipped</a>}
      {counts.unconfirmed > 0n && (
        <a class="warn" href={to("unconfirmed")}>
          {counts.unconfirmed.toLocaleString("en-US")} unconfirmed
        </a>
      )}
    </li>
  );
}
