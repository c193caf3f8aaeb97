import { type ChannelStatus, ChannelStatus_State as State, type PracticeSettings } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { Time } from "../time.js";
import { Shape } from "../ui.js";
import { CHANNELS, word } from "../words.js";

const LOOKS: Record<number, [look: string, text: string, path: string]> = {
  [State.READY]: ["s4", "Ready", "m3 8.5 3.5 3.5L13 5"],
  [State.FAILING]: ["s5", "Failing", "m4 4 8 8m0-8-8 8"],
  [State.NOT_SET_UP]: ["", "Not set up", "M3.5 3.5h9v9h-9Z"],
};

/** Whether each channel can send, and what to do where it cannot. */
export function SetUp({ settings }: { settings: PracticeSettings }) {
  const addresses = [
    ["Twilio: incoming messages go to", settings.sms?.inboundWebhookUrl],
    ["SendGrid: events go to", settings.email?.provider.case === "sendgrid" ? settings.email.provider.value.eventWebhookUrl : ""],
    ["Mail that comes back goes to", settings.email?.provider.case === "smtp" ? settings.email.bounceWebhookUrl : ""],
    ["DKIM record’s name", settings.email?.dkimRecordName],
    ["DKIM record", settings.email?.dkimRecord],
  ].filter(([, value]) => value);
  return (
    <section class="sheet">
      <h2>Channels</h2>
      <ul class="setup">
        {settings.channelStatuses.map((status) => (
          <Channel key={status.channel} status={status} />
        ))}
      </ul>
      {addresses.length > 0 && (
        <details>
          <summary>To be entered elsewhere</summary>
          <dl>
            {addresses.map(([name, value]) => (
              <div key={name}>
                <dt class="dim small">{name}</dt>
                <dd>
                  <code>{value}</code>
                </dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </section>
  );
}

function Channel({ status }: { status: ChannelStatus }) {
  const [look, text, path] = LOOKS[status.state] ?? ["", "Other", "M4 8h8"];
  return (
    <li>
      <p>
        <b>{word(CHANNELS, status.channel)}</b>{" "}
        <span class={`state ${look}`}>
          <Shape path={path} />
          {text}
        </span>
        {status.lastSuccessTime && (
          <span class="dim small">
            {" "}
            last accepted <Time at={status.lastSuccessTime} />
          </span>
        )}
      </p>
      {status.findings.length > 0 && (
        <ul class="findings">
          {status.findings.map(({ field, message, blocking }) => (
            <li key={field + message}>
              <span class={blocking ? "tag bad" : "tag warn"}>{blocking ? "Must be mended" : "Advice"}</span> {message} <code class="dim">{field}</code>
            </li>
          ))}
        </ul>
      )}
    </li>
  );
}
