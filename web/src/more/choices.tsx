import { useState } from "preact/hooks";
import type { KindChannels, PatientPreferences } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { type Channel, NotificationKind } from "../../gen/heedwell/v1/types_pb.js";
import { announce } from "../announce.js";
import { preferences } from "../api.js";
import { useHere } from "../practice.js";
import { type Loaded, Problem, useAction } from "../ui.js";
import { CHANNELS, KINDS, choices, word } from "../words.js";

/** Per kind: the channels chosen, or null where the practice's hold. */
type Choice = Map<number, Channel[] | null>;

const chosen = (wishes: PatientPreferences): Choice =>
  new Map(wishes.effective.map(({ kind }) => [kind, wishes.choices.find((each) => each.kind === kind)?.channels?.values ?? null]));

/** Taste: over which channels the patient wants which kind. */
export function Choices({ patientId, wishes }: { patientId: string; wishes: Loaded<PatientPreferences | undefined> }) {
  const { id: practiceId } = useHere();
  const { busy, error, run } = useAction();
  const known = wishes.value;
  // What differs alone: the rest may be loaded anew meanwhile.
  const [edits, set] = useState<Choice>(new Map());
  if (!known) return null;
  const before = chosen(known);
  const draft: Choice = new Map([...before, ...edits]);
  const changed = [...edits].filter(([kind, channels]) => String(channels?.toSorted()) !== String(before.get(kind)?.toSorted()));
  const save = () =>
    run(async () => {
      const wanted = changed.map(([kind, values]) => (values ? { kind, channels: { values } } : { kind }));
      try {
        const answer = await preferences.updatePatientPreferences({ practiceId, patientId, choices: wanted, etag: known.etag });
        wishes.set(answer.preferences);
        set(new Map());
        announce("Saved");
      } catch (cause) {
        wishes.reload();
        throw cause;
      }
    });
  const put = (kind: number, channels: Channel[] | null) => set(new Map(edits).set(kind, channels));
  return (
    <section class="sheet wide">
      <h2>Channels per kind</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Channels per kind">
        <table class="plain grid">
          <caption class="unseen">Which channels are used for which kind</caption>
          <thead>
            <tr>
              <th scope="col">Kind</th>
              {choices(CHANNELS).map(({ value, text }) => (
                <th scope="col" key={value}>
                  {text}
                </th>
              ))}
              <th scope="col">Decided by</th>
            </tr>
          </thead>
          <tbody>
            {known.effective.map((each) => (
              <Row key={each.kind} effective={each} own={draft.get(each.kind) ?? null} put={(channels) => put(each.kind, channels)} />
            ))}
          </tbody>
        </table>
      </div>
      {error !== undefined && <Problem error={error} />}
      {changed.length > 0 && (
        <p class="buttons">
          <button class="primary" disabled={busy} onClick={save}>
            Save for the patient
          </button>
          <button disabled={busy} onClick={() => set(new Map())}>Undo</button>
        </p>
      )}
    </section>
  );
}

function Row({ effective, own, put }: { effective: KindChannels; own: Channel[] | null; put: (channels: Channel[] | null) => void }) {
  const { settings } = useHere();
  const { channels, offeredChannels, kind } = effective;
  const name = word(KINDS, kind);
  // A broadcast names its channels itself: whoever chose nothing gets it over all that are offered.
  const usual = kind === NotificationKind.ANNOUNCEMENT ? offeredChannels : settings.value?.kindChannels.find((each) => each.kind === kind)?.channels;
  const on = own ?? usual ?? channels;
  return (
    <tr>
      <th scope="row">{name}</th>
      {choices(CHANNELS).map(({ value, text }) => (
        <td key={value}>
          <input
            type="checkbox"
            aria-label={`${name} by ${text}`}
            checked={on.includes(value)}
            disabled={!offeredChannels.includes(value) && !on.includes(value)}
            onChange={() => put(on.includes(value) ? on.filter((each) => each !== value) : [...on, value])}
          />
        </td>
      ))}
      <td>
        {own ? (
          <>
            Patient{" "}
            <button class="quiet small" onClick={() => put(null)}>
              As the practice has it
            </button>
          </>
        ) : (
          <span class="dim">Practice</span>
        )}
      </td>
    </tr>
  );
}
