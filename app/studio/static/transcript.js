// What was said of a video: lines from words, and to files; the same text as app/transcript.py's.

// What Python's str.split() takes for space, and characters that command a terminal or end a line.
const SPACE = /[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;
const COMMANDS = /[\p{Cc}\p{Zl}\p{Zp}]/gu;

/** Puts lines {start, end, text, kind, question} together from words. */
export class LineBuilder {
  constructor() {
    this.pieces = [];
  }

  /** Take the next words; the line that they end, or null. */
  add(words) {
    this.pieces.push(words);
    return words.final ? this.end() : null;
  }

  /** What is being said, as far as it got. */
  get text() {
    return oneLine(this.pieces.map(({ text }) => text).join(""));
  }

  /** The line as far as it got, null where nothing was said; the next words begin another. */
  end() {
    const { text, pieces } = this;
    this.pieces = [];
    if (!text) return null;
    const { start, kind } = pieces[0];
    const { end, question = "" } = pieces.at(-1);
    return { start, end, text, kind, question: kind === "answer" ? oneLine(question) : "" };
  }
}

/** Lines in which every word is found, in any order, case or part of a longer word. */
export function search(lines, words) {
  const wanted = words.toLowerCase().split(SPACE).filter(Boolean);
  return lines.filter(({ question, text }) => {
    const all = `${question} ${text}`.toLowerCase();
    return wanted.every((word) => all.includes(word));
  });
}

/** The text of a file: `vtt`, `srt` or `jsonl`. */
export const FORMS = {
  vtt: (lines) => `WEBVTT\n\n${lines.map(vtt).join("")}`,
  srt: (lines) => lines.map(srt).join(""),
  jsonl: (lines) => lines.map(jsonl).join(""),
};

function oneLine(text) {
  return text.replace(COMMANDS, " ").split(SPACE).filter(Boolean).join(" ");
}

/** A line as a subtitle shows it: an answer below its question. */
export function spoken({ kind, question, text }) {
  return kind === "answer" ? `Q: ${question}\nA: ${text}` : text;
}

function vtt(line) {
  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
  const text = spoken(line).replace(/[&<>]/g, (each) => escapes[each]);
  return `${stamp(line.start, ".")} --> ${stamp(line.end, ".")}\n${text}\n\n`;
}

function srt(line, index) {
  const times = `${stamp(line.start, ",")} --> ${stamp(line.end, ",")}`;
  return `${index + 1}\n${times}\n${spoken(line)}\n\n`;
}

function jsonl({ start, end, text, kind, question }) {
  const [from, to] = [start, end].map((time) =>
    Number.isInteger(time) ? time.toFixed(1) : String(time),
  );
  const rest = { text, kind, question };
  const fields = Object.entries(rest).map(([name, value]) => `"${name}": ${JSON.stringify(value)}`);
  return `{"start": ${from}, "end": ${to}, ${fields.join(", ")}}\n`;
}

/** `00:01:02.345`, with as many hours as there are. */
function stamp(seconds, point) {
  const milliseconds = roundToEven(1000 * seconds);
  const parts = [3_600_000, 60_000, 1000].map((unit) => Math.floor(milliseconds / unit));
  const [hours, minutes, whole] = [parts[0], parts[1] % 60, parts[2] % 60].map((part) =>
    String(part).padStart(2, "0"),
  );
  return `${hours}:${minutes}:${whole}${point}${String(milliseconds % 1000).padStart(3, "0")}`;
}

/** Halves go to the even number, as Python's do. */
function roundToEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
