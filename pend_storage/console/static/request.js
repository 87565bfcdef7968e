// Requests of actions: what they expect of the environment, and the key of a repetition.
import { call, facts, ROOT, state } from "./state.js";

/** Key by which the server knows a repetition of one request. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID needs a secure address
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

/** Phase and epoch that the page shows now. */
export function expected() {
  const { json, postgres, phase } = facts();
  const first = [json, postgres].find((f) => f?.role === "primary") || [json, postgres].find((f) => f?.role === "fenced");
  return state.snapshot.expected || { phase: phase ?? null, epoch: first?.epoch ?? null };
}

/**
 * Send an action, and wait for its result.
 * @param {string} name
 * @param {object} args of the action
 * @param {{at?: {phase: any, epoch: any}, key?: string, reason?: string, dry_run?: boolean, onWait?: ((said: any) => void) | null}} [how]
 */
export async function post(name, args, { at = expected(), key = newKey(), reason = "", dry_run = false, onWait = null } = {}) {
  const action = state.snapshot.actions?.find((a) => a.name === name);
  let answer = await call(action?.path || `api/v1/actions/${name}`, {
    ...args, expected_phase: at.phase, expected_epoch: at.epoch, idempotency_key: key,
    reason, environment: state.snapshot.environment, dry_run,
  });
  // It goes on without this page, which asks for the result from time to time.
  while (answer.status === 202 || (answer.task && answer.status === 0)) {
    const { task } = answer.data.task ? answer.data : answer;
    onWait?.(answer.data);
    await new Promise((done) => setTimeout(done, 1000));
    answer = { task, ...(await call(`api/v1/tasks/${task}`)) };
  }
  return answer;
}

/**
 * Save what a path answers with; the audit keeps the reason.
 * @returns {Promise<string>} why not; "" where it was saved
 */
export async function download(path, reason, name) {
  const at = expected();
  const answer = await fetch(new URL(path.replace(/^\//, ""), ROOT), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ expected_phase: at.phase, expected_epoch: at.epoch, idempotency_key: newKey(), reason, environment: state.snapshot.environment }),
  }).catch(() => null);
  if (!answer) return "The console does not answer.";
  if (!answer.ok) return (await answer.json().catch(() => ({}))).error || `The console answered ${answer.status}.`;
  const href = URL.createObjectURL(await answer.blob());
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
  return "";
}
