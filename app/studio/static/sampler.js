// Frames of a video element, so many a second of real media time, as JPEGs; a camera's and a
// file's alike.

// As app/wire.py's MAX_SHOWN.
const MOST_BYTES = 262_144;
const QUALITIES = [0.85, 0.6, 0.3];
// Twice the captioner's width and height, from which it makes its own: it resizes better.
const FINER = 4;
// Frames that may be coded at a time; while the machine is busy, others are left out.
const MOST_CODING = 2;

export class Sampler {
  /**
   * @param {HTMLVideoElement} video
   * @param {object} hooks
   * @param {(now: number, mediaTime: number) => number} hooks.timeOf presentation time in seconds
   *   of a frame, from the page's clock (ms) and the video's (s).
   * @param {(time: number, jpeg: ArrayBuffer) => void} hooks.onFrame
   */
  constructor(video, { timeOf, onFrame }) {
    Object.assign(this, { video, timeOf, onFrame });
    this.slot = -1;
    this.coding = 0;
    // Settled when all frames so far are handed on.
    this.order = Promise.resolve();
    this.handle = null;
  }

  /** Begin: `fps` frames a second of at most so many `pixels` are wanted. */
  start({ fps, pixels }) {
    Object.assign(this, { fps, pixels });
    this._wait();
  }

  stop() {
    if (this.handle !== null) this.video.cancelVideoFrameCallback(this.handle);
    this.handle = this.fps = null;
  }

  _wait() {
    this.handle = this.video.requestVideoFrameCallback((now, { mediaTime }) => {
      this._look(this.timeOf(now, mediaTime));
      this._wait();
    });
  }

  /** The first frame of a slot is wanted; one of a time that was seen already is not. */
  _look(time) {
    const slot = Math.floor(time * this.fps + 1e-6);
    if (slot <= this.slot || this.coding >= MOST_CODING) return;
    this.slot = slot;
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, Math.sqrt((FINER * this.pixels) / (videoWidth * videoHeight)));
    const width = Math.max(1, Math.round(scale * videoWidth));
    const height = Math.max(1, Math.round(scale * videoHeight));
    const picture = new OffscreenCanvas(width, height);
    const context = picture.getContext("2d", { alpha: false });
    context.imageSmoothingQuality = "high";
    context.drawImage(this.video, 0, 0, width, height);
    this.coding += 1;
    const coded = code(picture).finally(() => (this.coding -= 1));
    this.order = this.order.then(async () => {
      const jpeg = await coded.catch(() => null);
      if (jpeg && this.fps) this.onFrame(time, jpeg);
    });
  }
}

/** As a JPEG that is small enough; null where none is. */
async function code(picture) {
  for (const quality of QUALITIES) {
    const blob = await picture.convertToBlob({ type: "image/jpeg", quality });
    if (blob.size <= MOST_BYTES) return blob.arrayBuffer();
  }
  return null;
}
