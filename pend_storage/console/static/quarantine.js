// Quarantine: records that could not be placed, whole, each with the reason.
import { Act, Command, find, html, number, plural, Time } from "./parts.js";
import { download, post } from "./request.js";
import { again, Choice, Facts, Head, Key, More, reload, State, Table } from "./screen.js";
import { facts, set, state } from "./state.js";

const filter = { file: "", code: "" };
/** @type {{id?: string, text?: string | null, tried?: any, raw?: string, reason?: string, problem?: string}} Edit of the open record. */
let edit = {};

export function refresh() {
  const { id } = state.route;
  const asked = Object.entries(filter).filter(([, value]) => value);
  const list = `api/v1/quarantine${asked.length ? `?${new URLSearchParams(asked)}` : ""}`;
  if (edit.id !== id) edit = { id, text: null };
  reload(id ? `api/v1/quarantine/${encodeURIComponent(id)}` : list, facts().details?.waiting);
}

const choose = (name) => (value) => {
  filter[name] = value;
  again();
};

function List({ data }) {
  const groups = data?.groups || [];
  const items = data?.items || [];
  const values = (name) => [...new Set([...groups.map((g) => g[name]), filter[name]])].filter(Boolean).sort();
  const one = filter.code && filter.file && groups.find((g) => g.code === filter.code && g.file === filter.file);
  return html`<${Head} title="Quarantine" />
    <p class="dim">Legacy records that could not be placed. Each is kept whole, as it stood in its file.</p>
    <div class="filters"><${Choice} label="File" value=${filter.file} values=${values("file")} onChange=${choose("file")} />
      <${Choice} label="Code" value=${filter.code} values=${values("code")} onChange=${choose("code")} />
      ${one && html`<${Act} name="retry-quarantine" label="Retry ${plural(one.count, "record")}" args=${filter} /><${Act} name="accept-quarantine" label="Accept ${plural(one.count, "record")}" args=${filter} />`}</div>
    ${groups.length > 0 && html`<ul class="groups">${groups.map((g) => html`<li key=${g.file + g.code}><button type="button" class="btn" aria-pressed=${one === g}
      onClick=${() => { Object.assign(filter, one === g ? { file: "", code: "" } : { file: g.file, code: g.code }); again(); }}><b>${number(g.count)}</b> ${g.code} <span class="dim">${g.file}</span></button></li>`)}</ul>`}
    <${State} />${data && html`<${Table} caption="Quarantined records" columns=${["place", "file", "code", "reason", "status", "seen"]} empty="Nothing is in quarantine."
      rows=${items.map((i) => ({ key: i.id, cells: [html`<a href="#/quarantine/${encodeURIComponent(i.id)}"><${Key} of=${i.place || "the whole file"} /></a>`, i.file, i.code, i.reason, html`<span class="state">${i.status}</span>`, html`<${Time} at=${i.seen_at} />`] }))} />`}<${More} of=${data} />`;
}

async function attempt() {
  const { id, text } = edit;
  edit.tried = { busy: true };
  set();
  const { data } = await post("retry-quarantine", { id, text }, { dry_run: true });
  if (edit.id === id) edit.tried = data;
  set();
}

function Raw({ record }) {
  const { raw, at } = record;
  if (!at) return html`<pre tabindex="0" aria-label="Text of the record">${raw}</pre>`;
  const end = at.start + Math.max(1, at.length);
  return html`<pre tabindex="0" aria-label="Text of the record">${raw.slice(0, at.start)}<mark>${raw.slice(at.start, end) || " "}<span class="vh"> (the fault is here) </span></mark>${raw.slice(end)}</pre>`;
}

/** Note on a text whose letters and digits are dots, and the ways to see it. */
const Masked = ({ record }) => html`<p class="dim">Letters and digits are masked, because they may be personal.</p>
  <p class="acts"><${Act} name="reveal-quarantine" label="Reveal the text" args=${{ id: record.id }} then=${(result, reason) => {
    if (edit.id === state.route.id) Object.assign(edit, { raw: result.raw, reason });
    set();
  }} /></p>${!find("reveal-quarantine")?.allowed && html`<${Command} text="pend-storage quarantine show ${record.id}" />`}`;

async function save(record) {
  edit.problem = await download(record.download, edit.reason, `${record.id}.bin`);
  set();
}

/** Note on a text that is cut; after it was revealed, all of its bytes can be saved. */
const Cut = ({ record }) => html`<p class="dim">This is the beginning of ${plural(record.size, "byte")}.</p>
  ${edit.raw != null && html`<p class="acts"><button type="button" class="btn" onClick=${() => save(record)}>Download all bytes</button></p>`}
  ${edit.problem && html`<p class="bad" role="status">${edit.problem}</p>`}`;

function Edit({ record }) {
  if (!find("retry-quarantine")) return null;
  if (edit.text === null) return html`<p class="acts"><button type="button" class="btn" onClick=${() => { edit.text = record.masked ? "" : record.raw; set(); }}>${record.masked ? "Write the corrected text" : "Edit a copy"}</button></p>`;
  const { tried } = edit;
  const first = tried?.result?.results?.[0];
  const placed = first?.placed;
  return html`<label class="field">Corrected text. The original is always kept.<textarea class="code" rows="10" spellcheck=${false} value=${edit.text} onInput=${(e) => { edit.text = e.target.value; edit.tried = null; set(); }}></textarea></label>
    <p class="acts"><button type="button" class="btn" aria-disabled=${tried?.busy ? "true" : null} onClick=${attempt}>Try</button>
      ${placed && html`<${Act} name="retry-quarantine" label="Place the corrected record" kind="main" args=${{ id: record.id, text: edit.text }} />`}
      <button type="button" class="btn" onClick=${() => { edit.text = null; edit.tried = null; set(); }}>Discard the edit</button></p>
    <div role="status">${tried && !tried.busy && html`<h2>${placed ? "It would be placed" : "It would stay in quarantine"}</h2><${Facts} of=${tried.error || first || tried.sentence} />`}</div>`;
}

function Entry({ data }) {
  const record = data?.record && { ...data.record, ...(edit.raw == null ? {} : { raw: edit.raw, masked: false }) };
  return html`<p><a href="#/quarantine">All of the quarantine</a></p>
    <${Head} title=${record ? html`<${Key} of=${record.place || record.file} />` : "Quarantine"} /><${State} />
    ${record && html`<p class="reason">${record.reason}</p>
    <p class="dim">${record.file} · ${record.code} · ${record.status}${record.note && ` (${record.note})`} · ${plural(record.size, "byte")} · seen <${Time} at=${record.seen_at} /> · id <span class="key">${record.id}</span></p>
    <section class="card"><h2>Text in the file</h2><${Raw} record=${record} />${record.cut && html`<${Cut} record=${record} />`}
      ${record.masked && html`<${Masked} record=${record} />`}${!record.cut && html`<${Edit} record=${record} />`}</section>
    <p class="acts"><${Act} name="retry-quarantine" label="Retry as it is" args=${{ id: record.id }} /><${Act} name="accept-quarantine" label="Accept" args=${{ id: record.id }} /></p>`}`;
}

export const Screen = () => (state.route.id ? html`<${Entry} data=${state.view.data} />` : html`<${List} data=${state.view.data} />`);
