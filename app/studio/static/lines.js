// The transcript on the page: lines that can be searched and downloaded, each with its time to
// click on.

import { FORMS, search } from "./transcript.js";
import { sentence } from "./notices.js";
import { addSubtitles } from "./subtitles.js";
import { saveBlob } from "./takes.js";
import { clock } from "./timeline.js";

// Lines on the page at a time; files hold all.
const LINES_SHOWN = 300;

export class Lines {
  /**
   * @param {HTMLElement} place holds the list, the search and a button for each file.
   * @param {object} hooks
   * @param {(line: object) => void} hooks.onChosen somebody wants to see a line's moment.
   * @param {(text: string) => void} hooks.onSaid there is something to tell.
   */
  constructor(place, { onChosen, onSaid }) {
    const find = (name) => place.querySelector(name);
    this.list = find(".lt-lines");
    this.search = find("[name=search]");
    this.aloud = find(".lt-aloud");
    this.buttons = [...place.querySelectorAll("[data-form]")];
    this.told = find(".lt-mp4");
    Object.assign(this, { onChosen, onSaid });
    this.told.addEventListener("click", () => this._downloadFilm());
    this.search.addEventListener("input", () => this._render());
    for (const button of this.buttons) {
      button.addEventListener("click", () => this._download(button.dataset.form));
    }
    this.reset(null);
  }

  /** Lines of something else; `film` gives it as a Blob, null where nothing is kept of it. */
  reset(film) {
    this.film = film;
    this.all = [];
    this._render();
  }

  add(line) {
    this.all.push(line);
    const asked = line.question ? `${line.question} ` : "";
    this.aloud.textContent = asked + line.text;
    this._render();
  }

  _download(form) {
    saveBlob(new Blob([FORMS[form](this.all)], { type: "text/plain" }), `transcript.${form}`);
  }

  /** What was watched, with what was said of it as subtitles. */
  async _downloadFilm() {
    this.onSaid("The video with its captions is being made…");
    try {
      saveBlob(await addSubtitles(await this.film(), this.all), "told.mp4");
      this.onSaid("The captions are subtitles of told.mp4.");
    } catch (error) {
      this.onSaid(sentence(error));
    }
  }

  _render() {
    const none = this.all.length === 0;
    for (const button of this.buttons) button.disabled = none;
    this.told.disabled = none || this.film === null;
    const { list } = this;
    const atEnd = list.scrollTop + list.clientHeight > list.scrollHeight - 8;
    const found = search(this.all, this.search.value).slice(-LINES_SHOWN);
    // What stays is left alone, or a click on it would be lost where a line comes meanwhile.
    const wanted = new Set(found);
    for (const item of [...list.children]) if (!wanted.has(item.line)) item.remove();
    let next = list.firstChild;
    for (const line of found) {
      if (next?.line === line) next = next.nextSibling;
      else list.insertBefore(this._item(line), next);
    }
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  _item(line) {
    const item = document.createElement("li");
    const time = document.createElement("button");
    Object.assign(time, { type: "button", textContent: clock(line.start) });
    time.setAttribute("aria-label", `Show ${clock(line.start)}`);
    time.addEventListener("click", () => this.onChosen(line));
    const text = document.createElement("span");
    if (line.question) {
      const question = document.createElement("q");
      question.textContent = line.question;
      text.append(question, " ");
    }
    text.append(line.text);
    item.append(time, text);
    item.line = line;
    return item;
  }
}
