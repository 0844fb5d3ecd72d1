// Prompt scripts, as `generate --script` reads them: {"at": seconds, "prompt": "..."} on every
// line, or {"prompts": ["...", ...]} on a single one.

const EVERY = 10;
const FORM = 'write {"at": seconds, "prompt": "..."} on every line';

/**
 * The prompts of a script, in the order of their times; the first is at 0.
 * @param {string} text
 * @returns {{at: number, text: string}[]}
 * @throws {Error} a line does not fit; it is named.
 */
export function parseScript(text) {
  const lines = text.split(/\r?\n/);
  const cues = lines.flatMap((line, index) => (line.trim() ? parseLine(line, index + 1) : []));
  if (cues.length === 0) throw new Error(`The script holds no prompt: ${FORM}`);
  cues.sort((one, other) => one.at - other.at);
  if (cues[0].at > 0) throw new Error("The first prompt has to be at 0 s");
  return cues;
}

function parseLine(line, number) {
  let data = null;
  try {
    data = JSON.parse(line);
  } catch {
    throw new Error(`Line ${number} is not JSON: ${FORM}`);
  }
  const { at, prompt, prompts } = data ?? {};
  const isText = (value) => typeof value === "string" && value.trim() !== "";
  if (Array.isArray(prompts) && prompts.every(isText)) {
    return prompts.map((each, index) => ({ at: EVERY * index, text: each }));
  }
  if (!isText(prompt) || typeof at !== "number" || at < 0) {
    throw new Error(`Line ${number} does not fit: ${FORM}`);
  }
  return [{ at, text: prompt }];
}

/** A script with the prompts of a take. */
export function formatScript(marks) {
  return marks.map(({ time, text }) => `${JSON.stringify({ at: time, prompt: text })}\n`).join("");
}
