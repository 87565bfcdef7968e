// First picture: the seven answers, both stores, the lag, the phase.
import { Command, html, Level, plural, span, Time } from "./parts.js";
import { facts, state } from "./state.js";

const QUESTIONS = {
  failing: "Is anything failing?",
  risk: "Is any data at risk?",
  phase: "Which phase is it?",
  back: "Can I go back now?",
  running: "What is running?",
  next: "What is next?",
  fresh: "How fresh is this?",
};
export const PHASES = ["json-only", "parallel", "postgres-primary", "postgres-only"];
const ARROWS = ["", "→", "←", ""];

function Rail({ status }) {
  const now = PHASES.indexOf(status.phase);
  const wanted = PHASES.indexOf(status.flag?.wanted ?? status.phase);
  const store = (name, at, primary) => html`<i class=${primary ? "pri" : ARROWS[at] ? "" : "off"}>${name}</i>`;
  return html`<section aria-labelledby="rail"><h2 id="rail">Phase</h2><ol class="rail">${PHASES.map((phase, at) => {
    const mark = at === now ? "now" : at === wanted ? "wanted" : now >= 0 && at > Math.min(now, wanted) && at < Math.max(now, wanted) ? "on the way" : "";
    return html`<li class=${mark} aria-current=${mark === "now" ? "step" : null}><b>${phase}</b> <em>${mark}</em>
      <span class="flow">${store("JSON", at, at < 2)}<span>${ARROWS[at]}</span>${store("PostgreSQL", at, at > 1)}</span></li>`;
  })}</ol>
    <${Bad} text=${status.problem} /><${Bad} text=${status.flag?.problem} /><${Bad} text=${status.flag?.held} /></section>`;
}
export const Bad = ({ text }) => text && html`<p class="bad">${text}</p>`;

function Store({ name, facts, latency }) {
  const { place, role, epoch, problem, files, up_since: since, latency_ms: ms = latency } = facts || {};
  const known = [epoch != null && `epoch ${epoch}`, ms != null && span(ms / 1000)].filter(Boolean).join(", ");
  return html`<section class="card"><h2>${name}<span class="role ${problem ? "" : role}">${problem ? "out of reach" : role || (facts ? "no role yet" : "not configured")}</span></h2>
    <p class="place" title=${place}>${place}</p>
    ${problem ? html`<${Bad} text=${problem} />` : html`<p class="dim">${known}${since && html`, up since <${Time} at=${since} />`}</p>`}
    ${files?.length > 0 && html`<p>${plural(files.length, "legacy file")} behind by ${span(files[0].seconds)}</p>`}</section>`;
}

export function points(series) {
  if (series && !Array.isArray(series)) return points(Object.values(series)[0]);
  return (series || []).filter((p) => Number.isFinite(p[1]));
}

function Lag({ details, series }) {
  const lag = details?.lag;
  if (!lag) return html`<section class="card"><h2>Lag</h2><p class="empty">No secondary follows, or it cannot be asked.</p></section>`;
  const history = points(series?.lag_seconds);
  const top = Math.max(1, ...history.map((p) => p[1]));
  const line = history.map((p, n) => `${(n * 200) / (history.length - 1)},${37 - (35 * p[1]) / top}`).join(" ");
  const keeps = details.retention_seconds;
  return html`<section class="card"><h2>Lag</h2>
    <p class="big">${plural(lag.commits, "commit")}${lag.commits > 0 && `, ${span(lag.seconds)}`}</p>
    ${history.length > 1 && html`<svg class="spark" viewBox="0 0 200 40" preserveAspectRatio="none" aria-hidden="true"><polygon points="0,39 ${line} 200,39" /><polyline points=${line} /></svg>`}
    <${Bad} text=${lag.secondary_up ? "" : "The secondary is out of reach."} /><${Bad} text=${lag.blocked} />
    ${keeps && html`<p class="dim">retention lasts ${span(keeps)}</p>`}</section>`;
}

export function Overview({ s }) {
  const status = facts();
  const { level, sentence, answers } = s.verdict;
  const last = (side) => points(s.series?.latency?.[side]).at(-1)?.[1];
  const Work = state.modules.work?.Work;
  return html`<section class="verdict ${level}"><${Level} of=${level} /><h1 aria-live="polite">${sentence}</h1></section>
    <div class="top"><ol class="answers card" aria-label="The seven questions">${answers.map((a) => html`<li key=${a.question}><${Level} of=${a.level} /><b>${QUESTIONS[a.question] || a.question}</b>
      <span>${a.sentence}<${Command} text=${a.command} /></span></li>`)}</ol>
      <div class="side"><${Store} name="JSON" facts=${status.json} latency=${last("json")} /><${Store} name="PostgreSQL" facts=${status.postgres} latency=${last("postgres")} /><${Lag} details=${status.details} series=${s.series} /></div></div>
    <${Rail} status=${status} />${Work && html`<${Work} s=${s} status=${status} />`}`;
}
