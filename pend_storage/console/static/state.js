// State of the page, calls of the server, and the stream of snapshots.
export const ROOT = new URL(".", location.href.split("#")[0]);

/** @type {any} */
export const state = {
  snapshot: null, // see documents.d.ts
  age: null, // seconds since a new look arrived
  connected: false,
  connections: 0, // counted, so that what is shown is fetched again
  route: readRoute(),
  login: null, // why it is needed
  view: {}, // document of the open screen: {path, data, error}
  dialog: null,
  modules: {},
};

const listeners = new Set();
let queued = false;

/** Change the state; the page is rendered once for all changes of a task. */
export function set(changes = {}) {
  Object.assign(state, changes);
  if (!queued) queueMicrotask(() => {
    queued = false;
    for (const listener of listeners) listener();
  });
  queued = true;
}
export const listen = (listener) => listeners.add(listener);

function readRoute() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {}
  return { name: name || "overview", id };
}

/** Facts of the status; none before the first look. */
export const facts = () => state.snapshot?.status?.result || {};
export const isLive = () => state.age !== null && state.age <= 5;

let fresh = 0;
export function take(snapshot) {
  // A clock of another machine says nothing: what counts is when a new look arrived.
  if (snapshot.looked_at && snapshot.looked_at !== state.snapshot?.looked_at) {
    fresh = performance.now();
    state.age = 0;
  }
  set({ snapshot });
}

/** Call the server. Any failure is an answer with an `error`. */
export async function call(path, body, method = body ? "POST" : "GET") {
  try {
    const answer = await fetch(new URL(path.replace(/^\//, ""), ROOT), {
      method,
      headers: body && { "content-type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const { status } = answer;
    const data = await answer.json().catch(() => ({}));
    if (status >= 400) data.error ||= data.sentence || data.detail || `The console answered ${status}.`;
    if (status === 401) set({ login: data.error });
    return { status, data };
  } catch {
    return { status: 0, data: { error: "The console does not answer. Is it still running?" } };
  }
}

let stream;
let retry;
export async function connect() {
  clearTimeout(retry);
  stream?.close();
  const { status, data } = await call("api/v1/environment");
  if (status === 401) return;
  if (status === 200) take(data);
  else set({ problem: data.error });
  stream = new EventSource(new URL("api/v1/stream", ROOT));
  stream.onopen = () => set({ connected: true, connections: state.connections + 1 });
  stream.addEventListener("snapshot", (event) => take(JSON.parse(event.data)));
  stream.onerror = () => {
    // Not left to the browser: it gives up after an answer that is no stream.
    stream.close();
    set({ connected: false });
    clearTimeout(retry);
    retry = setTimeout(connect, 1000);
  };
}

/** Load a module, and the styles of all but the first picture. */
export async function need(name) {
  if (state.modules[name]) return state.modules[name];
  if (!document.getElementById("more")) {
    const link = Object.assign(document.createElement("link"), { id: "more", rel: "stylesheet", href: "static/screens.css" });
    await new Promise((done) => {
      link.onload = link.onerror = done;
      document.head.append(link);
    });
  }
  const module = await import(`./${name}.js`);
  set({ modules: { ...state.modules, [name]: module } });
  return module;
}

/** Open the dialog of an action: `open` of actions.js. */
export const ask = async (...all) => (await need("actions")).open(...all);

addEventListener("hashchange", () => set({ route: readRoute() }));
setInterval(() => {
  const age = Math.floor((performance.now() - fresh) / 1000);
  if (fresh && age !== state.age) set({ age });
}, 250);
