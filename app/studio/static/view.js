// The picture: frames are decoded off the main thread, buffered, and drawn when they are due.

import { JitterBuffer } from "./jitter.js";

// Seconds between two reports of what was shown.
const REPORT_EVERY = 0.5;
// Seconds between two looks at the buffer where nothing is due before: it keeps the time.
const LOOK_EVERY = 0.2;

/** Draws the frames of a take onto a canvas. */
export class View {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} hooks
   * @param {(frame: object) => void} hooks.onShown a frame is on the screen.
   * @param {(frame: object, buffered: number) => void} hooks.onReport time to tell the server;
   *   `buffered` in milliseconds.
   */
  constructor(canvas, { onShown, onReport }) {
    this.resized = new ResizeObserver(() => this._fit());
    this.move(canvas);
    this.onShown = onShown;
    this.onReport = onReport;
    this.buffer = null;
    this.shown = null;
    this.decoded = Promise.resolve();
    this.reported = { at: 0, frame: null };
    this.timer = null;
    this._look();
  }

  /** Films of a rate are expected from now on, a chunk at a time. */
  prepare({ rate, chunk }) {
    if (this.buffer?.frame === 1 / rate) return;
    this.buffer = new JitterBuffer(rate, chunk);
  }

  /** Draw on another canvas from now on. */
  move(canvas) {
    this.resized.disconnect();
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.resized.observe(canvas);
  }

  /** Another take begins; the last picture of the one before stays until there is another. */
  begin(take) {
    this.buffer.reset(take);
  }

  /** A frame has come. They are decoded one after another, which keeps their order. */
  take(frame) {
    this.decoded = this.decoded.then(() => this._decode(frame)).catch((error) => {
      console.warn(`frame ${frame.index} cannot be decoded: ${error.message}`);
    });
  }

  async _decode({ picture, ...frame }) {
    const bitmap = await createImageBitmap(picture);
    const close = () => bitmap.close();
    this.buffer.push({ ...frame, bitmap, close }, performance.now() / 1000);
    this._look();
  }

  /** Draw what is due, and look again when there is more: a screen's every refresh is too often. */
  _look() {
    clearTimeout(this.timer);
    const now = performance.now() / 1000;
    const frame = this.buffer?.advance(now);
    if (frame) {
      this.shown?.close();
      this.shown = frame;
      this._paint();
      this.onShown(frame);
    }
    if (this.shown && this.shown !== this.reported.frame && now - this.reported.at > REPORT_EVERY) {
      this.reported = { at: now, frame: this.shown };
      this.onReport(this.shown, Math.round(1000 * this.buffer.buffered));
    }
    const wait = Math.min(LOOK_EVERY, this.buffer?.due ?? LOOK_EVERY);
    this.timer = setTimeout(() => this._look(), Math.max(0, 1000 * wait));
  }

  /** As many pixels as the screen has there. */
  _fit() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    this._paint();
  }

  _paint() {
    if (!this.shown) return;
    const { width, height } = this.canvas;
    this.context.imageSmoothingEnabled = true;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(this.shown.bitmap, 0, 0, width, height);
  }
}
