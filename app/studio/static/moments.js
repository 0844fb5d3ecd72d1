// Small pictures of what was watched, one a round, for a look back; in this page's memory only.

import { clock } from "./timeline.js";

const WIDTH = 320;
const QUALITY = 0.7;
// About 40 MB; beyond them the oldest goes.
const MOST_KEPT = 5000;

export class Moments {
  /** @param {HTMLElement} place a button with a picture and its time, hidden while there is none. */
  constructor(place) {
    this.place = place;
    this.picture = place.querySelector("img");
    this.kept = new Map();
    // Seconds, as the captioner says.
    this.round = 1;
    place.addEventListener("click", () => this.hide());
  }

  /** Moments of something else. */
  reset() {
    this.kept.clear();
    this.hide();
  }

  /** Keep a picture of a time in seconds, the first one of its round. */
  async keep(time, picture, width, height) {
    const key = this._round(time);
    if (this.kept.has(key)) return;
    this.kept.set(key, null);
    if (this.kept.size > MOST_KEPT) this.kept.delete(this.kept.keys().next().value);
    const small = new OffscreenCanvas(WIDTH, Math.max(1, Math.round((WIDTH * height) / width)));
    small.getContext("2d").drawImage(picture, 0, 0, small.width, small.height);
    const blob = await small.convertToBlob({ type: "image/jpeg", quality: QUALITY });
    if (this.kept.has(key)) this.kept.set(key, blob);
  }

  /** Show the moment of a line; whether it is kept. */
  show({ start }) {
    const blob = this.kept.get(this._round(start));
    this.hide();
    if (!blob) return false;
    this.picture.src = URL.createObjectURL(blob);
    this.place.querySelector("span").textContent = clock(start);
    this.place.setAttribute("aria-label", `The moment at ${clock(start)}: close it`);
    this.place.hidden = false;
    return true;
  }

  hide() {
    this.place.hidden = true;
    if (this.picture.src) URL.revokeObjectURL(this.picture.src);
    this.picture.removeAttribute("src");
  }

  _round(time) {
    return Math.floor(time / this.round + 1e-6);
  }
}
