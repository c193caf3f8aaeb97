import { useState } from "preact/hooks";
import type { Patient } from "../../gen/heedwell/v1/directory_service_pb.js";
import { directory } from "../api.js";
import { useHere } from "../practice.js";
import { Problem, useAction } from "../ui.js";

export const nameOf = (patient: Patient) => `${patient.firstName} ${patient.lastName}`.trim() || patient.patientId;

/** Finds patients. Each search is recorded, so it waits for Enter instead of following each letter. */
export function Finder({ label, choose }: { label: string; choose: (patient: Patient) => void }) {
  const { id: practiceId } = useHere();
  const [query, set] = useState("");
  const [found, show] = useState<{ patients: Patient[]; more: boolean } | undefined>(undefined);
  const { busy, error, run } = useAction();
  const find = (event: Event) => {
    event.preventDefault();
    void run(async () => {
      const { patients, nextPageToken } = await directory.listPatients({ practiceId, query: query.trim() });
      show({ patients, more: nextPageToken !== "" });
    });
  };
  return (
    <div class="finder">
      <form onSubmit={find} role="search">
        <label class="field">
          <span>{label}: ID, email, phone, or beginning of a name</span>
          <input type="search" class="find" autocomplete="off" required value={query} onInput={(event) => set(event.currentTarget.value)} />
        </label>
        <button disabled={busy}>Find</button>
      </form>
      {error !== undefined && <Problem error={error} />}
      <div role="status">
        {found?.patients.length === 0 && <p class="dim">Nobody found. A name is found by its beginning, a number with its +1.</p>}
        {found?.more && <p class="dim">There are more; ask more closely.</p>}
      </div>
      {found && found.patients.length > 0 && (
        <ul class="found">
          {found.patients.map((patient) => (
            <li key={patient.patientId}>
              <button class="quiet" onClick={() => choose(patient)}>
                {nameOf(patient)}
              </button>
              <span class="dim small">
                {patient.patientId}
                {patient.inactive && ", inactive"}
              </span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
