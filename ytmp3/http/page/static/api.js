// Requests to the service, and the ids that this browser stores.

export const base = document.documentElement.dataset.base;
const MAX_STORED_IDS = 1000;
const ID = /^[0-9a-f]{34}$/; // of a job or a batch

// A request that the service refused. `message` is for people; `status` is 0 if no response arrived.
export class Refusal extends Error {
  constructor(message, status, code, retryAfterSeconds) {
    super(message);
    Object.assign(this, { status, code, retryAfterSeconds });
  }
}

export async function call(method, path, body) {
  return (await request(method, path, body)).json();
}

async function request(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw unreachable();
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || 5;
  const detail = answer.detail?.replace(/^`(url|urls)` /, "The link "); // the API's texts name its fields
  throw new Refusal(detail || `The service answered ${response.status}.`, response.status, answer.code, retryAfter);
}

function unreachable() {
  return new Refusal("The service cannot be reached. Check the connection, then try again.", 0, "unreachable", 5);
}

// Reads the states of at most 100 jobs with one request: an event stream begins with the state of each job. Returns the
// jobs that the service has, by id.
export async function readJobs(ids) {
  const jobs = new Map();
  const missing = new Set(ids);
  let response;
  try {
    response = await request("GET", `/events?jobs=${ids.join(",")}`);
  } catch (refusal) {
    if (refusal.status === 404) return jobs; // the service has none of them
    throw refusal;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (missing.size) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) throw unreachable();
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [, kind, data] = event.match(/^event: (\w+)\n(?:id: .*\n)?data: (.*)$/m) ?? [];
      if (kind !== "job" && kind !== "unknown") continue;
      const job = JSON.parse(data);
      missing.delete(job.job_id);
      if (kind === "job") jobs.set(job.job_id, job);
    }
  }
  reader.cancel();
  return jobs;
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Returns what looks like an id in a list, each once.
export function idsIn(list) {
  return [...new Set(Array.isArray(list) ? list.filter((id) => ID.test(id)) : [])].slice(0, MAX_STORED_IDS);
}

// Returns the ids that this browser has stored under a key.
export function stored(key) {
  try {
    return idsIn(JSON.parse(localStorage.getItem(key)));
  } catch {
    return []; // storage is disabled, or contains other data
  }
}

export function store(key, ids) {
  try {
    localStorage.setItem(key, JSON.stringify(ids.slice(0, MAX_STORED_IDS)));
  } catch {
    // Storage is full or disabled: the list is then lost when the page is closed.
  }
}

// Returns the links in a text, each once. A text without a link is returned whole, so that the service explains the error.
export function linksIn(text) {
  const words = text.split(/\s+/).filter(Boolean);
  const links = words.filter((word) => /:\/\/|youtu|^[\w-]{11}$/i.test(word));
  return [...new Set(links.length ? links : words.length ? [text.trim()] : [])];
}
