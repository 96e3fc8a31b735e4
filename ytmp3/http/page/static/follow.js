// Keeps jobs up to date: with one event stream for all of them, or by polling if streams do not work.

import { base, call, pause } from "./api.js";

const STREAM_JOBS = 100; // most jobs of one stream; the service has the same limit
const REOPEN_MS = 150; // several new jobs within this time cause one new stream
const POLL_MS = 1000; // shortest pause between two rounds of polling
const POLL_JOB_MS = 250; // per job: at most four requests a second, well below any limit
const STREAM_RETRY_MS = 30_000; // polling is a fallback, so the stream is tried again after this time

export class Follower {
  // `show(job)` is called for each new state; `lose(id)` for a job that the service no longer has;
  // `connected(isConnected)` when the connection is lost or restored.
  constructor({ show, lose, connected }) {
    Object.assign(this, { show, lose, connected });
    this.ids = new Set();
    this.source = null;
    this.timer = 0;
    this.round = 0;
  }

  add(id) {
    this.ids.add(id);
    this.#later(REOPEN_MS);
  }

  drop(id) {
    // The stream stays open: it sends nothing more about a job that has ended.
    if (this.ids.delete(id) && !this.ids.size) this.#stop();
  }

  #later(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#open(), milliseconds);
  }

  #stop() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.round += 1;
  }

  #open() {
    this.#stop();
    if (!this.ids.size) return;
    if (this.ids.size > STREAM_JOBS) return void this.#poll(this.round);
    const source = new EventSource(`${base}/events?jobs=${[...this.ids].join(",")}`);
    this.source = source;
    let failures = 0; // since the stream was open
    source.onopen = () => {
      failures = 0;
      this.connected(true);
    };
    source.addEventListener("job", (event) => {
      this.connected(true);
      this.#receive(JSON.parse(event.data));
    });
    source.addEventListener("unknown", (event) => this.#lose(JSON.parse(event.data).job_id));
    source.addEventListener("end", () => source.close());
    source.onerror = () => {
      // The browser reconnects automatically after a lost connection: a service that restarts is back a second later,
      // so only a second failure is reported. A stream that was refused is closed.
      failures += 1;
      if (failures > 1) this.connected(false);
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        this.source = null;
        this.#poll(this.round);
        this.#later(STREAM_RETRY_MS);
      }
    };
  }

  async #poll(round) {
    while (this.round === round && this.ids.size) {
      for (const id of [...this.ids]) {
        if (this.round !== round) return;
        try {
          const job = await call("GET", `/status/${id}`);
          this.connected(true);
          if (this.ids.has(id)) this.#receive(job);
          await pause(POLL_JOB_MS);
        } catch (refusal) {
          if (refusal.status === 404) this.#lose(id);
          else {
            this.connected(refusal.status !== 0);
            await pause(refusal.retryAfterSeconds * 1000);
          }
        }
      }
      await pause(POLL_MS);
    }
  }

  #lose(id) {
    this.drop(id);
    this.lose(id);
  }

  #receive(job) {
    if (job.status !== "pending" && job.status !== "processing") this.drop(job.job_id);
    this.show(job);
  }
}
