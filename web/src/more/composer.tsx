import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { useState } from "preact/hooks";
import { type Attachment, type Conversation, MessageRoute, type SendMessageRequestSchema } from "../../gen/heedwell/v1/conversations_service_pb.js";
import { type BatchGetReachabilityResponse_ChannelReachability as Reach, ConsentState } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { Channel, NotificationKind, SkipReason } from "../../gen/heedwell/v1/types_pb.js";
import { announce } from "../announce.js";
import { preferences, requestId } from "../api.js";
import { isPassing } from "../errors.js";
import { useHere } from "../practice.js";
import { Problem, useAction, useLoaded } from "../ui.js";
import { skipped } from "../words.js";
import { conversations } from "./api.js";
import { Uploads } from "./files.js";
import type { Threads } from "./threads.js";

const LONGEST: Partial<Record<MessageRoute, number>> = { [MessageRoute.SMS]: 1_600, [MessageRoute.PORTAL]: 20_000 };

/** What was typed and not sent yet, with the key under which it is sent once. It outlives a look at something else. */
const drafts = new Map<string, Draft>();

interface Draft {
  body: string;
  files: Attachment[];
  requestId: string;
  /** What was sent and not answered yet. Whether it arrived is unknown, so that nothing else is sent before the same is answered. */
  open?: MessageInitShape<typeof SendMessageRequestSchema> | undefined;
}

const blank = (): Draft => ({ body: "", files: [], requestId: requestId() });

/** Why a reply cannot go over the channel; empty: it can. Kinds do not matter to replies. */
function obstacle(reach: Reach | undefined, channel: Channel): string {
  if (!reach) return "";
  if (reach.consent === ConsentState.OPTED_OUT) return skipped(SkipReason.OPTED_OUT, channel);
  const ofKind = [SkipReason.UNSPECIFIED, SkipReason.CHANNEL_OFF_FOR_KIND, SkipReason.NOT_PREFERRED];
  return ofKind.includes(reach.skipReason) ? "" : skipped(reach.skipReason, channel);
}

interface Props {
  conversation: Conversation | undefined;
  patientId: string;
  threads: Threads;
}

export function Composer({ conversation, patientId, threads }: Props) {
  const { id: practiceId } = useHere();
  const key = `${practiceId}/${conversation?.conversationId ?? patientId}`;
  const [draft, set] = useState(() => drafts.get(key) ?? blank());
  const [chosen, choose] = useState(MessageRoute.UNSPECIFIED);
  const { busy, error, run } = useAction();
  const uploads = useAction();
  const reaches = useLoaded(async (signal) => {
    if (!patientId) return undefined;
    const request = { practiceId, patientIds: [patientId], kind: NotificationKind.MESSAGE_RECEIVED };
    return (await preferences.batchGetReachability(request, { signal })).patients[0]?.channels;
  }, [practiceId, patientId, threads.consents]);
  const reach = (channel: Channel) => reaches.value?.find((each) => each.channel === channel);
  const bySms = obstacle(reach(Channel.SMS), Channel.SMS);
  const byPortal = patientId ? obstacle(reach(Channel.IN_APP), Channel.IN_APP) : "No portal account";
  const route = draft.open?.route || chosen || (bySms && !byPortal ? MessageRoute.PORTAL : MessageRoute.SMS);
  const blocked = route === MessageRoute.SMS ? bySms : byPortal;
  const longest = LONGEST[route] ?? 0;
  const put = (change: Partial<Draft>) => {
    // What was typed while a file came up stays.
    set((before) => {
      const next = { ...before, ...change };
      drafts.set(key, next);
      return next;
    });
  };
  const fixed = busy || draft.open !== undefined;
  const isWhole = draft.open !== undefined || (!blocked && (draft.body.trim() !== "" || draft.files.length > 0));
  const canSend = isWhole && !busy && !uploads.busy;
  const send = async () => {
    // A key asks without the button.
    if (!canSend) return;
    const target = conversation
      ? ({ case: "conversationId", value: conversation.conversationId } as const)
      : ({ case: "patientId", value: patientId } as const);
    const again = draft.open !== undefined;
    const request = draft.open ?? { practiceId, requestId: draft.requestId, target, route, body: draft.body.trim(), attachmentIds: draft.files.map((file) => file.attachmentId) };
    put({ open: request });
    const well = await run(async () => {
      try {
        const answer = await conversations.sendMessage(request);
        drafts.delete(key);
        set(blank());
        if (answer.message) threads.onMessage(answer.message);
        threads.put(answer.conversation);
        announce("Sent");
      } catch (cause) {
        const { code } = ConnectError.from(cause);
        // Another text is another message. Being signed out says nothing of what was sent before.
        if (!isPassing(code) && !(again && code === Code.Unauthenticated)) put({ open: undefined, requestId: requestId() });
        throw cause;
      }
    });
    if (!well) reaches.reload();
  };
  const options: [route: MessageRoute, text: string, why: string][] = [
    [MessageRoute.SMS, "SMS", bySms],
    [MessageRoute.PORTAL, "Portal", byPortal],
  ];
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <fieldset class="routes">
        <legend class="unseen">Send by</legend>
        {options.map(([value, text, why]) => (
          <label key={value} class="check">
            <input type="radio" name="route" checked={route === value} disabled={fixed} onChange={() => choose(value)} />
            {text} {why && <span class="tag warn">{why}</span>}
          </label>
        ))}
      </fieldset>
      {error !== undefined && <Problem error={error} />}
      {draft.open && !busy && <p class="note warn">It is not known whether this was sent. Sending it again sends it once at most.</p>}
      <label>
        <span class="unseen">Message</span>
        <textarea
          rows={3}
          maxLength={longest}
          placeholder={blocked ? `${blocked}. Choose another way.` : "Write a message"}
          value={draft.body}
          readOnly={fixed}
          onInput={(event) => put({ body: event.currentTarget.value })}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit();
          }}
        />
      </label>
      <Uploads files={draft.files} set={(files) => put({ files })} action={uploads} fixed={fixed} />
      <p class="send">
        <span class="dim small">{draft.body.length > longest * 0.8 && `${(longest - draft.body.length).toLocaleString("en-US")} characters left. `}Ctrl+Enter sends.</span>
        <button class="primary" disabled={!canSend}>
          {draft.open && !busy ? "Send again" : "Send"}
        </button>
      </p>
    </form>
  );
}
