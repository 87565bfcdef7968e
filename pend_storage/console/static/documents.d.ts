/**
 * Documents that the console's server sends, as the page reads them. Version 1.
 *
 * The page is `index.html`; it is served at the root of the console, and everything else
 * in this folder below `static/`. All addresses in the page are relative to the root, so
 * that the console works below any prefix. A page never holds an inline script or style.
 *
 * Sequences, versions and epochs are text wherever they may pass 2^53.
 * A member that the page does not know is left alone; a missing one is shown as unknown.
 */
export type Level = "ok" | "attention" | "risk" | "failing";
export type Point = [number | string, number | null];
/** Points in time, or named groups of them, at any depth. A time is seconds or ISO. */
export type Series = Point[] | { [name: string]: Series };

/** `GET api/v1/environment`, and each event `snapshot` of `GET api/v1/stream`. */
export interface Snapshot {
  version: 1;
  id: string;
  looked_at: string;
  looked_ms: number;
  environment: string;
  band: "production" | "staging" | "development" | "other";
  read_only: boolean;
  actor: { name: string; roles: string[] } | null;
  runbook: string | null;
  verdict: { level: Level; sentence: string; answers: Answer[] };
  /** Document of `pend-storage status --json`: its facts stand in `result`. */
  status: { result: Status };
  jobs: Job[];
  actions: Action[];
  series: { [name: string]: Series };
}
export interface Answer {
  question: "failing" | "risk" | "phase" | "back" | "running" | "next" | "fresh";
  level: Level;
  sentence: string;
  command: string | null;
}
export interface Status {
  environment: string;
  phase: string | null;
  flag: { wanted: string | null; place: string; problem: string | null; held?: string | null };
  json: StoreFacts | null;
  postgres: StoreFacts | null;
  problem: string | null;
  details: PairFacts | null;
  backup: object | null;
  broken: { file: string; id: string; reason: string; unread: boolean }[];
}
export interface StoreFacts {
  place: string;
  role: string | null;
  epoch: number | string | null;
  problem: string | null;
  /** Where they are known: milliseconds of the last look, and since when it answers. */
  latency_ms?: number | null;
  up_since?: string | null;
  files?: { file: string; records: number; seconds: number }[];
}
export interface PairFacts {
  lag: { commits: number; seconds: number | string | null; secondary_up: boolean; blocked: string | null } | null;
  /** Seconds of changes that the primary's change log keeps, where it is known. */
  retention_seconds?: number | null;
  backfill: "never" | "interrupted" | "complete" | null;
  divergences: number | null;
  waiting: number | null;
  ahead: { phase: string; ready: boolean; blockers: Obstacle[] } | null;
  history: Switch[];
}
export interface Obstacle {
  code: string;
  sentence: string;
  remedy: string;
  can_be_accepted: boolean;
}
export interface Switch {
  at: string;
  by: string;
  reason?: string | null;
  before: string;
  after: string;
  epoch: number | string;
  accepted: string[];
  pause: number;
  count?: number;
}
export interface Job {
  id: string;
  kind: string;
  by: string | null;
  reason: string | null;
  host: string;
  process: number;
  started: string;
  heartbeat: string;
  done: number;
  total: number | null;
  rate: number | null;
  eta_seconds: number | null;
  throttled: { [reason: string]: number };
  state: "running" | "paused" | "cancelled" | "done" | "failed" | "died";
  result: unknown;
}
export interface Action {
  name: string;
  method: "POST";
  /** Relative to the console's root, with or without a leading slash. */
  path: string;
  allowed: boolean;
  why_not: string | null;
  needs_environment_name: boolean;
}

/** Body of `POST api/v1/actions/NAME`; arguments of the action stand beside these. */
export interface ActionRequest {
  expected_phase: string | null;
  expected_epoch: number | string | null;
  idempotency_key: string;
  reason: string;
  environment: string;
  dry_run: boolean;
  accept?: string[];
  id?: string;
  collection?: string;
  key?: string;
  text?: string;
  file?: string;
  code?: string;
  job?: string;
}
/** Its answer: 200 and 202. 403, 409, 422: `error`; 409 with the new `snapshot`. */
export interface ActionResult {
  sentence?: string;
  job?: string;
  result?: { [name: string]: unknown };
  error?: string;
  snapshot?: Snapshot;
}

/** `GET api/v1/divergences?collection=&kind=&source=&after=` */
export interface Divergences {
  items: {
    id: string;
    collection: string;
    key: string;
    kind: "missing" | "extra" | "different" | "answer";
    source: string;
    state: string;
    primary_version: string;
    secondary_version: string;
    first_seen: string;
    last_seen: string;
    differences: { path: string; left: unknown; right: unknown }[];
    more_differences?: number;
  }[];
  total: number;
  next: string | null;
}
/** `GET api/v1/quarantine?file=&code=&after=`; `groups` counts all that wait. */
export interface Quarantine {
  items: {
    id: string;
    file: string;
    place: string;
    code: string;
    reason: string;
    status: "waiting" | "accepted";
    seen_at: string;
    size: number;
  }[];
  groups: { file: string; code: string; count: number }[];
  next: string | null;
}
/** `GET api/v1/quarantine/ID` */
export interface QuarantineEntry {
  record: Quarantine["items"][number] & {
    note: string | null;
    /** Text, or its beginning: then `cut`, and all bytes are at `download`. */
    raw: string;
    cut: boolean;
    /** Place of the fault in `raw`, in characters; null where it is all of it. */
    at: { start: number; length: number } | null;
    /** Letters and digits of `raw` are dots: `reveal-quarantine` shows them. */
    masked?: boolean;
    /** Path of a POST that has the reason, as an action has. */
    download: string;
  };
}
/** `GET api/v1/history` */
export interface History {
  switches: Switch[];
  operations: { at: string; by: string; action: string; reason: string | null; sentence?: string }[];
}
/** `GET api/v1/audit?by=&action=&collection=&key=&after=` */
export interface Audit {
  items: {
    id: string;
    at: string;
    by: string;
    request: string | null;
    action: string;
    collection: string | null;
    key: string | null;
    version: string | null;
    reason: string | null;
    details?: unknown;
  }[];
  next: string | null;
  export?: string | null;
}
/** Event `change` of `GET api/v1/changes`; `expired` and `dropped` carry a `sentence`. */
export interface FeedChange {
  sequence: string;
  epoch: string;
  at: string;
  by: string | null;
  records: { collection: string; key: string; version: string; deleted: boolean }[];
}
/** `GET api/v1/backups` */
export interface Backups {
  repository: string | null;
  problem: string | null;
  items: {
    id: string;
    at: string;
    age_seconds: number;
    verified_at: string | null;
    bytes: number | null;
    state: string;
  }[];
  drill: { at: string; outcome: string; rto_seconds: number | null; rpo_seconds: number | null; reason: string | null } | null;
}
/** `GET api/v1/session`: 401 where a login is needed. `POST` logs in, `DELETE` out. */
export interface Session {
  actor: { name: string; roles: string[] };
  logout: boolean;
}
