import { useEffect, useMemo, useReducer, useRef } from "preact/hooks";
import { type Conversation, Conversation_State, ConversationFilter_Subset as Subset } from "../../gen/heedwell/v1/conversations_service_pb.js";
import { useKeys, useSteps } from "../keys.js";
import { useHere } from "../practice.js";
import { type Route, go, href } from "../route.js";
import { useStream } from "../stream.js";
import { Time } from "../time.js";
import { Empty, Problem, Skeleton, useAction } from "../ui.js";
import { plural } from "../words.js";
import { Thread } from "./thread.js";
import { type Filter, Threads } from "./threads.js";

const SUBSETS: [name: string, subset: Subset, title: string, nothing: string][] = [
  ["", Subset.UNSPECIFIED, "All", "No conversations yet"],
  ["unread", Subset.UNREAD, "Unread", "Everything is read"],
  ["waiting", Subset.WAITING, "Waiting", "Nobody waits for an answer"],
  ["unassigned", Subset.UNASSIGNED, "Unassigned", "Every conversation is assigned"],
  ["unlinked", Subset.UNLINKED, "Unknown numbers", "Every number belongs to a patient"],
  ["stop", Subset.STOP_REQUESTED, "Asked to stop", "No request to stop waits for you"],
];

const ITEM = ".threads a";

export function Conversations({ route }: { route: Route }) {
  const { id: practiceId, bearer } = useHere();
  const { params } = route;
  const [, subset, , nothing] = SUBSETS.find(([name]) => name === (params.get("subset") ?? "")) ?? SUBSETS[0]!;
  const filter: Filter = {
    subset,
    closed: params.get("closed") === "yes",
    assignee: params.get("mine") === "yes" ? bearer.subject : "",
    patient: params.get("patient") ?? "",
  };
  const stream = useStream();
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const threads = useMemo(() => new Threads(practiceId, filter, () => draw(undefined as never)), [practiceId, JSON.stringify(filter)]);
  useEffect(() => stream.follow(threads), [threads]);
  const older = useAction();
  const hold = useRef({ pointer: false, focus: false });
  const weigh = (why: "pointer" | "focus", held: boolean) => {
    hold.current[why] = held;
    threads.hold(hold.current.pointer || hold.current.focus);
  };
  const to = (change: Record<string, string>, id = route.id) => href("conversations", id, { ...Object.fromEntries(params), ...change });
  useSteps(ITEM);
  useKeys({
    Escape: () => route.id && go(to({}, "")),
    "/": () => document.querySelector<HTMLElement>(".subsets a")?.focus(),
  });
  // A patient's own, if it is asked for by the patient.
  const only = filter.patient && threads.shown.length === 1 ? threads.shown[0]?.conversationId : undefined;
  const opened = route.id || only || "";
  return (
    <div class={opened || filter.patient ? "talks open" : "talks"}>
      <section class="inbox" aria-label="Conversations">
        <h1 class="unseen">Conversations</h1>
        <ul class="subsets" aria-label="Show">
          {SUBSETS.map(([name, , title]) => (
            <li key={name}>
              <a href={to({ subset: name, patient: "" }, "")} aria-current={subset === SUBSETS.find((each) => each[0] === name)?.[1] ? "true" : undefined}>
                {title}
              </a>
            </li>
          ))}
        </ul>
        <div class="options">
          <label class="check">
            <input type="checkbox" checked={filter.assignee !== ""} onChange={() => go(to({ mine: filter.assignee ? "" : "yes" }), true)} />
            Mine only
          </label>
          <label class="check">
            <input type="checkbox" checked={filter.closed} onChange={() => go(to({ closed: filter.closed ? "" : "yes" }), true)} />
            Closed too
          </label>
        </div>
        {stream.status.kind === "stopped" && <Problem error={stream.status.error} />}
        {stream.status.kind === "waiting" && !threads.loaded && <Problem error={stream.status.error} retry={() => stream.retry()} />}
        {!threads.loaded && stream.status.kind === "loading" && <Skeleton what="conversations" />}
        {threads.loaded && threads.shown.length === 0 && <Empty title={filter.patient ? "No conversation with this patient yet" : nothing} />}
        <ul
          class="threads"
          onPointerEnter={() => weigh("pointer", true)}
          onPointerLeave={() => weigh("pointer", false)}
          onFocusIn={() => weigh("focus", true)}
          onFocusOut={(event) => event.currentTarget.contains(event.relatedTarget as Node) || weigh("focus", false)}
        >
          {threads.shown.map((each) => (
            <Item key={each.conversationId} conversation={each} to={to({}, each.conversationId)} isOpen={each.conversationId === opened} />
          ))}
        </ul>
        {threads.more && (
          <p class="older">
            <button disabled={older.busy} onClick={() => older.run(() => threads.older())}>
              Load older
            </button>
          </p>
        )}
      </section>
      {opened || (filter.patient && threads.loaded) ? (
        <Thread key={opened || filter.patient} id={opened} patientId={filter.patient} threads={threads} back={to({ patient: "" }, "")} />
      ) : (
        <div class="thread none">
          <Empty title="Choose a conversation" />
        </div>
      )}
    </div>
  );
}

function Item({ conversation, to, isOpen }: { conversation: Conversation; to: string; isOpen: boolean }) {
  const { bearer } = useHere();
  const { patientId, phoneHint, unreadCount, waitingTime, assigneeId, state, lastMessageTime, candidatePatientIds } = conversation;
  return (
    <li>
      <a href={to} aria-current={isOpen ? "true" : undefined} class={unreadCount > 0 ? "unread" : ""}>
        <span class="who">{patientId || phoneHint || "Unknown number"}</span>
        <Time at={lastMessageTime} />
        <span class="tags">
          {unreadCount > 0 && <span class="tag">{plural(unreadCount, "unread", "unread")}</span>}
          {waitingTime && (
            <span class="tag warn">
              Waits since <Time at={waitingTime} />
            </span>
          )}
          {!patientId && <span class="tag">{candidatePatientIds.length > 0 ? "Shared number" : "Unknown number"}</span>}
          {assigneeId && <span class="tag">{assigneeId === bearer.subject ? "Yours" : assigneeId}</span>}
          {state === Conversation_State.CLOSED && <span class="tag">Closed</span>}
        </span>
      </a>
    </li>
  );
}
