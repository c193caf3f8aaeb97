import { useHere } from "../practice.js";
import type { Route } from "../route.js";
import { days } from "../time.js";
import { Empty, Problem, Skeleton } from "../ui.js";
import { KindTable } from "./kinds.js";
import { useIdle } from "./patients.js";
import { QuietHours } from "./quiet.js";
import { SetUp } from "./setup.js";
import { TestMessage } from "./test-message.js";

export function Settings(_: { route: Route }) {
  const { settings, isStaff, isAdmin, practice } = useHere();
  useIdle();
  if (!isStaff) return <Empty title="Settings are for staff">Your sign-in does not have the role “staff”.</Empty>;
  const { value, error, loading, reload } = settings;
  return (
    <div class="narrow">
      <h1>Settings</h1>
      {!isAdmin && <p class="note">You can look at everything here. Changing it needs the role “practice admin”.</p>}
      {error !== undefined && <Problem error={error} retry={reload} />}
      {!value && loading && <Skeleton what="settings" />}
      {value && (
        <>
          <SetUp settings={value} />
          <KindTable settings={settings} />
          <QuietHours settings={settings} />
          <TestMessage settings={settings} />
          <section class="sheet">
            <h2>The practice</h2>
            <dl class="facts">
              {(
                [
                  ["Name", practice?.legalName],
                  ["In texts", practice?.displayName],
                  ["Phone", practice?.phone],
                  ["Time zone", practice?.timeZone],
                  ["Language", practice?.locale],
                  ["Portal", practice?.portalUrl],
                  ["Links lead to", value.linkHosts.join(", ")],
                  ["Texts are kept", value.contentRetention && `for ${days(value.contentRetention.seconds)}`],
                ] as const
              ).map(
                ([name, text]) =>
                  text && (
                    <div key={name}>
                      <dt>{name}</dt>
                      <dd>{text}</dd>
                    </div>
                  ),
              )}
            </dl>
          </section>
        </>
      )}
    </div>
  );
}
