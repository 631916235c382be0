// What the page asks the master, and how often.

const { useCallback, useEffect, useState } = window.React;

const ROOT = new URL("api/", import.meta.url);
const LIVE_MS = 2000;
const IDLE_MS = 10000;

let skew = 0; // how much later it is on the master than here, in seconds

// The master's time, in seconds since the epoch: ages are right even when this machine's clock is not.
export function now() {
  return Date.now() / 1000 + skew;
}

export function address(path) {
  return new URL(path, ROOT).href;
}

async function ask(path, options) {
  const response = await fetch(address(path), { credentials: "same-origin", ...options });
  const date = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(date)) {
    const difference = (date - Date.now()) / 1000;
    skew = Math.abs(difference) > 3 ? difference : 0; // the header counts whole seconds
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Error(answer.error ?? `the master answered ${response.status}`), {
      status: response.status,
    });
  }
  return answer;
}

// Gives an order; throws what refused it.
export function order(path, body) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

// The answer at `path`, which does not change. Returns [answer, error].
export function useOnce(path) {
  const [state, setState] = useState({ path, answer: null, error: null });
  useEffect(() => {
    const stop = new AbortController();
    ask(path, { signal: stop.signal }).then(
      (answer) => stop.signal.aborted || setState({ path, answer, error: null }),
      (error) => stop.signal.aborted || setState({ path, answer: null, error }),
    );
    return () => stop.abort();
  }, [path]);
  return state.path === path ? [state.answer, state.error] : [null, null];
}

// The answer at `path`, kept up to date: every two seconds while `isLive(answer)`, else every ten, and not at all
// while the tab is hidden. Returns [answer, error, refresh]; an answer outlives the errors after it.
export function useAnswer(path, isLive) {
  const [state, setState] = useState({ path, answer: null, error: null });
  const [wanted, setWanted] = useState(0);
  const refresh = useCallback(() => setWanted((count) => count + 1), []);

  useEffect(() => {
    const stop = new AbortController();
    let timer = null;
    let asking = false;

    async function look() {
      clearTimeout(timer);
      if (asking || document.hidden || stop.signal.aborted) {
        return;
      }
      asking = true;
      let pause;
      try {
        const answer = await ask(path, { signal: stop.signal });
        pause = isLive(answer) ? LIVE_MS : IDLE_MS;
        if (!stop.signal.aborted) {
          setState({ path, answer, error: null });
        }
      } catch (error) {
        pause = error.status >= 400 && error.status < 500 ? IDLE_MS : LIVE_MS; // no such run: not likely to come
        if (!stop.signal.aborted) {
          setState((known) => ({ path, answer: known.path === path ? known.answer : null, error }));
        }
      }
      asking = false;
      if (!stop.signal.aborted) {
        timer = setTimeout(look, pause);
      }
    }

    document.addEventListener("visibilitychange", look);
    look();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [path, isLive, wanted]);

  const current = state.path === path;
  return [current ? state.answer : null, current ? state.error : null, refresh];
}
