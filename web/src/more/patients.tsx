import { useEffect } from "preact/hooks";
import type { Patient } from "../../gen/heedwell/v1/directory_service_pb.js";
import { type Filter, fromParams, toParams } from "../deliveries/filter.js";
import { List } from "../deliveries/list.js";
import { directory, preferences } from "../api.js";
import { useKeys } from "../keys.js";
import { useHere } from "../practice.js";
import { type Route, go, href, useOpened } from "../route.js";
import { useStream } from "../stream.js";
import { Empty, Problem, Skeleton, useFocus, useLoaded } from "../ui.js";
import { Choices } from "./choices.js";
import { Consents } from "./consent.js";
import { Finder, nameOf } from "./finder.js";
import { Ledger } from "./ledger.js";
import { Reachability } from "./reachability.js";

export function Patients({ route }: { route: Route }) {
  const { isStaff } = useHere();
  if (!isStaff) return <Empty title="Patients are for staff">Your sign-in does not have the role “staff”.</Empty>;
  return route.id ? <One key={route.id} route={route} /> : <Search />;
}

function Search() {
  useIdle();
  useKeys({ "/": () => document.querySelector<HTMLElement>(".find")?.focus() });
  return (
    <div class="narrow">
      <h1>Patients</h1>
      <p class="dim small">Looking somebody up is put on record.</p>
      <Finder label="Patient" choose={(patient) => go(href("patients", patient.patientId))} />
    </div>
  );
}

/** Nothing is followed here. */
export function useIdle(): void {
  const stream = useStream();
  useEffect(() => stream.idle(), []);
}

function One({ route }: { route: Route }) {
  const { id: practiceId } = useHere();
  const patientId = route.id;
  const patient = useLoaded(async (signal) => (await directory.getPatient({ practiceId, patientId }, { signal })).patient, [practiceId, patientId]);
  const wishes = useLoaded(async (signal) => (await preferences.getPatientPreferences({ practiceId, patientId }, { signal })).preferences, [practiceId, patientId]);
  const heading = useFocus<HTMLHeadingElement>([patient.value?.patientId]);
  const params = new URLSearchParams(route.params);
  params.set("patient", patientId);
  const filter = fromParams(params);
  const to = (next: Filter, open: string) => href("patients", patientId, { ...toParams(next), patient: "", open });
  const opened = params.get("open") ?? "";
  const setOpened = useOpened(opened, (open) => to(filter, open));
  if (patient.error !== undefined && !patient.value) return <Problem error={patient.error} retry={patient.reload} />;
  if (!patient.value) return <Skeleton what="patient" />;
  return (
    <>
      <header class="person">
        <div>
          <h1 tabIndex={-1} ref={heading} dir="auto">
            {nameOf(patient.value)}
          </h1>
          <Card patient={patient.value} />
        </div>
        <a href={href("conversations", "", { patient: patientId })}>Conversation</a>
      </header>
      {wishes.error !== undefined && <Problem error={wishes.error} retry={wishes.reload} />}
      {!wishes.value && wishes.loading && <Skeleton what="preferences" />}
      {wishes.value && (
        <div class="columns">
          <Consents patientId={patientId} wishes={wishes.value} reload={wishes.reload} />
          <Reachability patientId={patientId} known={wishes.value} />
          <Ledger patientId={patientId} known={wishes.value} />
          <Choices patientId={patientId} wishes={wishes} />
        </div>
      )}
      <h2 class="history">History</h2>
      <List
        fixed
        filter={filter}
        setFilter={(next) => go(to(next, ""), true)}
        opened={opened}
        setOpened={setOpened}
      />
    </>
  );
}

function Card({ patient }: { patient: Patient }) {
  const parts = [
    `ID ${patient.patientId}`,
    patient.mobilePhone,
    patient.email,
    patient.portalEnabled ? "Portal account" : "No portal account",
    patient.locale,
    patient.timeZone,
    ...patient.tags,
  ];
  return (
    <p class="dim">
      {patient.inactive && <b class="tag warn">Inactive: nothing is sent</b>} {parts.filter(Boolean).join(" · ")}
    </p>
  );
}
