// The conversations of a practice as the stream tells of them, and the messages of the one that is open.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Conversation, ConversationFilter_Subset as Subset, type ConversationMessage, Conversation_State, type WatchConversationsResponse } from "../../gen/heedwell/v1/conversations_service_pb.js";
import { tally } from "../announce.js";
import { HEARTBEAT_SECONDS, watching } from "../api.js";
import type { Feed } from "../stream.js";
import { conversations } from "./api.js";

export interface Filter {
  subset: Subset;
  /** Closed ones as well. */
  closed: boolean;
  /** Subject of whoever they are assigned to. */
  assignee: string;
  patient: string;
}

const DRAW_MS = 250;

export class Threads implements Feed<WatchConversationsResponse> {
  shown: Conversation[] = [];
  loaded = false;
  more = false;
  /** How often a message has changed consent since. */
  consents = 0;
  /** Told of each message that is new or has another state. */
  onMessage: (message: ConversationMessage) => void = () => {};
  #all = new Map<string, Conversation>();
  #held = false;
  #timer = 0;
  #token = "";
  /** What the last list held: no conversation says itself that a request to stop waits in it. */
  #listed = new Set<string>();
  #relisting = new AbortController();

  constructor(
    readonly practiceId: string,
    readonly filter: Filter,
    readonly draw: () => void,
  ) {}

  find = (id: string) => this.#all.get(id);

  hold(held: boolean): void {
    if (this.#held === held) return;
    this.#held = held;
    if (!held) this.#settle();
  }

  /** As another call has just answered. */
  put(conversation: Conversation | undefined): void {
    if (!conversation) return;
    this.#all.set(conversation.conversationId, conversation);
    this.#settle();
  }

  async list(signal: AbortSignal): Promise<string> {
    const page = await this.#page("", signal);
    this.#all = new Map(page.conversations.map((each) => [each.conversationId, each]));
    this.loaded = true;
    this.#settle();
    return page.watchCursor;
  }

  async older(): Promise<void> {
    const page = await this.#page(this.#token);
    for (const each of page.conversations) if (!this.#all.has(each.conversationId)) this.#all.set(each.conversationId, each);
    this.#settle();
  }

  watch(cursor: string, signal: AbortSignal): AsyncIterable<WatchConversationsResponse> {
    const heartbeatInterval = { seconds: BigInt(HEARTBEAT_SECONDS), nanos: 0 };
    return conversations.watchConversations({ practiceId: this.practiceId, cursor, heartbeatInterval }, watching(signal));
  }

  apply(step: WatchConversationsResponse): void {
    for (const { conversation, message } of step.changes) {
      if (!conversation) continue;
      const before = this.#all.get(conversation.conversationId);
      this.#all.set(conversation.conversationId, conversation);
      if (message) this.onMessage(message);
      if (message?.consentSource) this.consents++;
      if (conversation.unreadCount > (before?.unreadCount ?? 0)) tally("new from patients");
    }
    this.#timer ||= window.setTimeout(() => {
      this.#timer = 0;
      this.#settle();
      if (this.filter.subset === Subset.STOP_REQUESTED) void this.#relist();
    }, DRAW_MS);
  }

  /** Should it fail, the next change asks again. */
  async #relist(): Promise<void> {
    this.#relisting.abort();
    const { signal } = (this.#relisting = new AbortController());
    const page = await this.#page("", signal).catch(() => undefined);
    if (!page || signal.aborted) return;
    for (const each of page.conversations) this.#all.set(each.conversationId, each);
    this.#settle();
  }

  async #page(pageToken: string, signal?: AbortSignal) {
    const { subset, closed, assignee, patient } = this.filter;
    const states = closed ? [] : [Conversation_State.OPEN];
    const filter = { subset, states, assigneeIds: assignee ? [assignee] : [], patientId: patient };
    const page = await conversations.listConversations({ practiceId: this.practiceId, filter, pageToken }, signal ? { signal } : {});
    const ids = page.conversations.map(({ conversationId }) => conversationId);
    this.#listed = new Set(pageToken ? [...this.#listed, ...ids] : ids);
    this.#token = page.nextPageToken;
    this.more = page.nextPageToken !== "";
    return page;
  }

  /** Latest first; while held each stays where it is. */
  #settle(): void {
    const there = new Set(this.shown.map(({ conversationId }) => conversationId));
    const isShown = (each: Conversation) => this.#matches(each) || (this.#held && there.has(each.conversationId));
    const rows = [...this.#all.values()].filter(isShown);
    const place = new Map(this.shown.map(({ conversationId }, at) => [conversationId, at]));
    rows.sort((left, right) => {
      const [one, other] = [place.get(left.conversationId), place.get(right.conversationId)];
      return this.#held && one !== undefined && other !== undefined ? one - other : last(right) - last(left);
    });
    this.shown = rows;
    this.draw();
  }

  #matches(each: Conversation): boolean {
    const { subset, closed, assignee, patient } = this.filter;
    if ((!closed && each.state === Conversation_State.CLOSED) || (assignee && each.assigneeId !== assignee)) return false;
    if (patient && each.patientId !== patient && !each.candidatePatientIds.includes(patient)) return false;
    switch (subset) {
      case Subset.UNREAD:
        return each.unreadCount > 0;
      case Subset.UNASSIGNED:
        return each.assigneeId === "";
      case Subset.WAITING:
        return each.waitingTime !== undefined;
      case Subset.UNLINKED:
        return each.patientId === "";
      case Subset.STOP_REQUESTED:
        return this.#listed.has(each.conversationId);
      default:
        return true;
    }
  }
}

const last = ({ lastMessageTime, createTime }: Conversation) => timestampMs(lastMessageTime ?? createTime ?? { $typeName: "google.protobuf.Timestamp", seconds: 0n, nanos: 0 });

/** Messages, oldest first; the newest of what is known of each. */
export function merged(messages: ConversationMessage[], more: ConversationMessage[]): ConversationMessage[] {
  const all = new Map(messages.map((each) => [each.messageId, each]));
  for (const each of more) all.set(each.messageId, each);
  return [...all.values()].sort((left, right) => (left.messageId < right.messageId ? -1 : 1));
}
