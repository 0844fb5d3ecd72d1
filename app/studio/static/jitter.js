// Which frame is on the screen, and when: an adaptive jitter buffer. It has no clock of its own.

// Seconds by which the next frames should be early: at first, and at most. Of a film that plays at
// half speed they are half as many seconds of film.
const MARGIN = 0.06;
const CEILING = 1;
// Seconds in which what an underrun added has shrunk to a third.
const SHRINK = 60;
// Seconds between two looks at the screen; more is a sleep, in which no time passes for the film.
const LONGEST_LOOK = 0.25;
// Seconds of wall time in which too few frames are no sign of jitter: how fast the machine is is
// told a while after a take begins.
const STARTING = 5;
// Seconds without a frame that are worth a word.
const STARVED = 1;
// The margin is reached by playing a little slower or faster: so much for a second of film too few
// or too many, and at most so much.
const GAIN = 0.3;
const LIMIT = 0.1;
// Seconds of film that may be passed over for what somebody waits for. The picture is so much
// closer to the newest frame then, and plays so much slower until that is made up for.
const HURRY = 0.5;
const SLOWER = 0.25;

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
    this.awaited = null;
    this.debt = 0;
    this.settled = null;
    this._wait();
  }

  /** Somebody waits for the first frame of a chunk, or of a later one: it is shown at once. */
  hurry(chunk) {
    this.awaited = chunk;
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
    this.settled ??= now + STARTING;
    this.emptySince = null;
    if (this.awaited !== null && frame.chunk >= this.awaited) this._passTo(frame, now);
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
    return this.trough === null ? null : this.trough / this.speed;
  }

  /** Seconds from the last look until there is another frame to show, or too few are left. */
  get due() {
    if (this.held || this.begins === null) return Infinity;
    if (!this.playing) return this.begins - this.last;
    const next = this.waiting[0]?.time ?? this.end;
    return (next - this.position) / (this.speed * (1 + this._correction()));
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
    if (this.playing) this._move(passed * this.speed);
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

  _move(film) {
    this.position += film * (1 + this._correction());
    this.debt = Math.max(0, this.debt - film * SLOWER);
  }

  /** Show a frame next, however much film is left before it. */
  _passTo(frame, now) {
    const passed = Math.min(HURRY, Math.max(0, frame.time - this.position));
    this.debt += passed + (this.playing ? 0 : this._target);
    this.awaited = null;
    // What passed since the last look is in the jump.
    this.begins = this.last = now;
    this.position += passed;
    this._measureAnew(now);
  }

  _wait() {
    this.begins = null;
    this.playing = false;
    this.trough = null;
    this._measureAnew(null);
  }

  _measureAnew(now) {
    this.low = Infinity;
    this.measured = now;
  }

  _underrun() {
    this.underruns += 1;
    this.emptySince = this.last;
    this.position = this.end;
    this.debt = 0;
    if (this.last > this.settled) this.margin = Math.min(CEILING, 2 * this.margin);
    this._wait();
  }

  _correction() {
    if (this.debt > 0) return -SLOWER;
    if (this.trough === null) return 0;
    return Math.max(-LIMIT, Math.min(LIMIT, GAIN * (this.trough - this._target)));
  }

  /** Seconds of film that should be left when the next frames arrive. */
  get _target() {
    return this.margin * this.speed;
  }

  _measure(now) {
    this.measured ??= now;
    this.low = Math.min(this.low, this.buffered);
    if (now - this.measured < this.window / this.speed) return;
    this.trough = this.low;
    if (this.delay > CEILING) {
      // Too far behind to catch up: pass over what is oldest.
      this.position += this.trough - this._target;
      this.trough = this._target;
    }
    this._measureAnew(now);
  }
}
