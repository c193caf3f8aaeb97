// The page: who is signed in, which practice is shown, and the view that the address names.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import "./app.css";
import { Announcer } from "./announce.js";
import { directory, preferences } from "./api.js";
import { Badge } from "./badge.js";
import { Deliveries } from "./deliveries/view.js";
import { explain } from "./errors.js";
import { Help } from "./keys.js";
import { HereContext } from "./practice.js";
import { type Route, type View, VIEWS, go, href, useRoute } from "./route.js";
import { type Bearer, handedOver, holds, isSame, onLost, onOthers, signOut, whoIsIt } from "./session.js";
import { SignIn } from "./sign-in.js";
import { Zone } from "./time.js";
import { Empty, Problem, Skeleton, useAction, useLoaded } from "./ui.js";

const TITLES: Record<View, string> = {
  deliveries: "Deliveries",
  conversations: "Conversations",
  patients: "Patients",
  broadcasts: "Broadcasts",
  settings: "Settings",
};

function App() {
  const [bearer, set] = useState<Bearer | null | undefined>(undefined);
  const [error, fail] = useState<unknown>(undefined);
  const [again, lose] = useState(false);
  const [handed, take] = useState(handedOver);
  // Whose page this is, also once they are signed out: what they wrote and have not sent is kept for them, and for nobody else.
  const owner = useRef<Bearer | null>(null);
  const settle = (now: Bearer | null) => {
    if (now && owner.current && !isSame(now, owner.current)) {
      location.reload();
      return false;
    }
    if (!now && owner.current) lose(true);
    owner.current = now ?? owner.current;
    fail(undefined);
    set(now);
    return true;
  };
  const look = (failed: (error: unknown) => void) => {
    const before = owner.current;
    // Whoever signed in meanwhile is not the one who was asked for.
    whoIsIt().then((now) => owner.current === before && settle(now), failed);
  };
  const leave = () => location.replace(location.pathname);
  useEffect(() => {
    onLost(() => {
      lose(true);
      set(null);
    });
    look(fail);
    // The cookie is that of all tabs: another may have put somebody else's there.
    const check = () => look(() => undefined);
    onOthers((what) => (what === "in" ? check() : owner.current && leave()));
    addEventListener("focus", check);
    // Whoever opens a link with a token where the page is open already loads nothing anew.
    const follow = () => take((before) => handedOver() || before);
    addEventListener("hashchange", follow);
    return () => {
      removeEventListener("focus", check);
      removeEventListener("hashchange", follow);
    };
  }, []);
  const enter = (bearer: Bearer) => settle(bearer) && take("");
  if (error !== undefined) return <main class="sign-in">{<Problem error={error} retry={() => look(fail)} />}</main>;
  if (bearer === undefined) return <Skeleton what="the page" />;
  if (bearer === null || handed) return <SignIn key={handed} handed={handed} again={again} present={bearer} done={enter} stay={() => take("")} />;
  return <Practice bearer={bearer} leave={leave} />;
}

function Practice({ bearer, leave }: { bearer: Bearer; leave: () => void }) {
  const route = useRoute();
  const asked = route.params.get("practice") ?? "";
  // Whoever has one practice has no way back from another that an address names.
  const id = (bearer.practices?.length === 1 ? "" : asked) || (bearer.practices?.[0] ?? "");
  const isStaff = holds(bearer, "staff");
  const practice = useLoaded(async (signal) => (id ? (await directory.getPractice({ practiceId: id }, { signal })).practice : undefined), [id]);
  const settings = useLoaded(async (signal) => {
    return id && isStaff ? (await preferences.getPracticeSettings({ practiceId: id }, { signal })).settings : undefined;
  }, [id]);
  const here = { id, bearer, practice: practice.value, settings };
  return (
    <HereContext.Provider value={here}>
      <Zone.Provider value={practice.value?.timeZone}>
        <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
          Skip to the content
        </a>
        <header class="top">
          <span class="brand">Heedwell</span>
          <Choice bearer={bearer} id={id} name={practice.value?.displayName} />
          <Badge />
          <Help />
          <Account bearer={bearer} leave={leave} />
        </header>
        <nav aria-label="Views">
          {VIEWS.map((view) => (
            <a key={view} href={href(view)} aria-current={route.view === view ? "page" : undefined}>
              {TITLES[view]}
            </a>
          ))}
        </nav>
        <main id="main" tabIndex={-1}>
          {!id ? (
            <Empty title="Which practice?">
              <p>Your sign-in covers them all. Name one above.</p>
            </Empty>
          ) : practice.error !== undefined && !practice.value ? (
            <Problem error={practice.error} retry={practice.reload} />
          ) : (
            <View route={route} key={`${id}/${route.view}`} />
          )}
        </main>
        <Announcer />
      </Zone.Provider>
    </HereContext.Provider>
  );
}

/** Which practice: a list, or for those who see them all, a field. */
function Choice({ bearer, id, name }: { bearer: Bearer; id: string; name: string | undefined }) {
  const choose = (practice: string) => go(href("deliveries", "", { practice }));
  if (bearer.practices?.length === 1) return <span class="practice">{name ?? id}</span>;
  return bearer.practices ? (
    <select class="practice" aria-label="Practice" value={id} onChange={(event) => choose(event.currentTarget.value)}>
      {bearer.practices.map((each) => (
        <option key={each} value={each}>
          {each === id && name ? name : each}
        </option>
      ))}
    </select>
  ) : (
    <input class="practice" aria-label="Practice" placeholder="Practice ID" defaultValue={id} onChange={(event) => choose(event.currentTarget.value.trim())} />
  );
}

/** Leaving loads the page anew, so that the next user finds nothing of this one. */
function Account({ bearer, leave }: { bearer: Bearer; leave: () => void }) {
  const { busy, error, run } = useAction();
  return (
    <details class="menu account">
      <summary>{bearer.name || bearer.subject}</summary>
      <div>
        <p class="small dim">{bearer.roles.map((role) => role.replace("_", " ")).join(", ")}</p>
        <a href="/reference">API reference</a>
        {error !== undefined && <Problem error={error} />}
        <button disabled={busy} onClick={() => run(() => signOut().then(leave))}>
          Sign out
        </button>
      </div>
    </details>
  );
}

function View({ route }: { route: Route }) {
  useEffect(() => {
    // By the time that somebody asks for another view, it is there.
    requestIdleCallback?.(() => void more().catch(() => undefined));
  }, []);
  useEffect(() => {
    document.title = `${TITLES[route.view]} – Heedwell`;
  }, [route.view]);
  return route.view === "deliveries" ? <Deliveries route={route} /> : <Later view={route.view} route={route} />;
}

const more = () => import("./more.js");

const VIEW = { conversations: "Conversations", patients: "Patients", broadcasts: "Broadcasts", settings: "Settings" } as const;

/** A view that comes in a file of its own. */
function Later({ view, route }: { view: Exclude<View, "deliveries">; route: Route }) {
  const views = useLoaded(more, []);
  if (views.error !== undefined) return <Problem error={views.error} retry={views.reload} />;
  if (!views.value) return <Skeleton what={TITLES[view]} />;
  const Shown = views.value[VIEW[view]];
  return <Shown route={route} />;
}

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  try {
    render(<App />, root);
  } catch (error) {
    root.textContent = explain(error);
  }
}
