import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { useState } from "preact/hooks";
import type { AudienceSchema, BroadcastInputSchema, PreviewBroadcastResponse } from "../../gen/heedwell/v1/broadcast_service_pb.js";
import { Channel } from "../../gen/heedwell/v1/types_pb.js";
import { announce } from "../announce.js";
import { requestId } from "../api.js";
import { useHere } from "../practice.js";
import { go, href } from "../route.js";
import { Ask, Empty, Problem, useAction } from "../ui.js";
import { CHANNELS, choices, plural, skipped, word } from "../words.js";
import { broadcasts } from "./api.js";
import { useIdle } from "./patients.js";
import { instant, spelt } from "./wall.js";

interface Draft {
  title: string;
  audience: "all" | "tags" | "patients";
  names: string;
  channels: Channel[];
  subject: string;
  body: string;
  /** By the practice's clock; empty: at once. */
  schedule: string;
}

/** What was written and not sent yet in each practice, with the key under which it is sent once. It outlives a look at something else. */
const drafts = new Map<string, { draft: Draft; key: string }>();

const EMPTY: Draft = { title: "", audience: "all", names: "", channels: [Channel.EMAIL], subject: "", body: "", schedule: "" };

function input(draft: Draft, at: Date | undefined): MessageInitShape<typeof BroadcastInputSchema> {
  const values = draft.names.split(/[\s,;]+/).filter(Boolean);
  const audience: MessageInitShape<typeof AudienceSchema> =
    draft.audience === "all"
      ? { selection: { case: "all", value: {} } }
      : draft.audience === "tags"
        ? { selection: { case: "tags", value: { values } } }
        : { selection: { case: "patientIds", value: { values } } };
  const { title, channels, subject, body } = draft;
  return { title, audience, channels, subject, body, ...(at && { scheduleTime: timestampFromDate(at) }) };
}

/** The server takes a time that has passed for now, and whoever mistyped the year would not be asked. */
function refusePast(at: Date | undefined): void {
  if (at && at.getTime() <= Date.now()) throw new ConnectError("The time under “When” has passed. Choose a later one, or none to send now.", Code.InvalidArgument);
}

