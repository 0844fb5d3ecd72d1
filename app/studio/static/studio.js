// The stage: puts the picture, the prompt, the receipts and the timeline together.

import { Connection } from "./connection.js";
import { PromptBox } from "./prompt.js";
import { Receipts, describe } from "./receipts.js";
import { Session } from "./session.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";
import * as memory from "./memory.js";
import { notice } from "./notices.js";

const RECEIPTS_SHOWN = 3;

class Stage extends HTMLElement {
  connectedCallback() {
    if (this.session) return;
    const find = (name) => this.querySelector(name);
    const kept = memory.load();
    // A take as the page knows it: its number, seed, prompts that took effect, who paused it.
    this.take = kept.take;
    this.receipts = new Receipts();
    this.session = new Session({
      stored: kept.session,
      token: memory.token(),
      on: (kind, message) => this[`_${kind}`](message),
    });
    this.view = new View(find("canvas"), {
      onShown: (frame) => this._shown(frame),
      onReport: ({ take, index }, buffer_ms) => this._report({ take, index }, buffer_ms),
    });
    this.prompt = new PromptBox(find("form"), (prompt) => this.say(prompt));
    this.timeline = new Timeline(find(".lt-timeline"), (text) => this.prompt.fill(text));
    find(".lt-pause").addEventListener("click", () => this.pause(this.take.paused ? null : "person"));
    find(".lt-save").addEventListener("click", () => this.save());
    find(".lt-notice button").addEventListener("click", () => this._again());
    document.addEventListener("visibilitychange", () => this._visibility());
    this._render();
    this.connection = new Connection(this.session, (frame) => this.view.take(frame));
    this.connection.connect();
  }

  // What a person may ask for.

  /** Begin a take; the one before it ends. */
  async open(prompt, seed = memory.newSeed(), settings = {}) {
    const ack = await this._ask("open", { prompt, seed, settings });
    if (ack) this._begin(ack, seed);
    return ack;
  }

  /** Another take with the prompt and settings of this one. */
  async restart(seed = null) {
    const ack = await this._ask("restart", seed === null ? {} : { seed });
    if (ack) this._begin(ack, seed ?? this.take.seed);
  }

  /** Change the prompt. */
  async say({ text, at = 0, transition = 0 }) {
    if (this.take.number === null) return this.open(text);
    const receipt = this.receipts.sent(text, at, performance.now());
    this._renderReceipts(receipt);
    const fields = { text, ...(at && { at }), ...(transition && { transition }) };
    try {
      const ack = await this.session.request("prompt", fields, (id) => (receipt.id = id));
      if (ack) this.receipts.accepted(receipt, ack, performance.now());
    } catch (error) {
      this.receipts.refused(receipt, error);
    }
    this._renderReceipts(receipt);
  }

  /** Stop the film, for `person` or because the page is `hidden`; go on with null. */
  async pause(by) {
    this.take.paused = by;
    memory.keepTake(this.take);
    if (by) this.view.buffer?.hold();
    else this.view.buffer?.release();
    this._render();
    await this._ask(by ? "pause" : "resume");
  }

  /** Download the take, or its last seconds. */
  async save(seconds = null) {
    const ack = await this._ask("save", seconds ? { seconds } : {});
    if (!ack?.file) return;
    download(ack.file.url);
    this.speak(`Saved ${ack.file.seconds.toFixed(1)} seconds of film. ${ack.note ?? ""}`);
  }

  /** Download the frame on the screen. */
  async still() {
    const { take, index } = this.view.shown ?? {};
    const ack = await this._ask("still", take ? { frame: { take, index } } : {});
    if (ack?.file) download(ack.file.url);
  }

  /** Change settings. */
  set(settings) {
    return this._ask("set", { settings });
  }

  /** Say something short. */
  speak(text) {
    this.querySelector(".lt-said").textContent = text;
  }

  async _ask(type, fields) {
    try {
      return await this.session.request(type, fields);
    } catch (error) {
      this.speak(error.hint ? `${error.message}: ${error.hint}` : error.message);
      return null;
    }
  }

  // What the server tells.

  _phase() {
    this._render();
  }

  _ready(ready) {
    memory.keepSession(this.session.stored);
    this.view.prepare(ready);
    const { transition } = ready.limits;
    this.querySelector(".lt-transition").hidden = transition === 0;
    this.prompt.form.elements.transition.max = transition;
    if (!ready.resumed) {
      this.take = memory.noTake();
      const first = this.dataset.prompt;
      this.open(first);
    } else if (this.take.number !== null) {
      if (this.view.buffer.take !== this.take.number) this.view.begin(this.take.number);
      this._visibility();
    }
    this._render();
    this._emit("ready", ready);
  }

