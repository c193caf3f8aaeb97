import { useState } from "preact/hooks";
import type { Conversation } from "../../gen/heedwell/v1/conversations_service_pb.js";
import type { Patient } from "../../gen/heedwell/v1/directory_service_pb.js";
import { announce } from "../announce.js";
import { directory } from "../api.js";
import { useHere } from "../practice.js";
import { go, href } from "../route.js";
import { Ask, Problem, useLoaded } from "../ui.js";
import { conversations } from "./api.js";
import { Finder, nameOf } from "./finder.js";
import type { Threads } from "./threads.js";

/** Whose number is it? Nobody's and several patients' are told apart by people alone. */
export function Link({ conversation, threads }: { conversation: Conversation; threads: Threads }) {
  const { id: practiceId } = useHere();
  const [chosen, choose] = useState<Patient | undefined>(undefined);
  const [store, keep] = useState(false);
  const { candidatePatientIds, conversationId } = conversation;
  const candidates = useLoaded(async (signal) => {
    const asked = candidatePatientIds.map((patientId) => directory.getPatient({ practiceId, patientId }, { signal }));
    return (await Promise.all(asked)).flatMap(({ patient }) => patient ?? []);
  }, [practiceId, candidatePatientIds]);
  const link = async () => {
    if (!chosen) return;
    const answer = await conversations.linkConversation({ practiceId, conversationId, patientId: chosen.patientId, storeNumber: store });
    threads.put(answer.conversation);
    announce("Linked");
    go(href("conversations", answer.conversation?.conversationId, { patient: "" }), true);
  };
  return (
    <div class="note warn">
      <h3>{candidatePatientIds.length > 0 ? "Several patients have this number" : "Nobody is known to have this number"}</h3>
      {candidates.error !== undefined && <Problem error={candidates.error} />}
      <p class="buttons">
        {candidates.value?.map((patient) => (
          <button key={patient.patientId} onClick={() => choose(patient)}>
            It is {nameOf(patient)}
          </button>
        ))}
      </p>
      <Finder label="Somebody else" choose={choose} />
      {chosen && (
        <Ask title={`Link to ${nameOf(chosen)}?`} yes="Link" act={link} close={() => choose(undefined)}>
          <p>All messages of this number move to the conversation of {nameOf(chosen)} (ID {chosen.patientId}). This cannot be undone.</p>
          <label class="check">
            <input type="checkbox" checked={store} onChange={() => keep(!store)} />
            It is also the patient’s mobile number from now on
          </label>
        </Ask>
      )}
    </div>
  );
}
