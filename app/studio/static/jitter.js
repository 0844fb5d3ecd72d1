// Which frame is on the screen, and when: an adaptive jitter buffer. It has no clock of its own.

// Seconds of film that should be left when the next frames arrive: at first, and at most.
const MARGIN = 0.06;
const CEILING = 1;
// Seconds in which what an underrun added has shrunk to a third.
const SHRINK = 60;
// Seconds between two looks at the screen; more is a sleep, in which no time passes for the film.
const LONGEST_LOOK = 0.25;
// Seconds without a frame that are worth a word.
const STARVED = 1;
// The margin is reached by playing a little slower or faster: so much for a second of film too few
// or too many, and at most so much.
const GAIN = 0.3;
const LIMIT = 0.1;

/**
 * Frames come in bursts, a chunk at a time. What matters is how little film is left just before a
 * burst, the trough: a trough of the margin means no frame waits longer than it has to.
 */
export class JitterBuffer {
  /**
   * @param {number} rate frames a second of film.
   * @param {number} chunk frames in a burst.
   */
  constructor(rate, chunk) {
    this.frame = 1 / rate;
    this.window = Math.max(1, (2 * chunk) / rate);
    this.speed = 1;
    this.margin = MARGIN;
    this.underruns = 0;
    this.last = null;
    this.held = false;
    this.waiting = [];
    this.reset(null);
  }

  /** Begin another take: what is left of the one before is dropped. */
  reset(take) {
    for (const frame of this.waiting) frame.close();
    this.waiting = [];
    this.take = take;
    this.newest = -1;
    this.end = 0;
    this.position = null;
    this.emptySince = null;
    this._wait();
  }

  /** Take a frame in; one of another take, or one that was there before, is dropped. */
  push(frame, now) {
    if (frame.take !== this.take || frame.index <= this.newest) {
      frame.close();
      return;
    }
    this.newest = frame.index;
    this.end = frame.time + this.frame;
    this.waiting.push(frame);
    this.position ??= frame.time;
    this.begins ??= now + this.margin;
    this.emptySince = null;
  }

  /** Stop the picture, at once. */
  hold() {
    this.held = true;
  }

  /** Go on after `hold`; that nothing is left is no sign of jitter then. */
  release() {
    if (!this.held) return;
    this.held = false;
    if (this.waiting.length === 0) this._wait();
  }

  /** Seconds of film that are still to be shown. */
  get buffered() {
    return this.position === null ? 0 : Math.max(0, this.end - this.position);
  }

  /** Seconds that the buffer adds to the way of a frame; null as long as that is not known. */
  get delay() {
    return this.trough;
  }

  /** Whether frames were due for longer than anyone overlooks. */
  get starved() {
    return !this.held && this.emptySince !== null && this.last - this.emptySince > STARVED;
  }

  /**
   * The frame to show from now on, or null where the one on the screen stays.
   * @param {number} now seconds, of any clock that only goes forward.
   */
  advance(now) {
    const passed = this.last === null ? 0 : Math.min(LONGEST_LOOK, now - this.last);
    this.last = now;
    this.margin = MARGIN + (this.margin - MARGIN) * Math.exp(-passed / SHRINK);
    if (this.held || this.begins === null || now < this.begins) return null;
    if (this.playing) this.position += passed * this.speed * (1 + this._correction());
    this.playing = true;
    this._measure(now);
    let shown = null;
    while (this.waiting.length > 0 && this.waiting[0].time <= this.position + 1e-6) {
      shown?.close();
      shown = this.waiting.shift();
    }
    if (this.position >= this.end) this._underrun();
    return shown;
  }

  _wait() {
    this.begins = null;
    this.playing = false;
    this.trough = null;
    this.low = Infinity;
    this.measured = null;
  }

  _underrun() {
    this.underruns += 1;
    this.emptySince = this.last;
    this.position = this.end;
    this.margin = Math.min(CEILING, 2 * this.margin);
    this._wait();
  }

  _correction() {
    if (this.trough === null) return 0;
    return Math.max(-LIMIT, Math.min(LIMIT, GAIN * (this.trough - this.margin)));
  }

  _measure(now) {
    this.measured ??= now;
    this.low = Math.min(this.low, this.buffered);
    if (now - this.measured < this.window / this.speed) return;
    this.trough = this.low;
    if (this.trough > CEILING) {
      // Too far behind to catch up: pass over what is oldest.
      this.position += this.trough - this.margin;
      this.trough = this.margin;
    }
    this.low = Infinity;
    this.measured = now;
  }
}
