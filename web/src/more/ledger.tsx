import { useState } from "preact/hooks";
import type { ConsentRecord, PatientPreferences } from "../../gen/heedwell/v1/preferences_service_pb.js";
import { preferences } from "../api.js";
import { useHere } from "../practice.js";
import { Time } from "../time.js";
import { Problem, useAction, useLoaded } from "../ui.js";
import { CHANNELS, CONSENTS, SOURCES, actor, word } from "../words.js";

/** All that was ever said about consent, newest first. */
export function Ledger({ patientId, known }: { patientId: string; known: PatientPreferences }) {
  const { id: practiceId } = useHere();
  const [older, add] = useState<{ records: ConsentRecord[]; token: string } | undefined>(undefined);
  const { busy, error, run } = useAction();
  // Loaded anew when what is in force has changed.
  const newest = Math.max(0, ...known.consents.map(({ record }) => Number(record?.position ?? 0)));
  const loaded = useLoaded(async (signal) => {
    const page = await preferences.listConsentRecords({ practiceId, patientId, pageSize: 20 }, { signal });
    add(undefined);
    return page;
  }, [practiceId, patientId, newest]);
  const token = older ? older.token : (loaded.value?.nextPageToken ?? "");
  const more = () =>
    run(async () => {
      const page = await preferences.listConsentRecords({ practiceId, patientId, pageSize: 20, pageToken: token });
      add({ records: [...(older?.records ?? []), ...page.records], token: page.nextPageToken });
    });
  const records = [...(loaded.value?.records ?? []), ...(older?.records ?? [])];
  return (
    <section class="sheet">
      <h2>Consent ledger</h2>
      {(loaded.error ?? error) !== undefined && <Problem error={loaded.error ?? error} retry={loaded.reload} />}
      {loaded.value && records.length === 0 && <p class="dim">Nothing on record.</p>}
      <ol class="ledger">
        {records.map((record) => (
          <li key={record.position.toString()}>
            <b>
              {word(CHANNELS, record.channel)}: {word(CONSENTS, record.state)}
            </b>{" "}
            {word(SOURCES, record.source)}
            <br />
            <span class="dim small">
              Entry {record.position.toString()} of the practice’s ledger, decided <Time at={record.effectiveTime} full />, written by {actor(record.actor)}
              {record.addressHint && `, for ${record.addressHint}`}
            </span>
            {record.evidence && <span class="evidence small">{record.evidence}</span>}
          </li>
        ))}
      </ol>
      {token && (
        <button disabled={busy} onClick={more}>
          Load older
        </button>
      )}
    </section>
  );
}
