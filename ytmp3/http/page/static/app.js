// The page: connects the form, the list of jobs and the batches.

import { Refusal, base, call, idsIn, linksIn, pause, readJobs, store, stored } from "./api.js";
import { Batches } from "./batches.js";
import { Follower } from "./follow.js";
import { List } from "./list.js";

const form = document.getElementById("convert");
const links = document.getElementById("links");
const format = document.getElementById("format");
const quality = document.getElementById("quality");
const language = document.getElementById("language");
const loudness = document.getElementById("loudness");
const start = document.getElementById("start");
const texts = ["title", "artist", "album"].map((id) => document.getElementById(id));
const cover = document.getElementById("cover");
const numbers = document.getElementById("numbers");
const split = document.getElementById("split");
const end = document.getElementById("end");
const notice = document.getElementById("notice");

const KEY = "ytmp3.jobs";
const MANY_LINKS = 6; // from this number on, links become one batch, whose tracks can be downloaded as one archive
const READ_JOBS = 100; // most jobs of one request; the service has the same limit
const MAX_TRIES = 20;
const ONE_VIDEO = "A title can be chosen for one video: enter a link to a video, or leave the title empty.";
const OFFLINE = "The connection to the service is lost. The list continues when the connection is restored.";

let unread = []; // ids of stored jobs that the page has not requested yet

const list = new List({
  cancel: (job) => attempt(async () => show(await call("DELETE", `/jobs/${job.job_id}`))),
  again: (job) =>
    attempt(async () => {
      const next = await call("POST", "/extract", { url: job.url, ...recipeOf(job), ...tagsOf(job) });
      remove(job);
      show(next).focus();
    }),
  remove,
});

const batches = new Batches(say);

const follower = new Follower({
  show,
  lose: (id) => {
    list.remove(id);
    remember();
  },
  connected: (isConnected) => {
    if (!isConnected) say(OFFLINE);
    else reconnected();
  },
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(convert);
});
links.addEventListener("keydown", (event) => {
  // Enter submits the form, as in a single-line field. Shift+Enter inserts a new line.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
format.addEventListener("change", fitQuality);
language.addEventListener("focus", offerLanguages);
window.addEventListener("offline", () => say(OFFLINE));
window.addEventListener("online", reconnected);

fitQuality(); // a browser may restore the form of an earlier visit
restore();
makeBookmarklet();
document.getElementById("for-batches").hidden = false; // without scripts, the form makes no batches

// The fields of a request for the chosen format. A format that is copied has no quality, and is not cut.
function chosen() {
  const isCopied = quality.disabled;
  return fieldsOf({
    format: format.value,
    quality: isCopied ? null : quality.value,
    language: language.value.trim(),
    loudness: loudness.value === "off" ? null : loudness.value,
    start: isCopied ? null : start.value.trim(),
    end: isCopied ? null : end.value.trim(),
  });
}

// The tags that are chosen in the form, as a field of a request; no field if none is.
function tags() {
  const metadata = fieldsOf(Object.fromEntries(texts.map((text) => [text.name, text.value.trim()])));
  if (cover.value === "no") metadata.cover = false;
  return Object.keys(metadata).length ? { metadata } : {};
}

// The tags for all tracks of a batch, as a field of its request. They have no title in common.
function commonTags() {
  const { title, ...metadata } = tags().metadata ?? {};
  if (numbers.value === "yes") metadata.track_numbers = true;
  return Object.keys(metadata).length ? { metadata } : {};
}

// The field of a request for the same tags as those that were chosen for a job.
function tagsOf(job) {
  return job.tags ? { metadata: job.tags } : {};
}

// The fields of a request for the same recipe as that of a job.
function recipeOf(job) {
  const { format, quality, language, loudness, start_seconds: start, end_seconds: end } = job;
  return fieldsOf({ format, quality, language, loudness, start, end });
}

function fieldsOf(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value != null && value !== ""));
}

// Submits every link of the form. Links that the service refuses stay in the form, and the reason is shown.
async function convert() {
  say("");
  document.getElementById("offer").hidden = true;
  const urls = linksIn(links.value);
  const isSplit = split.value === "chapters" && !split.disabled;
  if ((urls.length > 1 || isSplit) && tags().metadata?.title) return say(ONE_VIDEO);
  const button = form.querySelector("button.primary");
  const refused = [];
  let first = null;
  button.setAttribute("aria-busy", "true");
  try {
    if (urls.length >= MANY_LINKS && !isSplit) {
      const card = await patiently(() => batches.create({ urls, ...chosen(), ...commonTags() }));
      links.value = start.value = end.value = "";
      return void card.focus({ preventScroll: true });
    }
    for (const url of urls) {
      try {
        const card = await (isSplit ? splitOne(url) : convertOne(url));
        first ??= card;
      } catch (refusal) {
        refused.push([url, refusal.message]);
      }
    }
  } finally {
    button.removeAttribute("aria-busy");
  }
  links.value = refused.map(([url]) => url).join("\n");
  if (!refused.length) {
    // The part and the tags belong to the video that was just submitted, not to the next one.
    for (const field of [start, end, ...texts]) field.value = "";
    cover.value = "yes";
    split.value = "whole";
  }
  if (refused.length) {
    say(refused.map(([url, reason]) => (refused.length > 1 ? `${url}: ${reason}` : reason)).join("\n"));
    links.focus();
  } else first?.focus({ preventScroll: true });
}

