import { useState } from "preact/hooks";
import { type Broadcast, Broadcast_State as State } from "../../gen/heedwell/v1/broadcast_service_pb.js";
import { useHere } from "../practice.js";
import { type Route, go, href } from "../route.js";
import { Time } from "../time.js";
import { Empty, Problem, Skeleton, useAction, useLoaded } from "../ui.js";
import { CHANNELS, plural, word } from "../words.js";
import { broadcasts } from "./api.js";
import { Compose } from "./compose.js";
import { Watched } from "./broadcast.js";
import { useIdle } from "./patients.js";

export const STATES: Record<number, string> = {
  [State.SCHEDULED]: "Scheduled",
  [State.RUNNING]: "Running",
  [State.COMPLETED]: "Completed",
  [State.CANCELLED]: "Cancelled",
};

export function Broadcasts({ route }: { route: Route }) {
  if (route.id === "new") return <Compose />;
  return route.id ? <Watched key={route.id} id={route.id} /> : <All />;
}

function All() {
  const { id: practiceId, isAdmin } = useHere();
  useIdle();
  const [older, add] = useState<{ list: Broadcast[]; token: string } | undefined>(undefined);
  const { busy, error, run } = useAction();
  const loaded = useLoaded((signal) => broadcasts.listBroadcasts({ practiceId }, { signal }), [practiceId]);
  const token = older ? older.token : (loaded.value?.nextPageToken ?? "");
  const list = [...(loaded.value?.broadcasts ?? []), ...(older?.list ?? [])];
  const more = () =>
    run(async () => {
      const page = await broadcasts.listBroadcasts({ practiceId, pageToken: token });
      add({ list: [...(older?.list ?? []), ...page.broadcasts], token: page.nextPageToken });
    });
  return (
    <div class="narrow">
      <header class="person">
        <h1>Broadcasts</h1>
        {isAdmin && (
          <button class="primary" onClick={() => go(href("broadcasts", "new"))}>
            New broadcast
          </button>
        )}
      </header>
      {(loaded.error ?? error) !== undefined && <Problem error={loaded.error ?? error} retry={loaded.reload} />}
      {!loaded.value && loaded.loading && <Skeleton what="broadcasts" />}
      {loaded.value && list.length === 0 && <Empty title="No broadcasts yet">One announcement to many patients, each over the channels that they allow.</Empty>}
      <ul class="list">
        {list.map((each) => (
          <li key={each.broadcastId} class="sheet">
            <h2>
              <a href={href("broadcasts", each.broadcastId)}>{each.title}</a>
            </h2>
            <p class="dim small">
              {word(STATES, each.state)}, {each.channels.map((channel) => word(CHANNELS, channel)).join(", ")},{" "}
              {each.recipientCount > 0n ? plural(each.recipientCount, "patient") : <Time at={each.scheduleTime ?? each.createTime} />}
              {each.counts && each.counts.failed > 0n && <b class="out"> {each.counts.failed.toLocaleString("en-US")} failed</b>}
            </p>
          </li>
        ))}
      </ul>
      {token && (
        <button disabled={busy} onClick={more}>
          Load older
        </button>
      )}
    </div>
  );
}
