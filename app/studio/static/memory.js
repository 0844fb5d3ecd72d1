// What outlives a reload of the page: the session and what the page knows of its take.

const SESSION = "longtake-session";
const TAKE = "longtake-take";

/**
 * Of no take yet. `recording` is its name on disk; `start` that of the file that it began with;
 * `paused` is null, `person`, `hidden`, or `idle`
 * where the server paused it and `told` why.
 */
export function noTake() {
  return {
    number: null,
    recording: null,
    seed: null,
    start: null,
    marks: [],
    settings: {},
    paused: null,
    told: null,
    failure: null,
  };
}

/** What an earlier page kept in this tab. */
export function load() {
  return { session: read(SESSION) ?? {}, take: { ...noTake(), ...read(TAKE) } };
}

export function keepSession(session) {
  sessionStorage.setItem(SESSION, JSON.stringify(session));
}

export function keepTake(take) {
  sessionStorage.setItem(TAKE, JSON.stringify(take));
}

/** A seed that nobody chose. */
export function newSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}
