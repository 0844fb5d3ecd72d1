// The stage: puts the picture, the prompt, the receipts and the timeline together.

import { Connection } from "./connection.js";
import { PromptBox } from "./prompt.js";
import { Receipts, describe } from "./receipts.js";
import { Session } from "./session.js";
import { lengthOf, list, fetchFile, saveFrom, sendStart, settle } from "./takes.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";
import * as memory from "./memory.js";
import { notice, numbers, sentence } from "./notices.js";

const RECEIPTS_SHOWN = 3;
// The newest metrics, for the charts: about a minute.
const MEASURED = 60;

class Stage extends HTMLElement {
  connectedCallback() {
    if (this.session) return;
    const find = (name) => this.querySelector(name);
    const kept = memory.load();
    // A take as the page knows it: its number, seed, prompts that took effect, who paused it.
    this.take = kept.take;
    this.receipts = new Receipts();
    this.measured = [];
    this.session = new Session({
      stored: kept.session,
      on: (kind, message) => this[`_${kind}`](message),
    });
    this.view = new View(find("canvas"), {
      onShown: (frame) => this._shown(frame),
      onReport: ({ take, index }, buffer_ms) => this._report({ take, index }, buffer_ms),
    });
    this.prompt = new PromptBox(find("form"), (prompt) => this.say(prompt));
    this.timeline = new Timeline(find(".lt-timeline"), find(".lt-read"), (text) => {
      this.prompt.fill(text);
    });
    find(".lt-pause").addEventListener("click", () => {
      this.pause(this.take.paused ? null : "person");
    });
    find(".lt-save").addEventListener("click", () => this.save());
    find(".lt-notice button").addEventListener("click", () => this._again());
    this._takeDrops(find(".lt-picture"));
    document.addEventListener("visibilitychange", () => this._visibility());
    this.addEventListener("longtake-tab", () => this._visibility());
    this._render();
    this.connection = new Connection(this.session, (frame) => this.view.take(frame));
    this.connection.connect();
    setInterval(() => this._renderNumbers(), 1000);
  }

  // What a person may ask for.

  /** Begin a take; the one before it ends. */
  async open(prompt, seed = memory.newSeed(), settings = {}, start = null) {
    this.opening = true;
    const ack = await this._ask("open", { prompt, seed, settings, ...(start && { start }) });
    this.opening = false;
    if (ack) this._begin(ack, seed, start);
    return ack;
  }

  /** Begin a take with a picture or a clip, under what stands in the box. */
  async beginWith(file) {
    const { ready, stored } = this.session;
    if (!ready) return;
    this.speak("Sending the file…");
    try {
      const start = await sendStart(file, stored, ready.limits.start);
      const prompt = this.prompt.text.value.trim() || this._firstPrompt();
      const ack = await this.open(prompt, memory.newSeed(), {}, start);
      if (!ack) return;
      this.prompt.taken(prompt);
      this.speak("");
    } catch (error) {
      this.speak(error.message);
    }
  }

