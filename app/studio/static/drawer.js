// The drawer: what one needs now and then.

import { formatScript, parseScript } from "./cues.js";
import { newSeed } from "./memory.js";
import { Sparkline } from "./sparkline.js";
import * as takes from "./takes.js";

const CHARTS = {
  fps: ({ fps }) => [[fps], fps.toFixed(1)],
  chunk: ({ chunk_p50: p50, chunk_p95: p95 }) => [[p50, p95], pair(p50, p95)],
  reaction: ({ reaction: last, reaction_max: most }) => [[last], pair(last, most)],
  queues: ({ unsent, waiting }) => [[unsent, waiting], `${unsent} · ${waiting}`],
  memory: ({ cache, memory }) => [[memory], `${megabytes(memory)} · ${megabytes(cache)}`],
  buffer: ({ buffered }) => [[buffered], `${Math.round(buffered)}`],
};

class Drawer extends HTMLElement {
  connectedCallback() {
    if (this.stage) return;
    this.stage = document.querySelector("longtake-stage");
    for (const button of this.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => this._try(() => this[button.dataset.do]()));
    }
    for (const input of this.querySelectorAll("[name]")) {
      input.addEventListener("change", () => this._set(input));
    }
    const chosen = (name, use) => {
      this.querySelector(name).addEventListener("change", ({ target }) => {
        const [file] = target.files;
        target.value = "";
        if (file) this._try(() => use(file));
      });
    };
    chosen(".lt-script", (file) => this.loadScript(file));
    chosen(".lt-start", (file) => this.stage.beginWith(file));
    this.stage.addEventListener("longtake-ready", () => this._render());
    this.charts = Object.keys(CHARTS).map((name) => this._chart(name));
    this.stage.measured.forEach((metrics) => this._measured(metrics));
    this.stage.addEventListener("longtake-metrics", () => {
      this._measured(this.stage.measured.at(-1));
    });
    this.stage.addEventListener("longtake-take", () => this._render());
    this._examples();
    this._render();
    // The list is read again whenever the drawer is opened; closed, no chart is drawn.
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.seen = isIntersecting;
      if (!isIntersecting) return;
      this._try(() => this._list());
      this._draw();
    }).observe(this);
  }

  // The buttons.

  restart() {
    return this.stage.again();
  }

  reseed() {
    return this.stage.again(newSeed());
  }

  saveLast() {
    return this.stage.save(this.querySelector(".lt-last").valueAsNumber || null);
  }

  still() {
    return this.stage.still();
  }

  async gif() {
    await takes.fetchFile(this._current, "clip.gif");
  }

  async webp() {
    await takes.fetchFile(this._current, "clip.webp");
  }

  async command() {
    await this._copyCommand(this._current);
  }

  saveScript() {
    const script = formatScript(this.stage.take.marks);
    takes.saveBlob(new Blob([script], { type: "application/jsonl" }), "script.jsonl");
  }

  async loadScript(file) {
    await this.stage.play(parseScript(await file.text()));
  }

  /** The name on disk of the take that is being made. */
  get _current() {
    const { recording } = this.stage.take;
    if (!recording) throw new Error("No take is being made");
    return recording;
  }

  async _copyCommand(name) {
    const { line, remarks } = await takes.command(name);
    await navigator.clipboard.writeText(line);
    const differs = remarks.length > 0 ? ` Not the same: ${remarks.join("; ")}.` : "";
    this._say(`Copied: ${line}.${differs}`);
  }

  async _set({ name, value }) {
    const done = await this.stage.set({ [name]: name === "switch" ? value : Number(value) });
    if (!done) this._render();
  }

  /** Run what a button asks for; an error is said. */
  async _try(action) {
    this._say("");
    try {
      await action();
    } catch (error) {
      this._say(error.message);
    }
  }

  _say(text) {
    this.querySelector(".lt-said").textContent = text;
  }

  _render() {
    const { seed, settings } = this.stage.take;
    this.querySelector(".lt-seed").textContent = seed ?? "–";
    for (const input of this.querySelectorAll("[name]")) {
      if (settings[input.name] !== undefined) input.value = settings[input.name];
    }
    const { model, limits } = this.stage.session.ready ?? {};
    this.querySelector(".lt-starts").hidden = !limits?.start;
    const about = model && [`The model is “${model}”`, this.stage.dataset.about];
    this.querySelector(".lt-about").textContent = about?.filter(Boolean).join(", ") ?? "";
  }

  _chart(name) {
    const box = this.querySelector(`[data-chart="${name}"]`);
    const count = name === "chunk" || name === "queues" ? 2 : 1;
    return { name, value: box.querySelector("dd"), line: new Sparkline(box, count) };
  }

  _measured(metrics) {
    this.newest = metrics;
    for (const { name, line } of this.charts) line.add(...CHARTS[name](metrics)[0]);
    if (this.seen) this._draw();
  }

  _draw() {
    if (!this.newest) return;
    for (const { name, value, line } of this.charts) {
      value.textContent = CHARTS[name](this.newest)[1];
      line.draw();
    }
  }

  _examples() {
    const examples = JSON.parse(this.stage.dataset.examples);
    const items = examples.map((example) => {
      const item = document.createElement("li");
      item.append(button(example, () => this.stage.prompt.fill(example)));
      return item;
    });
    this.querySelector(".lt-examples").replaceChildren(...items);
  }

  async _list() {
    const { folder, takes: found } = await takes.list();
    this.querySelector(".lt-folder").textContent = `In ${folder}`;
    this.querySelector(".lt-takes").replaceChildren(...found.map((take) => this._take(take)));
  }

  _take({ name, prompt, seconds, size, state, kept }) {
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.className = "lt-take-prompt";
    text.textContent = prompt;
    const about = document.createElement("span");
    about.className = "lt-note";
    const states = { open: "being made", finished: "", interrupted: "interrupted" };
    const length = takes.lengthOf(seconds);
    const parts = [name.replace("_", " "), length, `${megabytes(size)} MB`, states[state]];
    about.textContent = parts.filter(Boolean).join(" · ");
    const save = button("MP4", () => this._try(() => takes.fetchFile(name, "film.mp4")));
    const copy = button("Command", () => this._try(() => this._copyCommand(name)));
    const keep = button(kept ? "Kept" : "Keep", () =>
      this._try(async () => {
        await takes.keep(name, !kept);
        await this._list();
      }),
    );
    keep.setAttribute("aria-pressed", kept);
    const actions = document.createElement("span");
    actions.className = "lt-row";
    actions.append(save, copy, keep);
    item.append(text, about, actions);
    return item;
  }
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0);
}

function pair(one, other) {
  return `${one.toFixed(2)} · ${other.toFixed(2)}`;
}

function button(text, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", action);
  return element;
}

customElements.define("longtake-drawer", Drawer);
