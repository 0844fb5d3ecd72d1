// What the page says of the film: over the picture while there is none, and below it.

const LOST = "The connection is lost. Trying again…";
const REASONS = {
  asked: "The session has ended. The take is saved.",
  refused: "The server refused the connection.",
  replaced: "This film goes on in another window.",
  idle: "The session ended because nothing was asked for a while. The take is saved.",
  stalled: "The film could not reach this page fast enough. Trying again…",
  shutdown: "The server has stopped. The take is saved. Trying again…",
  time_up: "Your time is up, and others wait. The take is saved.",
};

/**
 * @param {Session} session
 * @param {object} take as the page knows it.
 * @param {boolean} shows whether a picture of the take is on the screen.
 * @returns {{text: string, action?: string}} the sentence, empty if there is nothing to say, and
 *   what its button says.
 */
export function notice({ phase, reason, position, error }, { failure, paused, told }, shows) {
  const why = error ? `${error.message}. ${error.hint}` : "";
  switch (phase) {
    case "connecting":
      return { text: "Connecting…" };
    case "warming":
      return { text: "Warming up…" };
    case "queued":
      return { text: `Others are filming. Your place in the queue: ${position}` };
    case "lost":
      return { text: why || REASONS[reason] || LOST, action: "Try now" };
    case "ended":
      return {
        text: why || REASONS[reason],
        action: reason === "replaced" ? "Take it back" : "Begin again",
      };
  }
  if (failure) return { text: failure, action: "Begin again" };
  if (paused === "idle") return { text: told, action: "Go on" };
  if (!shows) return { text: paused ? "Paused" : "The first frames are being made…" };
  return { text: "" };
}

/** What an error or a notice says, in one sentence. */
export function sentence({ message, hint }) {
  return hint ? `${message}: ${hint}` : message;
}

/** How the film plays: nothing while all is well but the delay. */
export function numbers(rate, metrics, buffer) {
  const parts = [];
  const speed = metrics?.speed || 1;
  if (speed < 0.98) {
    const made = (speed * rate).toFixed(1);
    parts.push(`slower: ${made} of ${rate} frames a second`);
  }
  if (buffer?.starved) parts.push("waiting for the next frames");
  else if (buffer?.delay != null) parts.push(`delay ${Math.round(1000 * buffer.delay)} ms`);
  return parts.join(" · ");
}
