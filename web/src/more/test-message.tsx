import { useState } from "preact/hooks";
import type { PracticeSettings } from "../../gen/heedwell/v1/preferences_service_pb.js";
import type { SendTestMessageResponse } from "../../gen/heedwell/v1/template_service_pb.js";
import { Channel, DeliveryState, NotificationKind } from "../../gen/heedwell/v1/types_pb.js";
import { requestId } from "../api.js";
import { useHere } from "../practice.js";
import { type Loaded, Problem, State, useAction } from "../ui.js";
import { KINDS, choices } from "../words.js";
import { templates } from "./api.js";
import { useSave } from "./save.js";

/** The way to learn whether an account works: the provider's own answer. */
export function TestMessage({ settings }: { settings: Loaded<PracticeSettings | undefined> }) {
  const { isAdmin, id: practiceId } = useHere();
  const contacts = settings.value?.testContacts ?? [];
  const [address, choose] = useState("");
  const [kind, of] = useState(NotificationKind.APPOINTMENT_REMINDER);
  const [answer, show] = useState<SendTestMessageResponse | undefined>(undefined);
  const { busy, error, run } = useAction();
  if (!isAdmin) return null;
  const to = contacts.includes(address) ? address : (contacts[0] ?? "");
  const send = (event: Event) => {
    event.preventDefault();
    show(undefined);
    void run(async () => {
      const channel = to.includes("@") ? Channel.EMAIL : Channel.SMS;
      const ref = { target: { case: "kind", value: kind } as const, channel };
      show(await templates.sendTestMessage({ practiceId, requestId: requestId(), ref, address: to }));
    });
  };
  return (
    <section class="sheet">
      <h2>Test message</h2>
      <p class="dim small">Goes to a phone or mailbox of the practice itself, with invented data, and shows what the provider answers.</p>
      <Contacts settings={settings} contacts={contacts} />
      {contacts.length > 0 && (
        <form class="line" onSubmit={send}>
          <label class="field">
            <span>To</span>
            <select value={to} onChange={(event) => choose(event.currentTarget.value)}>
              {contacts.map((each) => (
                <option key={each}>{each}</option>
              ))}
            </select>
          </label>
          <label class="field">
            <span>Wording of</span>
            <select value={kind} onChange={(event) => of(Number(event.currentTarget.value))}>
              {choices(KINDS)
                .filter(({ value }) => value > 0 && value < NotificationKind.ANNOUNCEMENT)
                .map(({ value, text }) => (
                  <option key={value} value={value}>
                    {text}
                  </option>
                ))}
            </select>
          </label>
          <button class="primary" disabled={busy}>
            {busy ? "Waiting for the provider" : "Send test"}
          </button>
        </form>
      )}
      {error !== undefined && <Problem error={error} />}
      {answer && (
        <p class={answer.state === DeliveryState.SENT ? "note" : "note bad"} role="status">
          <State state={answer.state} /> {answer.failure?.message} {answer.failure?.providerCode && <code>{answer.failure.providerCode}</code>}
          {answer.providerMessageId && <code>{answer.providerMessageId}</code>}
        </p>
      )}
    </section>
  );
}

function Contacts({ settings, contacts }: { settings: Loaded<PracticeSettings | undefined>; contacts: string[] }) {
  const [text, set] = useState("");
  const { busy, error, save } = useSave(settings);
  const put = (testContacts: string[]) => save({ testContacts }, ["test_contacts"]);
  return (
    <>
      <ul class="contacts">
        {contacts.map((each) => (
          <li key={each}>
            {each}
            <button class="quiet" disabled={busy} aria-label={`Remove ${each}`} onClick={() => put(contacts.filter((other) => other !== each))}>
              Remove
            </button>
          </li>
        ))}
      </ul>
      {contacts.length < 10 && (
        <form
          class="line"
          onSubmit={async (event) => {
            event.preventDefault();
            if (await put([...contacts, text.trim()])) set("");
          }}
        >
          <label class="field">
            <span>Phone (+1…) or mailbox of the practice</span>
            <input required value={text} autocomplete="off" onInput={(event) => set(event.currentTarget.value)} />
          </label>
          <button disabled={busy}>Add</button>
        </form>
      )}
      {error !== undefined && <Problem error={error} />}
    </>
  );
}
