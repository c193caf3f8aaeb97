import { useState } from "preact/hooks";
import { type ChannelConsent, ConsentState, type PatientPreferences } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { ConsentSource } from "../../gen/heedwell/v1/types_pb.js";
import { announce } from "../announce.js";
import { preferences, requestId } from "../api.js";
import { useHere } from "../practice.js";
import { Time } from "../time.js";
import { Dialog, Problem, useAction } from "../ui.js";
import { CHANNELS, CONSENTS, SOURCES, plural, word } from "../words.js";

interface Props {
  patientId: string;
  wishes: PatientPreferences;
  reload: () => void;
}

/** Law: whether a channel may be used at all. */
export function Consents({ patientId, wishes, reload }: Props) {
  const [asked, ask] = useState<ChannelConsent | undefined>(undefined);
  return (
    <section class="sheet">
      <h2>Consent</h2>
      <table class="plain">
        <caption class="unseen">Consent per channel</caption>
        <thead>
          <tr>
            <th scope="col">Channel</th>
            <th scope="col">In force</th>
            <th scope="col">
              <span class="unseen">Change</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {wishes.consents.map((consent) => (
            <tr key={consent.channel}>
              <th scope="row">{word(CHANNELS, consent.channel)}</th>
              <td>
                <b class={consent.state === ConsentState.OPTED_OUT ? "out" : ""}>{word(CONSENTS, consent.state)}</b>
                {consent.record && (
                  <span class="dim small">
                    {" "}
                    {word(SOURCES, consent.record.source)}, <Time at={consent.record.effectiveTime} />
                  </span>
                )}
              </td>
              <td class="end">
                <button onClick={() => ask(consent)}>Record…</button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {asked && <Record patientId={patientId} consent={asked} close={() => ask(undefined)} done={reload} />}
    </section>
  );
}

/** Puts on record what the patient said or signed. */
function Record({ patientId, consent, close, done }: { patientId: string; consent: ChannelConsent; close: () => void; done: () => void }) {
  const { id: practiceId } = useHere();
  const [state, choose] = useState(consent.state === ConsentState.OPTED_OUT ? ConsentState.OPTED_IN : ConsentState.OPTED_OUT);
  const [source, from] = useState(ConsentSource.STAFF);
  const [evidence, note] = useState("");
  const [id] = useState(requestId);
  const { busy, error, run } = useAction();
  const channel = word(CHANNELS, consent.channel);
  const record = async (event: Event) => {
    event.preventDefault();
    const well = await run(async () => {
      const answer = await preferences.recordConsent({ practiceId, requestId: id, patientId, channel: consent.channel, state, source, evidence });
      const under = answer.inFlightAttempts > 0 ? ` ${plural(answer.inFlightAttempts, "attempt")} had begun before and may still arrive.` : "";
      const stopped = answer.skippedDeliveries > 0 ? ` ${plural(answer.skippedDeliveries, "pending delivery", "pending deliveries")} will not go.` : "";
      announce(`On record.${stopped}${under}`);
    });
    if (!well) return;
    done();
    close();
  };
  return (
    <Dialog title={`Consent to ${channel}`} close={close}>
      <form onSubmit={record}>
        <fieldset>
          <legend>The patient</legend>
          <label class="check">
            <input type="radio" name="state" checked={state === ConsentState.OPTED_OUT} onChange={() => choose(ConsentState.OPTED_OUT)} />
            wants nothing more by {channel}
          </label>
          <label class="check">
            <input type="radio" name="state" checked={state === ConsentState.OPTED_IN} onChange={() => choose(ConsentState.OPTED_IN)} />
            agrees to {channel}
          </label>
        </fieldset>
        <label class="field">
          <span>How we know</span>
          <select value={source} onChange={(event) => from(Number(event.currentTarget.value))}>
            <option value={ConsentSource.STAFF}>The patient told staff</option>
            <option value={ConsentSource.FORM}>A signed form</option>
          </select>
        </label>
        <label class="field">
          <span>Evidence: a note, or where the form is kept</span>
          <textarea rows={3} required maxLength={500} value={evidence} onInput={(event) => note(event.currentTarget.value)} />
        </label>
        <p class="dim small">An entry of the ledger is never changed or removed.</p>
        {error !== undefined && <Problem error={error} />}
        <div class="buttons">
          <button type="button" onClick={close}>
            Leave it
          </button>
          <button class="primary" disabled={busy}>
            {busy ? "Waiting for what is under way" : "Put on record"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
