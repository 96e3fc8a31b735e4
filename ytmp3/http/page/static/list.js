// The list of jobs: one card for each, changed in place.

import { Covers } from "./covers.js";
import { detailOf, spokenOf, stateOf, titleOf } from "./words.js";

const LISTEN_RETRY_MILLISECONDS = 2000;
const ENDED = new Set(["completed", "failed", "cancelled"]);

export class List {
  // `actions` has `cancel(job)`, `again(job)` and `remove(job)`.
  constructor(actions) {
    this.actions = actions;
    this.element = document.getElementById("jobs");
    this.section = document.getElementById("jobs-section");
    this.clear = document.getElementById("clear");
    this.spoken = document.getElementById("spoken");
    this.template = document.getElementById("job");
    this.cards = new Map();
    this.covers = new Covers();
    this.element.replaceChildren();
    this.clear.addEventListener("click", () => {
      for (const { job } of [...this.cards.values()]) if (ENDED.has(job.status)) this.actions.remove(job);
    });
    this.#count();
  }

  // Returns the ids in the order of the list.
  ids() {
    return Array.from(this.element.children, (element) => element.dataset.id);
  }

  // Shows a job. A new one becomes the first of the list, or the last if `atEnd`.
  show(job, { atEnd = false } = {}) {
    let card = this.cards.get(job.job_id);
    if (!card) {
      card = this.#card(job.job_id);
      if (atEnd) this.element.append(card.element);
      else this.element.prepend(card.element);
      this.cards.set(job.job_id, card);
    }
    const before = card.job;
    card.job = job;
    this.#fill(card);
    if (before && before.stage + before.status !== job.stage + job.status) this.spoken.textContent = spokenOf(job);
    this.#count();
    return card.element;
  }

  remove(id) {
    const card = this.cards.get(id);
    if (!card) return;
    const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
    const hadFocus = card.element.contains(document.activeElement);
    card.element.remove();
    this.cards.delete(id);
    if (hadFocus) (next ?? document.getElementById("links")).focus();
    this.#count();
  }

  #card(id) {
    const element = this.template.content.firstElementChild.cloneNode(true);
    const find = (name) => element.querySelector(`.${name}`);
    const card = { element, job: null, find };
    const on = (name, act) => find(name).addEventListener("click", () => act(card.job, find(name)));
    on("cancel", this.actions.cancel);
    on("again", this.actions.again);
    on("remove", this.actions.remove);
    on("play", () => this.#play(card));
    on("copy", (job, button) => this.#copy(job, button));
    element.id = `job-${id}`;
    element.dataset.id = id;
    return card;
  }

  #fill({ element, job, find }) {
    const isEnded = ENDED.has(job.status);
    element.className = `job ${job.status}`;
    write(find("title"), titleOf(job));
    write(find("detail"), detailOf(job));
    write(find("state"), stateOf(job));
    const bar = element.querySelector("progress");
    bar.hidden = job.status !== "processing";
    bar.value = job.progress;
    bar.setAttribute("aria-label", `Progress of ${titleOf(job)}`);
    const download = find("download");
    download.hidden = !job.download_url;
    if (job.download_url) {
      download.href = job.download_url;
      this.covers.add(find("cover"), job);
    }
    find("copy").hidden = !job.download_url;
    const play = find("play"); // gone once it was pressed
    if (play) {
      play.hidden = !(job.download_url ?? job.listen_url);
      write(play, job.download_url ? "Play" : "Listen");
    }
    find("cancel").hidden = isEnded;
    find("again").hidden = job.status !== "cancelled" && !(job.status === "failed" && job.error?.retryable);
    find("remove").hidden = !isEnded;
    for (const control of element.querySelectorAll("button, .download")) {
      control.setAttribute("aria-label", `${control.textContent}: ${titleOf(job)}`);
    }
  }

  #play(card) {
    const { element, job, find } = card;
    const player = document.createElement("audio");
    player.controls = true;
    player.src = job.download_url ?? job.listen_url;
    // Live sound ends early if the conversion fails, and is not available at another instance. Then the player tries again,
    // and plays the finished track as soon as there is one.
    player.addEventListener("error", () => setTimeout(() => this.#playAgain(card, player), LISTEN_RETRY_MILLISECONDS));
    player.setAttribute("aria-label", titleOf(job));
    // One track at a time.
    player.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== player) other.pause();
    });
    element.append(player);
    find("play").remove();
    player.play().catch(() => {}); // if the browser blocks autoplay, the player's own button remains
    player.focus();
  }

  #playAgain({ job }, player) {
    const source = job?.download_url ?? job?.listen_url;
    if (!source || !player.isConnected || player.src === new URL(job.download_url ?? "", location.href).href) return;
    player.src = source;
    player.play().catch(() => {});
  }

  async #copy(job, button) {
    const link = new URL(job.download_url, location.href).href;
    try {
      await navigator.clipboard.writeText(link);
      this.spoken.textContent = "The link is copied.";
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy link"), 2000);
    } catch {
      prompt("The link to the file:", link); // the clipboard needs HTTPS or localhost
    }
  }

  #count() {
    this.section.hidden = !this.cards.size;
    this.clear.hidden = ![...this.cards.values()].some(({ job }) => job && ENDED.has(job.status));
  }
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