  _applied(message) {
    if (message.take !== this.take.number) this._begin(message, this.take.seed);
    if (message.prompt !== undefined) {
      this.receipts.applied(message);
      const { chunk, time, prompt } = message;
      const marks = this.take.marks.filter((mark) => mark.chunk < chunk);
      if (marks.at(-1)?.text !== prompt) marks.push({ chunk, time, text: prompt });
      this.take.marks = marks;
      memory.keepTake(this.take);
      this._renderReceipts();
    }
    if (message.settings) {
      Object.assign(this.take.settings, message.settings);
      memory.keepTake(this.take);
      this._emit("settings", this.take.settings);
    }
  }

  _metrics(metrics) {
    this.metrics = metrics;
    if (this.view.buffer) this.view.buffer.speed = metrics.speed || 1;
    this._renderNumbers();
    this._emit("metrics", metrics);
  }

  /** The take failed; the session stands. */
  _failed({ message, hint }) {
    this.take = { ...memory.noTake(), failure: hint ? `${message}: ${hint}` : message };
    memory.keepTake(this.take);
    this._render();
  }

  // What the page itself does.

  _begin({ take }, seed) {
    if (take === this.take.number) {
      this.take.seed = seed;
    } else {
      this.receipts.reset();
      this.take = { ...memory.noTake(), number: take, seed };
      this.view.begin(take);
      this.view.buffer.release();
    }
    memory.keepTake(this.take);
    this._render();
    this._renderReceipts();
  }

  _again() {
    if (this.session.phase === "ended") {
      location.reload();
    } else if (this.session.phase === "lost") {
      this.connection.again();
    } else {
      this.open(this.dataset.prompt);
    }
  }

  _visibility() {
    if (this.take.number === null) return;
    if (document.hidden && !this.take.paused) this.pause("hidden");
    if (!document.hidden && this.take.paused === "hidden") this.pause(null);
    if (this.take.paused) this.view.buffer?.hold();
  }

  _report(frame, buffer_ms) {
    if (!this.session.open) return;
    this.session.request("playback", { frame, buffer_ms }).catch(() => {});
    this._renderNumbers();
  }

  _shown(frame) {
    if (!this.playing) {
      this.playing = true;
      this._render();
    }
    for (const receipt of this.receipts.shown(frame, performance.now())) {
      this._renderReceipts(receipt);
    }
    this.timeline.move(frame.time);
  }

  _emit(name, detail) {
    this.dispatchEvent(new CustomEvent(`longtake-${name}`, { detail }));
  }

  _render() {
    const { number, paused } = this.take;
    const find = (name) => this.querySelector(name);
    const shows = this.view?.shown?.take === number;
    const { text, action } = notice(this.session, this.take, shows);
    find(".lt-notice").dataset.shown = text ? "yes" : "no";
    find(".lt-notice p").textContent = text;
    find(".lt-notice button").hidden = !action;
    find(".lt-notice button").textContent = action ?? "";
    const pause = find(".lt-pause");
    pause.textContent = paused === "person" ? "Resume" : "Pause";
    pause.disabled = find(".lt-save").disabled = number === null || this.session.phase !== "ready";
    this._renderNumbers();
  }

  _renderNumbers() {
    const { phase, ready } = this.session;
    const live = phase === "ready" && this.take.number !== null;
    const state = !live ? "" : this.take.paused ? "paused" : "live";
    this.querySelector(".lt-state").textContent = state;
    this.querySelector(".lt-state").dataset.state = state;
    const { speed = 1 } = this.metrics ?? {};
    const delay = this.view.buffer?.delay;
    const numbers = [];
    if (live && speed > 0 && speed < 0.98) {
      numbers.push(`at ${Math.round(100 * speed)}% speed: this machine makes fewer than ${ready.rate} frames a second`);
    }
    if (live && delay != null) numbers.push(`delay ${Math.round(1000 * delay)} ms`);
    this.querySelector(".lt-numbers").textContent = numbers.join(" · ");
  }

  _renderReceipts(changed = null) {
    const items = this.receipts.all.slice(-RECEIPTS_SHOWN).reverse().map((receipt) => {
      const item = document.createElement("li");
      item.dataset.state = receipt.state;
      const text = document.createElement("q");
      text.textContent = receipt.text;
      const what = document.createElement("span");
      what.textContent = describe(receipt);
      item.append(text, what);
      return item;
    });
    this.querySelector(".lt-receipts").replaceChildren(...items);
    // Only what changed is read aloud.
    const unseen = this.querySelector(".lt-unseen");
    if (changed) unseen.textContent = `${changed.text}: ${describe(changed)}`;
    this.timeline.show(this.take.marks, this.receipts.waiting);
  }
}

/** Have the browser save what is at an address of this server. */
export function download(url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
}

customElements.define("longtake-stage", Stage);
