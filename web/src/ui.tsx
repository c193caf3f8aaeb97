// The small parts that every view is made of.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { DeliveryState } from "../gen/heedwell/v1/types_pb.js";
import { explain } from "./errors.js";
import { noted } from "./session.js";
import { STATES, word } from "./words.js";

/** A shape for each state: colour alone tells nobody anything. */
const SHAPES: Readonly<Record<number, string>> = {
  [DeliveryState.PENDING]: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 2.5V8l2.5 1.5",
  [DeliveryState.UNCONFIRMED]: "M8 1.5 14.5 8 8 14.5 1.5 8ZM6.6 6.4c0-1 .6-1.6 1.5-1.6s1.4.6 1.4 1.3c0 1-1.4 1.1-1.4 2.2M8.1 10.6v.2",
  [DeliveryState.SENT]: "M2 8h10M8.5 4.5 12 8l-3.5 3.5",
  [DeliveryState.DELIVERED]: "m3 8.5 3.5 3.5L13 5",
  [DeliveryState.FAILED]: "m4 4 8 8m0-8-8 8",
  [DeliveryState.SKIPPED]: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM3.8 3.8l8.4 8.4",
  [DeliveryState.CANCELLED]: "M3.5 3.5h9v9h-9Z",
};

const OTHER = "M4 8h.1M8 8h.1M12 8h.1";

export function Shape({ path }: { path: string }) {
  return (
    <svg class="shape" viewBox="0 0 16 16" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}

export function State({ state }: { state: DeliveryState }) {
  return (
    <span class={`state s${state}`}>
      <Shape path={SHAPES[state] ?? OTHER} />
      {word(STATES, state)}
    </span>
  );
}

/** What a view says instead of a list. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Problem({ error, retry }: { error: unknown; retry?: () => void }) {
  return (
    <div class="note bad" role="alert">
      <p>{explain(error)}</p>
      {retry && <button onClick={retry}>Try again</button>}
    </div>
  );
}

/** Grey bars where something is on its way, once it takes long enough to be noticed. */
export function Skeleton({ lines = 6, what }: { lines?: number; what: string }) {
  const [shown, show] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => show(true), 300);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="skeleton" aria-busy="true" aria-label={`Loading ${what}`} role="group">
      {shown && Array.from({ length: lines }, (_, line) => <i key={line} />)}
    </div>
  );
}

export type Loaded<T> = { value?: T; error?: unknown; loading: boolean; reload: () => void; set: (value: T) => void };

/** What `load` yields, loaded anew whenever `keys` change. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: unknown[]): Loaded<T> {
  const [state, set] = useState<{ value?: T; error?: unknown; loading: boolean }>({ loading: true });
  const [turn, again] = useState(0);
  const seen = useRef<string>("");
  const key = JSON.stringify(keys);
  useEffect(() => {
    const call = new AbortController();
    // What was loaded for something else is not shown for this; what was loaded for this stays until the new is there.
    set((before) => (seen.current === key ? { ...before, loading: true } : { loading: true }));
    seen.current = key;
    load(call.signal).then(
      (value) => call.signal.aborted || set({ value, loading: false }),
      (error) => call.signal.aborted || set((before) => ({ ...before, error: noted(error), loading: false })),
    );
    return () => call.abort();
  }, [key, turn]);
  return { ...state, reload: () => again((count) => count + 1), set: (value) => set({ value, loading: false }) };
}

/** A call that a button makes: whether it is under way, and how it failed. */
export function useAction(): { busy: boolean; error: unknown; run: (act: () => Promise<unknown>) => Promise<boolean>; clear: () => void } {
  const [state, set] = useState<{ busy: boolean; error: unknown }>({ busy: false, error: undefined });
  const run = async (act: () => Promise<unknown>) => {
    set({ busy: true, error: undefined });
    try {
      await act();
      set({ busy: false, error: undefined });
      return true;
    } catch (error) {
      set({ busy: false, error: noted(error) });
      return false;
    }
  };
  return { ...state, run, clear: () => set({ busy: false, error: undefined }) };
}

/** A dialog that the browser keeps the focus in, and gives it back to where it was before; Escape closes it. */
export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const [shown, before] = [dialog.current, document.activeElement];
    shown?.showModal();
    return () => {
      // While it is open nothing else can have the focus.
      shown?.close();
      if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
    >
      <h2>{title}</h2>
      {children}
    </dialog>
  );
}

/** Asks before something is done that cannot be taken back. */
export function Ask(props: { title: string; yes: string; act: () => Promise<unknown>; close: () => void; children: ComponentChildren }) {
  const { busy, error, run } = useAction();
  return (
    <Dialog title={props.title} close={props.close}>
      {props.children}
      {error !== undefined && <Problem error={error} />}
      <div class="buttons">
        <button onClick={props.close}>Leave it</button>
        <button class="primary" disabled={busy} onClick={async () => (await run(props.act)) && props.close()}>
          {props.yes}
        </button>
      </div>
    </Dialog>
  );
}

/** Moves the focus there when it appears. */
export function useFocus<T extends HTMLElement>(keys: unknown[] = []): RefObject<T | null> {
  const ref = useRef<T>(null);
  useEffect(() => ref.current?.focus({ preventScroll: true }), keys);
  return ref;
}
