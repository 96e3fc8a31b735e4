// Loads the covers of the cards on the screen, and of no others: a list may have a thousand.

import { base } from "./api.js";

const AT_ONCE = 2; // the service's rate limit counts covers like other requests
const REST_MS = 150; // while the list scrolls faster than this, nothing is loaded

export class Covers {
  constructor() {
    this.visible = new Set();
    this.loading = 0;
    this.timer = 0;
    this.observer = new IntersectionObserver((entries) => this.#see(entries), { rootMargin: "50% 0%" });
  }

  // Shows the cover of a job in its place on the card, as soon as that is visible.
  add(place, job) {
    if (place.dataset.job) return;
    place.dataset.job = job.job_id;
    this.observer.observe(place);
  }

  #see(entries) {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) this.visible.add(target);
      else this.visible.delete(target);
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#next(), REST_MS);
  }

  #next() {
    for (const place of this.visible) {
      if (this.loading >= AT_ONCE) return;
      this.visible.delete(place);
      this.observer.unobserve(place);
      this.#load(place);
    }
  }

  // A track without a picture has an empty response, which is an error for the image: the card then keeps its symbol.
  #load(place) {
    const image = new Image();
    image.alt = ""; // the title is next to it
    const end = () => {
      this.loading -= 1;
      this.#next();
    };
    image.addEventListener("load", () => {
      place.replaceChildren(image);
      end();
    });
    image.addEventListener("error", end);
    this.loading += 1;
    image.src = `${base}/cover/${place.dataset.job}.jpg`;
  }
}
