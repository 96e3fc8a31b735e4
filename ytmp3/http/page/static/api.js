// Requests to the service, and the ids that this browser stores.

export const base = document.documentElement.dataset.base;
const MAX_STORED_IDS = 1000;

// A request that the service refused. `message` is for people; `status` is 0 if no response arrived.
export class Refusal extends Error {
  constructor(message, status, code, retryAfterSeconds) {
    super(message);
    Object.assign(this, { status, code, retryAfterSeconds });
  }
}

export async function call(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Refusal("The service cannot be reached. Check the connection, then try again.", 0, "unreachable", 5);
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const retryAfter = Number(response.headers.get("Retry-After")) || 5;
  const detail = answer.detail?.replace(/^`(url|urls)` /, "The link "); // the API's texts name its fields
  throw new Refusal(detail || `The service answered ${response.status}.`, response.status, answer.code, retryAfter);
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Returns the ids that this browser has stored under a key.
export function stored(key) {
  try {
    const ids = JSON.parse(localStorage.getItem(key));
    return Array.isArray(ids) ? ids.filter((id) => /^[0-9a-f]+$/.test(id)).slice(0, MAX_STORED_IDS) : [];
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
