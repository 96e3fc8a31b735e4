// Batches: many links, a playlist or the chapters of a video as one card, with the archive of all tracks at the end.

import { call, pause, stored, store } from "./api.js";
import { detailOf, recipeOf, remaining, stateOf, titleOf } from "./words.js";

const KEY = "ytmp3.batches";
const POLL_MS = 2000;

export class Batches {
  // `say(text)` shows an error message.
  constructor(say) {
    this.say = say;
    this.element = document.getElementById("batches");
    this.template = document.getElementById("batch");
    this.cards = new Map();
    this.unread = stored(KEY); // ids of stored batches that the page has not requested yet
  }

  async restore() {
    while (this.unread.length) {
      try {
        this.show(await call("GET", `/batches/${this.unread[0]}`), { atEnd: true });
      } catch (refusal) {
        if (refusal.status !== 404) return void this.say(refusal.message);
      }
      this.unread.shift();
    }
    this.#remember();
  }

  // Creates a batch: of `urls`, or of a `playlist`. Returns its card.
  async create(wanted) {
    return this.show(await call("POST", "/batches", wanted));
  }

  show(batch, { atEnd = false } = {}) {
    let card = this.cards.get(batch.batch_id);
    if (!card) {
      card = this.#card(batch);
      this.cards.set(batch.batch_id, card);
      if (atEnd) this.element.append(card.element);
      else this.element.prepend(card.element);
      this.#remember();
      this.#follow(batch.batch_id);
    }
    card.batch = batch;
    this.#fill(card);
    return card.element;
  }

  async #follow(id) {
    while (isOpen(this.cards.get(id)?.batch)) {
      await pause(POLL_MS);
      if (!this.cards.has(id)) return;
      try {
        this.show(await call("GET", `/batches/${id}`));
        await this.#fillItems(this.cards.get(id));
      } catch (refusal) {
        if (refusal.status === 404) return this.#remove(id);
        await pause(refusal.retryAfterSeconds * 1000);
      }
    }
  }

  #card(batch) {
    const element = this.template.content.firstElementChild.cloneNode(true);
    const find = (name) => element.querySelector(`.${name}`);
    const card = { element, batch, find };
    find("cancel").addEventListener("click", () => this.#attempt(async () => {
      this.show(await call("DELETE", `/batches/${batch.batch_id}`));
    }));
    find("remove").addEventListener("click", () => this.#remove(batch.batch_id));
    find("tracks").addEventListener("toggle", () => this.#attempt(() => this.#fillItems(card)));
    element.id = `batch-${batch.batch_id}`;
    return card;
  }

  #fill({ element, batch, find }) {
    const { counts } = batch;
    const ready = counts.completed + counts.duplicate;
    const lost = counts.failed + counts.refused + counts.cancelled;
    const list = batch.playlist ?? batch.chapters;
    const entries = batch.chapters ? "chapters" : "videos";
    find("title").textContent = list ? list.title || list.url : `${counts.total} links`;
    const part = list?.is_truncated ? `the first ${counts.total} ${entries}` : list && counts.total && `${counts.total} ${entries}`;
    find("detail").textContent = [part, recipeOf(batch)].filter(Boolean).join(" · ");
    const bar = element.querySelector("progress");
    bar.hidden = batch.status !== "running";
    bar.max = Math.max(1, counts.total);
    bar.value = ready + lost;
    bar.setAttribute("aria-label", `Progress of ${find("title").textContent}`);
    const parts = [`${ready} of ${counts.total} ready`];
    if (lost) parts.push(`${lost} without a track`);
    const progress = parts.join(", ") + (isOpen(batch) ? remaining(batch.eta_seconds) : "");
    const states = { listing: `Reading the ${batch.chapters ? "chapters" : "list"}`, failed: batch.error?.message ?? "The list cannot be read." };
    find("state").textContent = states[batch.status] ?? progress;
    element.classList.toggle("failed", batch.status === "failed");
    const download = find("download");
    download.hidden = !batch.archive_url;
    if (batch.archive_url) download.href = batch.archive_url;
    find("tracks").hidden = !counts.total;
    find("cancel").hidden = !isOpen(batch);
    find("remove").hidden = isOpen(batch);
  }

  // Shows the items, if the visitor has opened their list.
  async #fillItems({ batch, find }) {
    if (!find("tracks").open) return;
    const lines = [];
    for (let path = batch.items_url.slice(batch.items_url.indexOf("/batches/")); path; ) {
      const page = await call("GET", path);
      lines.push(...page.items.map(line));
      path = page.next_url && page.next_url.slice(page.next_url.indexOf("/batches/"));
    }
    find("items").replaceChildren(...lines);
  }

  #remove(id) {
    this.cards.get(id)?.element.remove();
    this.cards.delete(id);
    this.#remember();
    document.getElementById("links").focus();
  }

  #remember() {
    store(KEY, [...new Set([...this.cards.keys(), ...this.unread])]);
  }

  async #attempt(act) {
    try {
      await act();
    } catch (refusal) {
      this.say(refusal.message);
    }
  }
}

function isOpen(batch) {
  return batch?.status === "listing" || batch?.status === "running";
}

function line(item) {
  const element = document.createElement("li");
  const { job } = item;
  if (!job) element.append(`Link ${item.index + 1}: ${item.error?.message ?? "Waiting"}`);
  else if (item.duplicate_of != null) element.append(`${titleOf(job)}: the same video as link ${item.duplicate_of + 1}`);
  else element.append(`${titleOf(job)}: ${job.file ? detailOf(job) : stateOf(job)}`);
  if (job?.download_url) {
    const link = document.createElement("a");
    link.href = job.download_url;
    link.textContent = "Download";
    link.setAttribute("aria-label", `Download: ${titleOf(job)}`);
    element.append(" ", link);
  }
  return element;
}
