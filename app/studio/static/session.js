// The client's side of the protocol: requests and their answers, phases, resuming.

import { PROTOCOL } from "./wire.js";

/** What the server answered a request with instead of an ack. */
export class Refusal extends Error {
  constructor({ code, message, hint = "", retryable = false }) {
    super(message);
    Object.assign(this, { code, hint, retryable });
  }
}

const LOST = { code: "no_session", message: "the session has ended" };
// Reasons to close after which connecting again goes on with the session, or is worth a try.
const PASSING = ["stalled", "shutdown"];
// Requests whose answers hold something: where one was lost, they are made again.
const HOLDING = ["open", "restart", "save", "still", "watch"];

/**
 * Phases: `connecting`, `warming` (greeted, no place yet), `queued`, `ready`, `lost` (to be
 * connected again), `ended` (for good, for `reason`).
 */
export class Session {
  /**
   * @param {object} hooks
   * @param {{session?: string, resume_token?: string}} hooks.stored what an earlier page kept.
   * @param {(kind: string, message: object) => void} hooks.on told of `ready` (with `resumed`),
   *   `applied`, `metrics`, `words`, `watching`, `notice`, `failed` and `phase`.
   */
  constructor({ stored = {}, on }) {
    this.stored = stored;
    this.on = on;
    this.phase = "connecting";
    this.reason = null;
    this.position = null;
    this.ready = null;
    // The first frame that did not come; null where an earlier page may have got some.
    this.next = null;
    this._id = 0;
    this._send = null;
    this._pending = new Map();
    this._unsent = [];
  }

  /** A connection stands; `send` takes a message's text. */
  connected(send) {
    this._send = send;
    const hello = { type: "hello", id: ++this._id, version: PROTOCOL };
    if (this.stored.session) {
      const { session, resume_token } = this.stored;
      hello.resume = { session, resume_token };
      if (this.next) hello.resume.next = this.next;
    }
    this._hello = hello.id;
    this._refused = null;
    this.reason = null;
    send(JSON.stringify(hello));
  }

  /** The connection is gone. */
  disconnected() {
    this._send = null;
    if (this.phase !== "ended") this._become("lost");
  }

  /**
   * Ask the server; the promise has its ack, or null where a lost connection swallowed one that
   * would have said little.
   * `numbered` is told the request's id, again if it had to be sent anew.
   */
  request(type, fields = {}, numbered = () => {}) {
    return new Promise((resolve, reject) => {
      const request = { type, fields, numbered, resolve, reject };
      if (this.phase === "ready") this._transmit(request);
      else if (this.phase === "ended") reject(new Refusal(LOST));
      else this._unsent.push(request);
    });
  }

  /** Whether a report may be sent: they are not worth keeping for later. */
  get open() {
    return this.phase === "ready";
  }

  /** A frame has come. */
  received({ take, index }) {
    this.next = { take, index: index + 1 };
  }

  /** A text message has come. */
  receive(text) {
    const message = JSON.parse(text);
    switch (message.type) {
      case "ack":
      case "error":
        return this._answered(message);
      case "queued":
        this.position = message.position;
        return this._become("queued");
      case "ready":
        return this._begin(message);
      case "bye":
        return this._bye(message.reason);
      default:
        return this.on(message.type, message);
    }
  }

  _answered(message) {
    if (message.id === this._hello) {
      if (message.type === "ack") this._become("warming");
      else this._refused = message;
      return;
    }
    const request = this._pending.get(message.id);
    this._pending.delete(message.id);
    if (message.take !== undefined) this.next = { take: message.take, index: 0 };
    if (message.type === "ack") request?.resolve(message);
    else if (request) request.reject(new Refusal(message));
    else this.on("failed", message);
  }

  _begin(message) {
    const resumed = message.session === this.stored.session;
    this.ready = message;
    this.stored = { session: message.session, resume_token: message.resume_token };
    if (!resumed) this.next = { take: 1, index: 0 };
    const sent = [...this._pending];
    this._pending.clear();
    const lost = [];
    for (const [id, request] of sent) {
      if (!resumed) request.reject(new Refusal(LOST));
      else if (HOLDING.includes(request.type)) lost.push(request);
      else if (id <= message.received) request.resolve(null);
      else if (request.type !== "playback") lost.push(request);
    }
    this._id = Math.max(this._id, message.received);
    this.position = null;
    this._become("ready");
    const waiting = [...lost, ...this._unsent];
    this._unsent = [];
    for (const request of waiting) this._transmit(request);
    this.on("ready", { ...message, resumed });
  }

  _bye(reason) {
    if (reason === "refused" && this._refused) return this._helloRefused(this._refused);
    if (PASSING.includes(reason)) {
      this.reason = reason;
      return this._become("lost");
    }
    this._end(reason);
  }

  _helloRefused(error) {
    if (error.code === "no_session") {
      // What was to be resumed is gone; the next connection begins anew.
      this.forget();
      this._become("lost");
    } else if (error.retryable) {
      this._become("lost", error);
    } else {
      this._end("refused", error);
    }
  }

  /** Give the session up, so that the next connection begins another one. */
  forget() {
    this.stored = {};
    this.next = null;
    const requests = [...this._pending.values(), ...this._unsent];
    this._pending.clear();
    this._unsent = [];
    for (const request of requests) request.reject(new Refusal(LOST));
  }

  _end(reason, error = null) {
    this.reason = reason;
    if (reason !== "replaced") this.forget();
    this._become("ended", error);
  }

  _become(phase, error = null) {
    this.phase = phase;
    this.error = error;
    this.on("phase", { phase, error });
  }

  _transmit(request) {
    const id = ++this._id;
    this._pending.set(id, request);
    request.numbered(id);
    this._send(JSON.stringify({ type: request.type, id, ...request.fields }));
  }
}