  /** A take whose prompts are given with their times: {at, text, transition}, the first at 0. */
  async play([first, ...later], seed, settings, start) {
    if (!(await this.open(first.text, seed, settings, start))) return;
    // Half as fast as the server takes requests.
    const pause = 2000 / this.session.ready.limits.requests;
    for (const cue of later) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      await this.say(cue);
    }
  }

  /** Another take with the prompts of this one at their times, its settings and its start. */
  async again(seed = this.take.seed) {
    const { marks, settings, start } = this.take;
    const cues = marks.map(({ time, ...mark }) => ({ at: time, ...mark }));
    if (cues.length > 0) await this.play(cues, seed, settings, start);
  }

  /** Change the prompt. */
  async say({ text, at = 0, transition = 0 }) {
    if (this.take.number === null) return this.open(text);
    if (this.take.paused === "idle") this.pause(null);
    const receipt = this.receipts.sent({ text, at, transition }, performance.now());
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
    saveFrom(ack.file.url);
    this.speak(`Saved ${ack.file.seconds.toFixed(1)} seconds of film. ${ack.note ?? ""}`);
  }

  /** Download the frame on the screen. */
  async still() {
    const { take, index } = this.view.shown ?? {};
    const ack = await this._ask("still", take ? { frame: { take, index } } : {});
    if (ack?.file) saveFrom(ack.file.url);
  }

  /** Change settings. */
  set(settings) {
    return this._ask("set", { settings });
  }

  /** Show the film on another canvas of the page, or with null on its own again. */
  showOn(canvas) {
    canvas?.style.setProperty("--ratio", this.style.getPropertyValue("--ratio"));
    this.view.move(canvas ?? this.querySelector("canvas"));
  }

  /** Whether the film goes on while its tab is out of sight. */
  goOn(goesOn) {
    this.goesOn = goesOn;
    this._visibility();
  }

  /** Say something short. */
  speak(text) {
    this.querySelector(".lt-said").textContent = text;
  }

  async _ask(type, fields) {
    try {
      return await this.session.request(type, fields);
    } catch (error) {
      this.speak(sentence(error));
      return null;
    }
  }

  // What the server tells.

  _phase({ phase }) {
    if (phase === "ended") memory.keepSession(this.session.stored);
    this._render();
  }

  _ready(ready) {
    memory.keepSession(this.session.stored);
    this.view.prepare(ready);
    this.style.setProperty("--ratio", ready.width / ready.height);
    const { transition } = ready.limits;
    this.querySelector(".lt-transition").hidden = transition === 0;
    this.prompt.form.elements.transition.max = transition;
    if (!ready.resumed) {
      this.take.number = null;
      this._offer().catch(() => {});
      // Unless a person who waited in the queue has asked for something already.
      if (!this.opening) this.open(this._firstPrompt());
    } else if (this.take.number !== null) {
      if (this.view.buffer.take !== this.take.number) this.view.begin(this.take.number);
      this._visibility();
    }
    this._render();
    this._emit("take");
    this._emit("ready", ready);
  }

  _words(message) {
    this._emit("words", message);
  }

  _watching(message) {
    this._emit("watching", message);
  }

  _applied(message) {
    if (message.take !== this.take.number) this._begin(message, this.take.seed);
    if (message.prompt !== undefined) {
      this.receipts.applied(message);
      const { id, chunk, time, prompt, read } = message;
      const receipt = this.receipts.all.find((each) => each.id === id);
      // A prompt for later is none that somebody waits for.
      if (receipt && !receipt.at) this.view.buffer.hurry(chunk);
      const transition = receipt?.transition ?? 0;
      // Several may come with one chunk, and any may be repeated.
      const again = (mark) => mark.chunk === chunk && mark.id === id && mark.text === prompt;
      const marks = this.take.marks.filter((mark) => mark.chunk <= chunk && !again(mark));
      if (marks.at(-1)?.text !== prompt) {
        marks.push({ id, chunk, time, text: prompt, transition, read });
      }
      this.take.marks = marks;
      memory.keepTake(this.take);
      this._renderReceipts();
    }
    if (message.settings) {
      Object.assign(this.take.settings, message.settings);
      memory.keepTake(this.take);
      this._emit("take");
    }
  }

  _metrics(metrics) {
    this.metrics = metrics;
    const { buffer } = this.view;
    buffer.speed = metrics.speed || 1;
    this.measured.push({ ...metrics, buffered: 1000 * buffer.buffered });
    if (this.measured.length > MEASURED) this.measured.shift();
    this._renderNumbers();
    this._emit("metrics");
  }

  /** Something that the person should know of, though nothing ends with it. */
  _notice(message) {
    if (!message.paused) return this.speak(sentence(message));
    Object.assign(this.take, { paused: "idle", told: sentence(message) });
    memory.keepTake(this.take);
    this.view.buffer.hold();
    this._render();
  }

  /** The take failed; the session stands. */
  _failed(error) {
    Object.assign(this.take, { number: null, paused: null, failure: sentence(error) });
    memory.keepTake(this.take);
    this._render();
  }

  // What the page itself does.

  _begin({ take, recording = null }, seed, start = null) {
    if (take !== this.take.number) {
      this.receipts.reset();
      this.take = { ...memory.noTake(), number: take, start };
      this.view.begin(take);
      this.view.buffer.release();
    }
    Object.assign(this.take, { seed, recording: recording ?? this.take.recording });
    memory.keepTake(this.take);
    this._render();
    this._renderReceipts();
    this._emit("take");
    this._visibility();
  }

  /** What a film begins with that nobody asked for: where the one before it was. */
  _firstPrompt() {
    const last = this.take.marks.at(-1);
    // A change says too little without the prompts before it; what they are read as says it all.
    return last?.read || last?.text || this.dataset.prompt;
  }

  /** A take that a crash interrupted is offered again. */
  async _offer() {
    const { takes } = await list();
    const found = takes.find(({ state, seconds }) => state === "interrupted" && seconds > 0);
    const offer = this.querySelector(".lt-offer");
    offer.hidden = !found;
    if (!found) return;
    const { name, prompt, seconds } = found;
    offer.querySelector("p").textContent =
      `A take was interrupted. ${lengthOf(seconds)} of it are kept: “${prompt}”`;
    const [save, dismiss] = offer.querySelectorAll("button");
    const say = (error) => this.speak(error.message);
    save.onclick = () => fetchFile(name, "film.mp4").catch(say);
    dismiss.onclick = () => settle(name).then(() => this._offer()).catch(say);
  }

  _again() {
    if (this.session.phase === "ended") {
      location.reload();
    } else if (this.session.phase === "lost") {
      this.connection.again();
    } else if (this.take.paused === "idle") {
      this.pause(null);
    } else {
      this.open(this._firstPrompt());
    }
  }

  /** A file that is dropped on the picture begins a take. */
  _takeDrops(picture) {
    const over = (event, is) => {
      if (!this.session.ready?.limits.start || !event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      picture.dataset.over = is ? "yes" : "no";
    };
    picture.addEventListener("dragover", (event) => over(event, true));
    picture.addEventListener("dragleave", (event) => over(event, false));
    picture.addEventListener("drop", (event) => {
      over(event, false);
      if (event.defaultPrevented) this.beginWith(event.dataTransfer.files[0]);
    });
  }

  _visibility() {
    if (this.take.number === null) return;
    // The tab of the browser, or the page's own.
    const hidden = document.hidden || (this.hidden && !this.goesOn);
    if (hidden && !this.take.paused) this.pause("hidden");
    if (!hidden && this.take.paused === "hidden") this.pause(null);
    if (this.take.paused) this.view.buffer?.hold();
  }

  _report(frame, buffer_ms) {
    if (!this.session.open) return;
    this.session.request("playback", { frame, buffer_ms }).catch(() => {});
    this._renderNumbers();
  }

  _shown(frame) {
    if (frame.take !== this.shownTake) {
      this.shownTake = frame.take;
      this._render();
    }
    for (const receipt of this.receipts.shown(frame, performance.now())) {
      this._renderReceipts(receipt);
    }
    this.timeline.move(frame.time);
    this._emit("shown", frame);
  }

  _emit(name, detail = null) {
    this.dispatchEvent(new CustomEvent(`longtake-${name}`, { detail }));
  }

  _render() {
    const { number, paused } = this.take;
    const find = (name) => this.querySelector(name);
    const shows = number !== null && this.shownTake === number;
    const { text, action } = notice(this.session, this.take, shows);
    find(".lt-notice").dataset.shown = text ? "yes" : "no";
    find(".lt-notice p").textContent = text;
    this._emit("notice", text);
    find(".lt-notice button").hidden = !action;
    find(".lt-notice button").textContent = action ?? "";
    const pause = find(".lt-pause");
    pause.textContent = paused && paused !== "hidden" ? "Resume" : "Pause";
    pause.disabled = find(".lt-save").disabled = number === null || this.session.phase !== "ready";
    this._renderNumbers();
  }

  _renderNumbers() {
    const { phase, ready } = this.session;
    const live = phase === "ready" && this.take.number !== null;
    const state = !live ? "" : this.take.paused ? "paused" : "live";
    const shown = live ? numbers(ready.rate, this.metrics, this.view.buffer) : "";
    // Several times a second: what stays is not touched, or it would be laid out again.
    if (state === this.told?.state && shown === this.told.shown) return;
    this.told = { state, shown };
    this.querySelector(".lt-state").textContent = state;
    this.querySelector(".lt-state").dataset.state = state;
    this.querySelector(".lt-numbers").textContent = shown;
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

customElements.define("longtake-stage", Stage);