export function Compose() {
  const { id: practiceId, isAdmin, practice } = useHere();
  useIdle();
  const kept = drafts.get(practiceId);
  const [draft, set] = useState(kept?.draft ?? EMPTY);
  const [preview, show] = useState<PreviewBroadcastResponse | undefined>(undefined);
  const [asking, ask] = useState(false);
  const [key, renew] = useState(kept?.key ?? requestId());
  const { busy, error, run } = useAction();
  if (!isAdmin) return <Empty title="Broadcasts are sent by administrators">Your sign-in does not have the role “practice admin”.</Empty>;
  const zone = practice?.timeZone ?? "";
  const at = zone && draft.schedule ? instant(draft.schedule, zone) : undefined;
  const time = at && spelt(at, zone);
  // What was shown is what goes out: another word, and it has to be looked at again.
  const put = (change: Partial<Draft>) => {
    const next = { draft: { ...draft, ...change }, key: requestId() };
    drafts.set(practiceId, next);
    set(next.draft);
    renew(next.key);
    show(undefined);
  };
  const look = (event: Event) => {
    event.preventDefault();
    void run(async () => {
      refusePast(at);
      show(await broadcasts.previewBroadcast({ practiceId, broadcast: input(draft, at) }));
    });
  };
  const send = async () => {
    refusePast(at);
    const expectedRecipients = preview?.recipientCount ?? 0n;
    const { broadcast } = await broadcasts.createBroadcast({ practiceId, requestId: key, broadcast: input(draft, at), expectedRecipients });
    drafts.delete(practiceId);
    announce("On its way");
    if (broadcast) go(href("broadcasts", broadcast.broadcastId), true);
  };
  const needsSubject = draft.channels.some((channel) => channel !== Channel.SMS);
  const flip = (channel: Channel) => (draft.channels.includes(channel) ? draft.channels.filter((each) => each !== channel) : [...draft.channels, channel]);
  return (
    <div class="narrow">
      <h1>New broadcast</h1>
      <form class="sheet compose" onSubmit={look}>
        <label class="field">
          <span>Title, for staff alone</span>
          <input required maxLength={120} value={draft.title} onInput={(event) => put({ title: event.currentTarget.value })} />
        </label>
        <label class="field">
          <span>To</span>
          <select value={draft.audience} onChange={(event) => put({ audience: event.currentTarget.value as Draft["audience"] })}>
            <option value="all">Every active patient</option>
            <option value="tags">Patients with any of these tags</option>
            <option value="patients">These patients</option>
          </select>
        </label>
        {draft.audience !== "all" && (
          <label class="field">
            <span>{draft.audience === "tags" ? "Tags" : "Patient IDs"}, with spaces or commas between them</span>
            <textarea rows={2} required value={draft.names} onInput={(event) => put({ names: event.currentTarget.value })} />
          </label>
        )}
        <fieldset class="line">
          <legend class="small dim">Over</legend>
          {choices(CHANNELS).map(({ value, text }) => (
            <label key={value} class="check">
              <input type="checkbox" checked={draft.channels.includes(value)} onChange={() => put({ channels: flip(value) })} />
              {text}
            </label>
          ))}
        </fieldset>
        {needsSubject && (
          <label class="field">
            <span>Subject</span>
            <input required maxLength={200} value={draft.subject} onInput={(event) => put({ subject: event.currentTarget.value })} />
          </label>
        )}
        <label class="field">
          <span>
            Text. It may hold {"{{first_name}}"}, {"{{practice_name}}"} and {"{{practice_phone}}"}
          </span>
          <textarea rows={6} required value={draft.body} onInput={(event) => put({ body: event.currentTarget.value })} />
        </label>
        <label class="field">
          <span>When, by the practice’s clock{zone && ` in ${zone.replaceAll("_", " ")}`} (empty: now)</span>
          <input type="datetime-local" disabled={!zone} value={draft.schedule} onInput={(event) => put({ schedule: event.currentTarget.value })} />
        </label>
        {error !== undefined && <Problem error={error} />}
        <p class="buttons">
          <button class="primary" disabled={busy || draft.channels.length === 0 || (draft.schedule !== "" && !at)}>
            See whom it reaches
          </button>
        </p>
      </form>
      {preview && <Reach preview={preview} time={time} send={() => ask(true)} />}
      {asking && preview && (
        <Ask title={`Send to ${plural(preview.recipientCount, "patient")}?`} yes={at ? "Schedule" : "Send"} act={send} close={() => ask(false)}>
          <p>{preview.reaches.map(({ channel, wouldSend }) => `${wouldSend.toLocaleString("en-US")} by ${word(CHANNELS, channel)}`).join(", ")}.</p>
          <p>{time ? `It goes out on ${time}.` : "It goes out now."}</p>
        </Ask>
      )}
    </div>
  );
}

function Reach({ preview, time, send }: { preview: PreviewBroadcastResponse; time: string | undefined; send: () => void }) {
  return (
    <section class="sheet" aria-label="Preview" role="status">
      <h2>{plural(preview.recipientCount, "patient")}</h2>
      <p>{time ? `Goes out on ${time}` : "Goes out now"}</p>
      {preview.reaches.map(({ channel, wouldSend, skips, sample, warnings }) => (
        <div key={channel}>
          <h3>
            {word(CHANNELS, channel)}: {wouldSend.toLocaleString("en-US")} would get it
          </h3>
          <ul>
            {skips.map(({ reason, count }) => (
              <li key={reason}>
                {count.toLocaleString("en-US")} skipped: {skipped(reason, channel)}
              </li>
            ))}
          </ul>
          {warnings.map((warning) => (
            <p key={warning} class="note warn">
              {warning}
            </p>
          ))}
          {sample && (
            <figure class="text">
              {sample.subject && <figcaption>{sample.subject}</figcaption>}
              <p>{sample.text}</p>
            </figure>
          )}
        </div>
      ))}
      <p class="buttons">
        <button class="primary" disabled={preview.reaches.every(({ wouldSend }) => wouldSend === 0n)} onClick={send}>
          Send
        </button>
      </p>
    </section>
  );
}
