// History and audit: switches, operations, and a search of the audit.
import { Command, html, plural, span, Time } from "./parts.js";
import { again, Facts, Head, Key, More, reload, State, Table } from "./screen.js";
import { call, facts, set, state } from "./state.js";

const asked = { by: "", action: "", collection: "", key: "" };
let past = /** @type {any} */ (null);
let known = "";

export function refresh() {
  const terms = Object.entries(asked).filter(([, value]) => value);
  const latest = facts().details?.history?.length;
  reload(`api/v1/audit${terms.length ? `?${new URLSearchParams(terms)}` : ""}`, latest);
  const key = `${state.connections} ${latest}`;
  if (key === known) return;
  known = key;
  call("api/v1/history").then(({ status, data }) => {
    past = status === 200 ? data : { error: data.error };
    set();
  });
}

function search(event) {
  event.preventDefault();
  for (const [name, value] of new FormData(event.target)) asked[name] = String(value).trim();
  again();
}

const Switches = ({ of }) => html`<${Table} caption="Switches" columns=${["at", "from", "to", "by", "reason", "writes waited", "accepted", "epoch"]} empty="No switch was made yet."
  rows=${of.map((w) => ({ key: w.at + w.epoch, cells: [html`<${Time} at=${w.at} />`, w.before, w.count > 1 ? `${w.after} (${plural(w.count, "step")})` : w.after, w.by, w.reason, span(w.pause), w.accepted?.join(", ") || "nothing", w.epoch] }))} />`;

export function Screen() {
  const { data } = state.view;
  const link = data?.export && /^\/?api\//.test(data.export) && data.export.replace(/^\//, "");
  return html`<${Head} title="History and audit" />${past?.error && html`<p class="bad">${past.error}</p>`}
    <h2>Switches</h2>${past?.switches && html`<${Switches} of=${[...past.switches].sort((a, b) => (a.at < b.at ? 1 : -1))} />`}
    ${past?.operations?.length > 0 && html`<h2>Operations</h2><${Table} caption="Operations" columns=${["at", "operation", "by", "reason"]} empty=""
      rows=${past.operations.map((o, n) => ({ key: n, cells: [html`<${Time} at=${o.at} />`, o.action || o.kind, o.by, o.reason] }))} />`}
    <h2>Audit</h2><form class="filters" onSubmit=${search}><label>By <input name="by" defaultValue=${asked.by} /></label><label>Action <input name="action" defaultValue=${asked.action} /></label>
      <label>Collection <input name="collection" defaultValue=${asked.collection} /></label><label>Key <input name="key" defaultValue=${asked.key} /></label><button class="btn">Search</button>${link && html`<a href=${link} download>Export</a>`}</form>
    <${State} />${data?.problem && html`<p class="dim">${data.problem}</p>`}${data?.items && html`<${Table} caption="Audit" columns=${["at", "action", "by", "record", "reason", "details"]} empty=${Object.values(asked).some(Boolean) ? "No entry matches." : "The audit has no entry yet."}
      rows=${data.items.map((i) => ({ key: i.id, cells: [html`<${Time} at=${i.at} />`, i.action, i.by, i.collection && html`${i.collection} <${Key} of=${i.key} />${i.version && html`<br/><span class="dim">version ${i.version}</span>`}`, i.reason, i.details && html`<details><summary>show</summary><${Facts} of=${i.details} /></details>`] }))} />`}${data?.cut && !data.next && html`<p class="dim">These are the newest entries. All of them: <${Command} text="pend-storage audit list" /></p>`}<${More} of=${data} />`;
}
