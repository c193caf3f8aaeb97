import { useHere, troubles } from "../practice.js";
import { type Route, go, href, useOpened } from "../route.js";
import { CHANNELS, word } from "../words.js";
import { type Filter, fromParams, toParams } from "./filter.js";
import { List } from "./list.js";
import { Tiles } from "./tiles.js";

export function Deliveries({ route }: { route: Route }) {
  const { bearer, isStaff } = useHere();
  const opened = route.params.get("open") ?? "";
  const filter = fromParams(route.params);
  const to = (filter: Filter, open: string) => href("deliveries", "", { ...toParams(filter), open });
  const setOpened = useOpened(opened, (open) => to(filter, open));
  return (
    <>
      <h1 class="unseen">Deliveries</h1>
      <Trouble />
      {(isStaff || bearer.roles.includes("auditor")) && <Tiles />}
      <List
        filter={filter}
        setFilter={(filter) => go(to(filter, ""), true)}
        opened={opened}
        setOpened={setOpened}
      />
    </>
  );
}

/** What keeps a channel that is in use from sending. */
function Trouble() {
  const { settings, isAdmin } = useHere();
  const found = troubles(settings.value);
  if (found.length === 0) return null;
  return (
    <section class="note bad" aria-label="Channels that cannot send">
      {found.map(({ channel, findings }) => (
        <p key={channel}>
          <b>{word(CHANNELS, channel)} cannot send.</b> {findings.map(({ message }) => message).join(" ")}
        </p>
      ))}
      {isAdmin && <a href={href("settings")}>To the settings</a>}
    </section>
  );
}
