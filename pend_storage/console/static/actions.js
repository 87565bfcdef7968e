// Dialog of an action: what it will do, asked live; the reason; what it did.
import { html, plural } from "./parts.js";
import { expected, newKey, post } from "./request.js";
import { again, Facts } from "./screen.js";
import { isLive, set, state, take } from "./state.js";
import { Job } from "./work.js";

const NOTES = {
  advance: "Writes wait for a moment while the primary changes. No write fails, and none is lost.",
  back: "The store before becomes primary again, with every commit. Writes wait for a moment.",
  emergency: "Goes back to json-only through every phase, and checks each step.",
  backfill: "Copies every record to the secondary, under live traffic. It can be paused, and goes on where it stopped.",
  validate: "Compares every record of both stores. Nothing is changed.",
  "reveal-quarantine": "Shows the text as it stands in the file. The audit keeps who saw it, and why.",
  "reveal-divergence": "Shows the values of the fields that differ. The audit keeps who saw them, and why.",
  repair: "Reads each divergent record of the primary again, and applies it to the secondary.",
};

/**
 * Open the dialog.
 * @param {string} name
 * @param {object} args
 * @param {string} title
 * @param {((result: any, reason: string) => void)} [then] takes the result; then the dialog is closed
 */
export function open(name, args = {}, title = name, then = undefined) {
  const needs = state.snapshot.actions.find((a) => a.name === name)?.needs_environment_name;
  set({ dialog: { id: newKey(), key: newKey(), name, args, title, then, at: expected(), needs, reason: state.dialog?.reason || "", typed: "" } });
  return send(true);
}

function change(id, changes) {
  if (state.dialog?.id === id) set({ dialog: { ...state.dialog, ...changes } });
}

async function send(dry) {
  const { id, key, name, args, at, reason } = state.dialog;
  change(id, { busy: dry ? "preview" : "running" });
  // A key stands for one request: each dry run has its own.
  const onWait = (said) => change(id, { said: said.sentence });
  const { status, data } = await post(name, args, { at, reason, dry_run: dry, onWait, ...(dry ? {} : { key }) });
  if (data.snapshot) take(data.snapshot);
  change(id, { busy: "", said: "", [dry ? "preview" : "answer"]: { status, ...data } });
  if (dry) return;
  again();
  if (status !== 200 || data.ok === false || !state.dialog?.then || state.dialog.id !== id) return;
  state.dialog.then(data.result, reason);
  close();
}

/** Return to the form; an answer that was lost is asked for again by the same key. */
function retry(d) {
  if (d.answer.status === 0) send(false);
  else change(d.id, { answer: null, key: newKey() });
}

const focus = (element) => element?.focus();
const show = (dialog) => dialog && !dialog.open && dialog.showModal();

function Outcome({ of }) {
  if (of.error) return html`<p class="bad">${of.error}</p>`;
  const { result, sentence } = of;
  const lost = result?.is_forward === false;
  return html`<p>${sentence || "It can be done."}</p>
    ${result?.blockers?.length > 0 && html`<p><b>${lost ? "Would be lost" : "In the way"}</b></p><${Facts} of=${result.blockers} />`}
    ${result && Object.keys(result).length > 0 && html`<details><summary>Details</summary><${Facts} of=${result} /></details>`}`;
}

function Changed({ d }) {
  const now = expected();
  const is = now.phase !== d.at.phase || String(now.epoch) !== String(d.at.epoch);
  return html`<div class="changed"><p><b>Nothing was done.</b></p><p>${d.answer.error}</p>
    ${is && html`<p>It was ${d.at.phase} at epoch ${d.at.epoch}. Now it is ${now.phase} at epoch ${now.epoch}.</p>`}
    <p class="acts"><button type="button" class="btn" onClick=${() => open(d.name, d.args, d.title, d.then)}>Look again</button></p></div>`;
}

function Accepts({ d }) {
  const found = d.preview?.result?.blockers ?? [];
  const codes = [...new Set([...found.filter((b) => b.can_be_accepted).map((b) => b.code), ...(d.args.accept || [])])];
  if (d.name !== "advance" || !codes.length) return null;
  const toggle = (code, on) => {
    const accept = (d.args.accept || []).filter((c) => c !== code).concat(on ? code : []);
    change(d.id, { args: { ...d.args, accept } });
    send(true);
  };
  return html`<fieldset><legend>Accept what is in the way</legend>${codes.map((code) => html`<label class="check"><input type="checkbox"
    checked=${d.args.accept?.includes(code)} onChange=${(e) => toggle(code, e.target.checked)} /> ${code}</label>`)}</fieldset>`;
}

