// Below the first picture: what stands in the way, the way back, the jobs.
import { Act, Command, find, html, Level, number, plural, span, Time } from "./parts.js";
import { Bad, PHASES } from "./overview.js";
import { ask, call, isLive, set, state } from "./state.js";

/** @param {any} result Of a job or an action. @returns {string} */
export const told = (result) => (result == null ? "" : typeof result === "string" ? result : result.error || result.sentence || "");

export function Job({ job }) {
  const open = job.state === "running" || job.state === "paused";
  const slow = Object.entries(job.throttled || {}).filter(([, n]) => n > 0).map(([why, n]) => `${span(n)} for ${why}`);
  const facts = [
    job.total == null ? plural(job.done, "record") : `${number(job.done)} of ${number(job.total)}`,
    open && job.rate > 0 && `${number(Math.round(job.rate))} a second`,
    open && job.eta_seconds != null && `${span(job.eta_seconds)} left`,
    slow.length > 0 && `throttled ${slow.join(", ")}`,
  ].filter(Boolean);
  const act = (name, label) => html`<${Act} name=${name} label=${label} args=${{ job: job.id }} />`;
  return html`<li class="job"><p><b>${job.kind}</b> <span class="state ${job.state}">${job.state}</span> <span class="dim">by ${job.by || "unknown"}, since <${Time} at=${job.started} /></span></p>
    ${open && job.total > 0 && html`<progress max=${job.total} value=${job.done} aria-label="${job.kind}: ${facts[0]}"></progress>`}
    <p class="dim">${facts.join(" · ")}</p>${job.reason && html`<p>“${job.reason}”</p>`}
    <${Bad} text=${job.state === "failed" || job.state === "died" ? told(job.result) : ""} />
    ${open && html`<p class="acts">${job.state === "paused" ? act("resume", "Resume") : act("pause", "Pause")}${act("cancel", "Cancel")}</p>`}</li>`;
}

/** Button that ends a login; only where there is one to end. */
export function Logout() {
  if (state.session?.logout) return html`<button type="button" class="theme out" onClick=${leave}>Log out</button>`;
}
async function leave() {
  await call("api/v1/session", {}, "DELETE");
  location.reload();
}
call("api/v1/session").then(({ data: session }) => set({ session }));

function Blocker({ of: blocker, phase }) {
  const live = isLive();
  const accept = () => live && ask("advance", { accept: [blocker.code] }, `Advance to ${phase}`);
  return html`<li><span class="box" aria-hidden="true"></span><div><b>${blocker.code}</b> ${blocker.sentence}
    <${Command} text=${blocker.remedy} />
    ${blocker.can_be_accepted && find("advance") && html`<button type="button" class="link" aria-disabled=${live ? null : "true"} onClick=${accept}>Accept ${blocker.code}</button>`}</div></li>`;
}

/** Jobs that need a look, and those that ended as they should, the latest first. */
function sorted(jobs) {
  const open = ["running", "paused", "failed", "died"];
  const latest = [...jobs].sort((a, b) => (a.started < b.started ? 1 : -1));
  return [latest.filter((job) => open.includes(job.state)), latest.filter((job) => !open.includes(job.state))];
}

export function Work({ s, status }) {
  const ahead = status.details?.ahead;
  const before = PHASES[PHASES.indexOf(status.phase) - 1];
  const [jobs, ended] = sorted(s.jobs || []);
  const back = s.verdict.answers.find((a) => a.question === "back");
  return html`${status.broken?.length > 0 && html`<section class="card"><h2>Broken files</h2><ul>${status.broken.map((f) => html`<li key=${f.id}><a href="#/quarantine/${encodeURIComponent(f.id)}">${f.file}</a>: ${f.reason}</li>`)}</ul></section>`}
  <div class="three"><section class="card"><h2>Next${ahead ? `: ${ahead.phase}` : ""}</h2>
    ${!ahead && html`<p class="empty">${status.phase === PHASES[3] ? "This is the last phase." : "What is in the way cannot be known now."}</p>`}
    ${ahead && !ahead.blockers.length && html`<p><${Level} of="ok" />Nothing is in the way.</p>`}
    ${ahead && html`<ul class="checks">${ahead.blockers.map((b) => html`<${Blocker} key=${b.code} of=${b} phase=${ahead.phase} />`)}</ul>
      <p class="acts"><${Act} name="advance" label="Advance to ${ahead.phase}" kind="main" /></p>`}</section>
  <section class="card"><h2>Back${before ? `: ${before}` : ""}</h2>
    <p>${back && html`<${Level} of=${back.level} />`}${back?.sentence || "Not known now."}</p><${Command} text=${back?.command} />
    <p class="acts">${before && html`<${Act} name="back" label="Go back to ${before}" />`}<${Act} name="emergency" label="Emergency rollback" kind="danger" /></p></section>
  <section class="card"><h2>Jobs</h2>
    ${jobs.length > 0 ? html`<ul class="jobs">${jobs.map((job) => html`<${Job} key=${job.id} job=${job} />`)}</ul>` : html`<p class="empty">Nothing runs.</p>`}
    ${ended.length > 0 && html`<details><summary>${plural(ended.length, "job")} ended</summary><ul class="jobs">${ended.map((job) => html`<${Job} key=${job.id} job=${job} />`)}</ul></details>`}
    <p class="acts"><${Act} name="backfill" label="Backfill" /><${Act} name="validate" label="Validate" /><${Act} name="repair" label="Repair" /></p></section></div>`;
}