// Converts a video; or, if the link names no video, the playlist or channel that it names. Returns the card.
async function convertOne(url) {
  const wanted = chosen();
  try {
    const job = await patiently(() => call("POST", "/extract", { url, ...wanted, ...tags() }));
    if (job.hint === "playlist") offerList({ playlist: url, ...wanted, ...commonTags() });
    return show(job);
  } catch (refusal) {
    if (refusal.code !== "not_a_video") throw refusal;
    if (tags().metadata?.title) throw new Refusal(ONE_VIDEO, refusal.status, refusal.code);
    return patiently(() => batches.create({ playlist: url, ...wanted, ...commonTags() }));
  }
}

// Converts each chapter of a video to a track. Returns the card of their batch.
function splitOne(url) {
  return patiently(() => batches.create({ chapters: url, ...chosen(), ...commonTags() }));
}

// A link may name a video and a playlist: the video is converted, and a button offers to convert the playlist.
function offerList(wanted) {
  const offer = document.getElementById("offer");
  offer.hidden = false;
  offer.querySelector("button").onclick = () =>
    attempt(async () => {
      const card = await batches.create(wanted);
      offer.hidden = true;
      card.focus();
    });
}

function show(job) {
  const isNew = !list.cards.has(job.job_id);
  const card = list.show(job);
  if (isNew) remember();
  if (job.status === "pending" || job.status === "processing") {
    if (!follower.ids.has(job.job_id)) follower.add(job.job_id);
  } else follower.drop(job.job_id);
  return card;
}

function remove(job) {
  follower.drop(job.job_id);
  list.remove(job.job_id);
  remember();
}

// Shows the stored jobs again, and the jobs in the address, which the form without scripts puts there.
async function restore() {
  if (form.hidden) return;
  batches.restore();
  const given = idsIn((new URLSearchParams(location.search).get("jobs") ?? "").split(","));
  if (given.length) history.replaceState(null, "", `${base}/`);
  unread = idsIn([...given, ...stored(KEY)]);
  remember();
  while (unread.length) {
    const ids = unread.slice(0, READ_JOBS);
    try {
      const jobs = await patiently(() => readJobs(ids));
      for (const job of ids.map((id) => jobs.get(id)).filter(Boolean)) {
        list.show(job, { atEnd: true });
        show(job);
      }
      unread.splice(0, ids.length);
      reconnected();
    } catch (refusal) {
      const isTemporary = refusal.status === 0 || refusal.status === 503;
      say(isTemporary ? OFFLINE : refusal.message);
      if (!isTemporary) return;
      await pause(refusal.retryAfterSeconds * 1000);
    }
  }
  remember();
}

function remember() {
  store(KEY, [...list.ids(), ...unread]);
}

// Retries a request while the rate limit applies: fifty links may be more than the burst size.
async function patiently(request) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await request();
    } catch (refusal) {
      if (refusal.code !== "rate_limited" || tries === MAX_TRIES) throw refusal;
      await pause(refusal.retryAfterSeconds * 1000);
    }
  }
}

// Runs the action of a button, and shows the reason if the service refuses it.
async function attempt(act) {
  try {
    await act();
  } catch (refusal) {
    say(refusal.message);
  }
}

function reconnected() {
  if (notice.textContent === OFFLINE) say("");
}

function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

function fitQuality() {
  const isCopied = format.selectedOptions[0].dataset.hasQuality === "false";
  for (const option of loudness.options) option.disabled = "needsQuality" in option.dataset && isCopied;
  if (loudness.selectedOptions[0]?.disabled) loudness.value = "off";
  quality.disabled = start.disabled = end.disabled = split.disabled = isCopied;
}

// Offers the languages of the video in the form, if it is a single one. Where they are not known, a tag can be typed.
async function offerLanguages() {
  const offered = document.getElementById("languages");
  const urls = linksIn(links.value);
  if (urls.length !== 1 || offered.dataset.of === urls[0]) return;
  offered.dataset.of = urls[0];
  offered.replaceChildren();
  const found = await call("POST", "/probe", { url: urls[0] }).catch(() => null);
  if (offered.dataset.of !== urls[0]) return; // another link was entered meanwhile
  if (!found) delete offered.dataset.of;
  const options = (found?.languages ?? []).map((each) => new Option(each.is_original ? "original" : "", each.language));
  offered.replaceChildren(...options);
}

function makeBookmarklet() {
  const link = document.getElementById("bookmarklet");
  const share = JSON.stringify(`${location.origin}${base}/share?url=`);
  link.href = `javascript:location=${share}+encodeURIComponent(location)`;
  link.hidden = false;
  link.addEventListener("click", (event) => {
    event.preventDefault();
    say("Drag this link into the bookmarks bar. On a page of YouTube, it opens that video here.");
  });
}