function whyNot(d) {
  if (d.busy) return "What it will do is being found out.";
  if (!isLive()) return "The page is not live.";
  if (d.preview?.error) return "It is not possible now.";
  if (d.preview?.result?.refused?.length) return "Something is in the way, and is not accepted.";
  if (!d.reason.trim()) return "Write a reason first.";
  return d.needs && d.typed !== state.snapshot.environment ? "Type the environment's name first." : "";
}

function Ask({ d }) {
  const why = whyNot(d);
  const submit = (event) => {
    event.preventDefault();
    if (!why) send(false);
  };
  return html`<form onSubmit=${submit}>
    <div class="preview" id="what" aria-busy=${d.busy === "preview"}><h3>What will happen</h3>
      ${d.preview ? html`<${Outcome} of=${d.preview} />` : html`<p class="empty">Trying it without changing anything.</p>`}</div>
    <${Accepts} d=${d} />
    <label class="field">Reason, kept in the history<textarea ref=${focus} autofocus required rows="2" maxlength="500" value=${d.reason} onInput=${(e) => change(d.id, { reason: e.target.value })}></textarea></label>
    ${d.needs && html`<label class="field">Type <b>${state.snapshot.environment}</b> to confirm<input autocomplete="off" spellcheck=${false} value=${d.typed} onInput=${(e) => change(d.id, { typed: e.target.value })} /></label>`}
    <div class="foot"><small id="why">${why}</small><button type="button" class="btn" onClick=${close}>Cancel</button>
      <button type="submit" class="btn ${d.name === "emergency" ? "danger" : "main"}" aria-disabled=${why ? "true" : null} aria-describedby="why">${d.title}</button></div></form>`;
}

/** What goes on now, of this action or of another one. */
function Running({ d }) {
  const jobs = state.snapshot.jobs?.filter((job) => job.state === "running" || job.state === "paused") || [];
  return html`<div tabindex="-1" ref=${focus}><p><b>It is under way.</b> ${d.said || ""}</p>${d.said && html`<p class="dim">This dialog may be closed.</p>`}
    <ul class="jobs">${jobs.map((job) => html`<${Job} key=${job.id} job=${job} />`)}</ul></div>
    <div class="foot"><button type="button" class="btn" onClick=${close}>Close</button></div>`;
}

function Done({ d }) {
  const { answer } = d;
  return html`<div tabindex="-1" ref=${focus}>${answer.status === 409 ? html`<${Changed} d=${d} />` : html`
    ${!answer.error && answer.ok !== false && html`<p><b>Done.</b></p>`}<${Outcome} of=${answer} />`}</div>
    <div class="foot">${answer.error && answer.status !== 409 && html`<button type="button" class="btn" onClick=${() => retry(d)}>${answer.status ? "Back to the form" : "Try again"}</button>`}<button type="button" class="btn" onClick=${close}>Close</button></div>`;
}

const close = () => document.querySelector("dialog")?.close();

export function Dialog() {
  const d = state.dialog;
  const args = Object.entries(d.args).filter(([name, v]) => name !== "accept" && name !== "text" && v != null && v !== "");
  return html`<dialog ref=${show} onClose=${() => set({ dialog: null })} aria-labelledby="title" aria-describedby="what">
    <h2 id="title">${d.title}</h2><p class="dim">${state.snapshot.environment}, ${d.at.phase || "phase not known"}, epoch ${d.at.epoch ?? "not known"}${args.map(([k, v]) => html`, ${k} <span class="key">${Array.isArray(v) ? plural(v.length, "item") : String(v)}</span>`)}</p>
    ${NOTES[d.name] && html`<p>${NOTES[d.name]}</p>`}
    ${d.busy === "running" ? html`<${Running} d=${d} />` : d.answer ? html`<${Done} d=${d} />` : html`<${Ask} d=${d} />`}</dialog>`;
}
