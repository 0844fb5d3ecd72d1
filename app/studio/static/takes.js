// Takes on the server's disk: listed, downloaded, offered again after a crash.

import { sentence } from "./notices.js";
import { clock } from "./timeline.js";

/** What the server answers on a path; an error is the sentence that it gives. */
export async function ask(path, options = {}) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  const error = await response.json().catch(() => ({}));
  throw new Error(error.message ? sentence(error) : `The server answered ${response.status}`);
}

/** {folder, takes}: where they are, and each with name, seconds, prompt, state, kept and size. */
export async function list() {
  return (await ask("takes")).json();
}

/** The command that makes a take again: {line, remarks}. */
export async function command(name) {
  return (await ask(`takes/${name}/command`)).json();
}

/** An interrupted take is seen and needs not be offered again. */
export function settle(name) {
  return ask(`takes/${name}/settle`, { method: "POST" });
}

/**
 * Send a picture or a clip that a take is to begin with; the name that the server gives it.
 * @param {File} file
 * @param {{session: string, resume_token: string}} whose
 * @param {number} most bytes that the server takes; 0 where the model begins no film so.
 * @throws {Error} one sentence.
 */
export async function sendStart(file, { session, resume_token }, most) {
  if (file.size > most) {
    throw new Error(`The file has ${file.size} bytes: at most ${most} can be sent`);
  }
  const headers = { "x-resume-token": resume_token };
  const response = await ask(`starts/${session}`, { method: "POST", headers, body: file });
  return (await response.json()).start;
}

/** Mark a take as never to be removed to make room, or take the mark away. */
export function keep(name, kept) {
  return ask(`takes/${name}/keep?kept=${kept}`, { method: "POST" });
}

/** Download a take as `film.mp4`, `clip.gif`, `clip.webp` or `still.png`. */
export async function fetchFile(name, file) {
  const blob = await (await ask(`takes/${name}/${file}`)).blob();
  saveBlob(blob, `${name}.${file.split(".")[1]}`);
}

/** Have the browser save a file. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  saveFrom(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Have the browser save what is at an address of this server. */
export function saveFrom(url, name = "") {
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

/** A length in words, such as "1:07" or "3.2 s". */
export function lengthOf(seconds) {
  return seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds);
}
