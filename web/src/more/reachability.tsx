import { useState } from "preact/hooks";
import type { PatientPreferences } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { NotificationKind } from "../../gen/heedwell/v1/types_pb.js";
import { preferences } from "../api.js";
import { useHere } from "../practice.js";
import { Problem, useLoaded } from "../ui.js";
import { CHANNELS, KINDS, choices, skipped, word } from "../words.js";

/** What a message would do now. */
export function Reachability({ patientId, known }: { patientId: string; known: PatientPreferences }) {
  const { id: practiceId } = useHere();
  const [kind, choose] = useState(NotificationKind.APPOINTMENT_REMINDER);
  const state = known.consents.map(({ state }) => state).join();
  const loaded = useLoaded(async (signal) => {
    return (await preferences.batchGetReachability({ practiceId, patientIds: [patientId], kind }, { signal })).patients[0]?.channels ?? [];
  }, [practiceId, patientId, kind, known.etag, state]);
  return (
    <section class="sheet">
      <h2>Reachable now</h2>
      <label class="field">
        <span>For</span>
        <select value={kind} onChange={(event) => choose(Number(event.currentTarget.value))}>
          {choices(KINDS)
            .filter(({ value }) => value > 0)
            .map(({ value, text }) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
        </select>
      </label>
      {loaded.error !== undefined && <Problem error={loaded.error} retry={loaded.reload} />}
      <dl class="facts">
        {loaded.value?.map(({ channel, skipReason, addressHint }) => (
          <div key={channel}>
            <dt>{word(CHANNELS, channel)}</dt>
            <dd>
              {skipReason ? <span class="out">{skipped(skipReason, channel)}</span> : <b class="well">Can be used</b>}
              {addressHint && <span class="dim"> {addressHint}</span>}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
