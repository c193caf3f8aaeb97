import { useState } from "preact/hooks";
import { type Bearer, type SignInError, signIn } from "./session.js";
import { useFocus } from "./ui.js";

const WORDS: Record<SignInError, string> = {
  unknown: "This token does not let anyone in. It may have expired, or be of another server.",
  foreign: "Signing in works over https, or on the machine that the server runs on.",
  "too-long": "This token is longer than a browser keeps. Ask for one for fewer practices.",
  unreachable: "The server cannot be reached. Please try again in a moment.",
};

interface Props {
  /** A token that came with the address. */
  handed: string;
  /** Somebody was signed in before. */
  again: boolean;
  /** Whoever is signed in now. */
  present: Bearer | null;
  done: (bearer: Bearer) => void;
  stay: () => void;
}

export function SignIn({ handed, again, present, done, stay }: Props) {
  const [token, set] = useState(handed);
  const [error, fail] = useState<SignInError | "">("");
  const [busy, work] = useState(false);
  const input = useFocus<HTMLTextAreaElement>();
  const button = useFocus<HTMLButtonElement>();
  const submit = async (event: Event) => {
    event.preventDefault();
    work(true);
    const bearer = await signIn(token.trim());
    work(false);
    if (typeof bearer !== "string") return done(bearer);
    set("");
    fail(bearer);
    input.current?.focus();
  };
  return (
    <main class="sign-in">
      <form onSubmit={submit}>
        <h1>Heedwell</h1>
        <p>{again && !handed ? "You are signed out. Sign in to go on where you were." : handed ? "You were handed a token to sign in with." : "Sign in with a token for your practice."}</p>
        {present && (
          <p class="note warn">
            You are signed in as {present.name || present.subject}. This token takes the place of that, in all tabs.{" "}
            <button type="button" onClick={stay}>
              Stay signed in
            </button>
          </p>
        )}
        {token && token === handed ? (
          <button class="primary" ref={button} disabled={busy}>
            Sign in
          </button>
        ) : (
          <>
            <label class="field">
              <span>Token</span>
              <textarea
                ref={input}
                rows={4}
                required
                autocomplete="off"
                spellcheck={false}
                value={token}
                aria-invalid={error !== ""}
                aria-describedby={error && "sign-in-error"}
                onInput={(event) => set(event.currentTarget.value)}
              />
            </label>
            <button class="primary" disabled={busy}>
              Sign in
            </button>
          </>
        )}
        {error && (
          <p class="note bad" role="alert" id="sign-in-error">
            {WORDS[error]}
          </p>
        )}
        <p class="dim small">The token is kept where no script can read it, until it expires or you sign out.</p>
      </form>
    </main>
  );
}
