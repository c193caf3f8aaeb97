import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Conversation, type ConversationMessage, ConversationMessage_Direction as Direction, Conversation_State, MessageRoute } from "../../gen/heedwell/v1/conversations_service_pb.js";
import { ConsentSource, DeliveryState } from "../../gen/heedwell/v1/types_pb.js";
import { announce } from "../announce.js";
import { directory } from "../api.js";
import { textGone, useHere } from "../practice.js";
import { href } from "../route.js";
import { Time } from "../time.js";
import { Empty, Problem, Skeleton, State, useAction, useFocus, useLoaded } from "../ui.js";
import { SOURCES, actor, word } from "../words.js";
import { conversations } from "./api.js";
import { Composer } from "./composer.js";
import { File } from "./files.js";
import { Link } from "./link.js";
import { type Threads, merged } from "./threads.js";

interface Props {
  /** Empty: there is none with the patient yet. */
  id: string;
  patientId: string;
  threads: Threads;
  back: string;
}

export function Thread({ id, patientId, threads, back }: Props) {
  const { id: practiceId } = useHere();
  const loaded = useLoaded(async (signal) => {
    if (!id) return undefined;
    const { conversation } = await conversations.getConversation({ practiceId, conversationId: id }, { signal });
    threads.put(conversation);
    return conversation;
  }, [practiceId, id]);
  const conversation = (loaded.value && threads.find(loaded.value.conversationId)) ?? threads.find(id) ?? loaded.value;
  const who = conversation?.patientId || (conversation ? "" : patientId);
  const patient = useLoaded(async (signal) => (who ? (await directory.getPatient({ practiceId, patientId: who }, { signal })).patient : undefined), [practiceId, who]);
  const name = patient.value ? `${patient.value.firstName} ${patient.value.lastName}`.trim() : "";
  const heading = useFocus<HTMLHeadingElement>([id]);
  if (loaded.error !== undefined && !conversation) {
    return (
      <section class="thread">
        <Problem error={loaded.error} retry={loaded.reload} />
      </section>
    );
  }
  return (
    <section class="thread" aria-label="Conversation">
      <header>
        <a class="back" href={back}>
          All conversations
        </a>
        <h2 tabIndex={-1} ref={heading}>
          {who ? <a href={href("patients", who)}>{name || who}</a> : conversation?.phoneHint || "Unknown number"}
        </h2>
        <p class="dim small">
          {name && `Patient ID ${who}`}
          {conversation?.phoneHint && who && ` · ${conversation.phoneHint}`}
        </p>
        {conversation && <Actions conversation={conversation} threads={threads} />}
      </header>
      {conversation && !conversation.patientId && <Link conversation={conversation} threads={threads} />}
      {id ? <Messages conversation={conversation} id={id} threads={threads} /> : <Empty title="No messages yet" />}
      <Composer conversation={conversation} patientId={who} threads={threads} />
    </section>
  );
}

function Actions({ conversation, threads }: { conversation: Conversation; threads: Threads }) {
  const { id: practiceId, bearer } = useHere();
  const { busy, error, run } = useAction();
  const { conversationId, etag } = conversation;
  const isMine = conversation.assigneeId === bearer.subject;
  const isOpen = conversation.state !== Conversation_State.CLOSED;
  const update = (change: { assigneeId?: string; state?: Conversation_State }, path: string, said: string) =>
    run(async () => {
      try {
        const answer = await conversations.updateConversation({ practiceId, conversation: { conversationId, etag, ...change }, updateMask: { paths: [path] } });
        threads.put(answer.conversation);
        announce(said);
      } catch (cause) {
        threads.put((await conversations.getConversation({ practiceId, conversationId })).conversation);
        throw cause;
      }
    });
  return (
    <>
      <p class="buttons">
        {isMine ? (
          <button disabled={busy} onClick={() => update({ assigneeId: "" }, "assignee_id", "Nobody has it now")}>
            Give back
          </button>
        ) : (
          <button disabled={busy} onClick={() => update({ assigneeId: bearer.subject }, "assignee_id", "It is yours now")}>
            {conversation.assigneeId ? `Take over from ${conversation.assigneeId}` : "Assign to me"}
          </button>
        )}
        {isOpen ? (
          <button disabled={busy} onClick={() => update({ state: Conversation_State.CLOSED }, "state", "Closed")}>
            Close
          </button>
        ) : (
          <button disabled={busy} onClick={() => update({ state: Conversation_State.OPEN }, "state", "Open again")}>
            Open again
          </button>
        )}
      </p>
      {error !== undefined && <Problem error={error} />}
    </>
  );
}

