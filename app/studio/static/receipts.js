// What became of every prompt: sent, accepted for a chunk, in force, on the screen.

import { sentence } from "./notices.js";

const KEPT = 100;

/**
 * A receipt: {id, text, at, transition, sent, state, accepted, chunk, time, seen, note}. `sent` is a time;
 * `accepted` and `seen` are milliseconds after it; `state` is sent, accepted, applied, seen,
 * passed (later ones came into force in its place) or refused.
 */
export class Receipts {
  constructor() {
    this.all = [];
  }

  /** A prompt was sent. `now` in milliseconds. */
  sent(prompt, now) {
    const receipt = { id: null, ...prompt, sent: now, state: "sent" };
    this.all.push(receipt);
    if (this.all.length > KEPT) this.all.shift();
    return receipt;
  }

  /** It was answered. */
  accepted(receipt, ack, now) {
    receipt.accepted = now - receipt.sent;
    receipt.chunk ??= ack.chunk;
    receipt.time ??= ack.time;
    receipt.note = ack.note;
    if (receipt.state === "sent") receipt.state = "accepted";
  }

  /** It was refused, or lost with its session. */
  refused(receipt, error) {
    receipt.state = "refused";
    receipt.note = sentence(error);
  }

  /** A prompt came into force; those due before it that did not are over. */
  applied(message) {
    for (const receipt of this.all) {
      if (receipt.id === message.id) {
        Object.assign(receipt, { state: "applied", take: message.take });
        Object.assign(receipt, { chunk: message.chunk, time: message.time });
      } else if (receipt.state === "accepted" && receipt.chunk < message.chunk) {
        receipt.state = "passed";
      }
    }
  }

  /** A frame is on the screen. Returns the receipts that this completes. */
  shown(frame, now) {
    const due = ({ state, take, chunk }) =>
      state === "applied" && take === frame.take && chunk <= frame.chunk;
    const completed = this.all.filter(due);
    for (const receipt of completed) {
      Object.assign(receipt, { state: "seen", seen: now - receipt.sent });
    }
    // All that came into force with its chunk was told ahead of the frame.
    const last = Math.max(...completed.map(({ chunk }) => chunk));
    for (const receipt of this.all) {
      if (receipt.state === "accepted" && receipt.chunk <= last) receipt.state = "passed";
    }
    return completed;
  }

  /** Those that wait for their time, the next one first. */
  get waiting() {
    const waiting = this.all.filter(({ state }) => state === "sent" || state === "accepted");
    return waiting.sort((one, other) => (one.time ?? 0) - (other.time ?? 0));
  }

  /** Another take began: what was on its way in the old one is over. */
  reset() {
    for (const receipt of this.all) {
      if (["accepted", "applied"].includes(receipt.state)) receipt.state = "passed";
    }
  }
}

/** One sentence for the person, read aloud as it changes. */
export function describe(receipt) {
  const text = stateOf(receipt);
  return receipt.note ? `${text}; ${receipt.note}` : text;
}

function stateOf({ state, chunk, time, accepted, seen, at }) {
  const answered = `accepted in ${Math.round(accepted)} ms for chunk ${chunk}`;
  switch (state) {
    case "sent":
      return "on its way";
    case "accepted":
      return at ? `${answered}, at ${time.toFixed(1)} s` : answered;
    case "applied":
      return `${answered}, in force; its first frame is on its way`;
    case "seen":
      return at ? `${answered}, on screen` : `${answered}, on screen after ${Math.round(seen)} ms`;
    case "passed":
      return "a later prompt took its place";
    default:
      return "refused";
  }
}
