// Prompt scripts, as `generate --script` reads them: {"at": seconds, "prompt": "..."} on every
// line, perhaps with the chunks of a "transition", or {"prompts": ["...", ...]} on a single one.

const EVERY = 10;
const FORM = 'write {"at": seconds, "prompt": "..."} on every line';

/**
 * The prompts of a script, in the order of their times; the first is at 0.
 * @param {string} text
 * @returns {{at: number, text: string, transition: number}[]}
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
  const { at, prompt, prompts, transition = 0 } = data ?? {};
  const isText = (value) => typeof value === "string" && value.trim() !== "";
  if (Array.isArray(prompts) && prompts.every(isText)) {
    return prompts.map((each, index) => ({ at: EVERY * index, text: each, transition: 0 }));
  }
  const fits = typeof at === "number" && at >= 0 && Number.isInteger(transition);
  if (!isText(prompt) || !fits) {
    throw new Error(`Line ${number} does not fit: ${FORM}`);
  }
  return [{ at, text: prompt, transition }];
}

/** A script with the prompts of a take. */
export function formatScript(marks) {
  const lines = marks.map(({ time, text, transition }) => {
    return JSON.stringify({ at: time, prompt: text, ...(transition && { transition }) });
  });
  return lines.map((line) => `${line}\n`).join("");
}