function Messages({ conversation, id, threads }: { conversation: Conversation | undefined; id: string; threads: Threads }) {
  const { id: practiceId } = useHere();
  const [messages, set] = useState<ConversationMessage[]>([]);
  const [token, turn] = useState<string | undefined>(undefined);
  const { busy, error, run } = useAction();
  const bottom = useRef<HTMLOListElement>(null);
  const load = (pageToken: string) =>
    run(async () => {
      const page = await conversations.listMessages({ practiceId, conversationId: id, pageToken });
      set((before) => merged(page.messages, before));
      turn(page.nextPageToken);
    });
  useEffect(() => {
    void load("");
  }, [practiceId, id]);
  useEffect(() => {
    threads.onMessage = (message) => {
      if (message.conversationId === id || message.conversationId === conversation?.conversationId) set((before) => merged(before, [message]));
    };
    return () => void (threads.onMessage = () => {});
  }, [threads, id, conversation?.conversationId]);
  const [isSeen, look] = useState(!document.hidden);
  useEffect(() => {
    const turn = () => look(!document.hidden);
    document.addEventListener("visibilitychange", turn);
    return () => document.removeEventListener("visibilitychange", turn);
  }, []);
  const newest = messages.at(-1)?.messageId;
  // Whoever sees the newest has read it.
  useEffect(() => {
    if (!newest || !conversation?.unreadCount || !isSeen) return;
    conversations.markConversationRead({ practiceId, conversationId: conversation.conversationId, messageId: newest }).then(
      (answer) => threads.put(answer.conversation),
      () => undefined,
    );
  }, [newest, conversation?.unreadCount, isSeen]);
  useLayoutEffect(() => {
    if (bottom.current) bottom.current.scrollTop = bottom.current.scrollHeight;
  }, [newest]);
  return (
    <>
      {error !== undefined && <Problem error={error} retry={() => load(token ?? "")} />}
      {token === undefined && busy && <Skeleton what="messages" lines={4} />}
      <ol class="messages" ref={bottom} tabIndex={0} aria-label="Messages, oldest first">
        {token && (
          <li class="older">
            <button disabled={busy} onClick={() => load(token)}>
              Load older
            </button>
          </li>
        )}
        {messages.map((message) => (
          <Message key={message.messageId} message={message} />
        ))}
      </ol>
    </>
  );
}

function Message({ message }: { message: ConversationMessage }) {
  const { settings } = useHere();
  const isOurs = message.direction === Direction.OUTBOUND;
  const over = message.route === MessageRoute.PORTAL ? "portal" : "SMS";
  return (
    <li class={isOurs ? "message ours" : "message"}>
      <p class="dim small">
        {isOurs ? (message.automatic ? "Automatic reply" : actor(message.author) || "Practice") : "Patient"}, by {over}, <Time at={message.createTime} />
      </p>
      {message.body && <p class="bubble">{message.body}</p>}
      {message.attachments.map((each) => (
        <File key={each.attachmentId} file={each} />
      ))}
      {!message.body && message.attachments.length === 0 && <p class="dim">{textGone(settings.value)}</p>}
      {isOurs && message.deliveryState !== DeliveryState.UNSPECIFIED && (
        <p class="small fate">
          <State state={message.deliveryState} /> {message.failure?.message}
        </p>
      )}
      {message.consentSource !== ConsentSource.UNSPECIFIED && (
        <p class="small">
          <span class="tag warn">
            {message.consentSource === ConsentSource.SMS_FREE_TEXT ? "Taken for a request to stop: opted out of SMS" : `Changed consent ${word(SOURCES, message.consentSource)}`}
          </span>
        </p>
      )}
    </li>
  );
}
