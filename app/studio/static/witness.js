// The witness: a camera, a video file or the film is watched, and what is said of it is told.

import { Sampler } from "./sampler.js";
import { Lines } from "./lines.js";
import { LineBuilder } from "./transcript.js";
import { Moments } from "./moments.js";
import { newSeed } from "./memory.js";
import { notice, sentence } from "./notices.js";
import { ask } from "./takes.js";
import { packShown } from "./wire.js";

// Rounds of a file that may wait to be spoken of before it is stopped for a while.
const ROUNDS_AHEAD = 3;
const INVITATION = "Start the camera, drop a video here, or watch the film";
const LOADING = "The captioner is being loaded…";
const CAMERA = {
  NotAllowedError:
    "The camera may not be used: allow it for this page in the browser, and start it again.",
  NotFoundError: "There is no camera: choose a video instead.",
  NotReadableError: "The camera cannot be read: close what else uses it, and start it again.",
};
const INSECURE = "A browser gives its camera only to https pages and to those of its own machine.";

class Witness extends HTMLElement {
  connectedCallback() {
    if (this.stage) return;
    const find = (name) => this.querySelector(name);
    this.stage = document.querySelector("longtake-stage");
    this.video = find("video");
    this.canvas = find("canvas");
    this.builder = new LineBuilder();
    this.lines = new Lines(this, {
      onChosen: (line) => this._seek(line),
      onSaid: (text) => this._say(text),
    });
    this.moments = new Moments(find(".lt-moment"));
    // What is shown, `camera`, `file` or `film`; null while there is nothing.
    this.source = null;
    // The watch's number; null where the server watches nothing.
    this.watch = null;
    // The one before, of which words may still come.
    this.ending = null;
    // Times of frames of which nothing was said yet.
    this.unheard = [];
    this.dropped = 0;
    find(".lt-camera").addEventListener("click", () => this.startCamera());
    find(".lt-watch").addEventListener("click", () => this.watchFilm());
    find(".lt-stop").addEventListener("click", () => this.stop());
    find("[type=file]").addEventListener("change", ({ target }) => {
      if (target.files[0]) this.openFile(target.files[0]);
      target.value = "";
    });
    find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask(find("[name=question]"));
    });
    this._takeDrops(find(".lt-picture"));
    this.video.addEventListener("ended", () => this._finish());
    this.video.addEventListener("error", () => this.source === "file" && this._unplayable());
    document.addEventListener("visibilitychange", () => this._away());
    window.addEventListener("pagehide", () => this.stop());
    this.addEventListener("longtake-tab", () => {
      this._placeFilm();
      this._away();
    });
    this.stage.addEventListener("longtake-words", ({ detail }) => this._words(detail));
    this.stage.addEventListener("longtake-watching", ({ detail }) => this._watching(detail));
    this.stage.addEventListener("longtake-shown", ({ detail }) => {
      if (this.source !== "film" || !this.watch) return;
      const { time, bitmap } = detail;
      this.moments.keep(time, bitmap, bitmap.width, bitmap.height);
    });
    this.stage.addEventListener("longtake-notice", ({ detail }) => {
      if (this.watch ? this.source === "film" : this._waits) this._notice(detail);
    });
    this.stage.addEventListener("longtake-ready", ({ detail }) => this._ready(detail));
    const { lacks } = this.dataset;
    for (const name of [".lt-camera", ".lt-watch", "[type=file]"]) {
      find(name).disabled = lacks !== undefined;
    }
    find(".lt-file").toggleAttribute("data-disabled", lacks !== undefined);
    this._notice(lacks ?? INVITATION);
    this._render();
  }

  // What a person may ask for.

  async startCamera() {
    this.stop();
    if (!navigator.mediaDevices) return this._notice(INSECURE);
    this._notice("Waiting for the camera…");
    const mine = (this.stream = {});
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: true });
      if (this.stream !== mine || this.hidden) return stop(stream);
      this.stream = stream;
    } catch (error) {
      if (this.stream !== mine) return;
      this.stream = null;
      return this._notice(CAMERA[error.name] ?? `The camera does not start: ${error.message}`);
    }
    this.source = "camera";
    this._newTranscript(null);
    this.video.srcObject = this.stream;
    this.stream.getVideoTracks()[0].addEventListener("ended", () => this.stop());
    await this.video.play().catch(() => {});
    const began = performance.now();
    await this._begin((now) => Math.max(0, now - began) / 1000);
  }

  /** Play a video file here, and show it as it plays. */
  async openFile(file) {
    this.stop();
    this.source = "file";
    this._newTranscript(() => file);
    this.fileName = file.name;
    this.video.src = URL.createObjectURL(file);
    this.video.controls = true;
    await this._begin((now, mediaTime) => mediaTime);
    if (this.source === "file" && this.watch) this.video.play().catch(() => {});
  }

  /** The film that is being made; the server shows it, and it is steered as ever meanwhile. */
  async watchFilm() {
    this.stop();
    this.source = "film";
    this._newTranscript(() => this._film());
    this._placeFilm();
    if (this.stage.take.paused) this.stage.pause(null);
    await this._begin();
  }

  /** Show nothing any more; what was shown is still spoken of. */
  stop(message = INVITATION) {
    this.sampler?.stop();
    this.sampler = null;
    if (this.stream instanceof MediaStream) stop(this.stream);
    if (this.video.src) URL.revokeObjectURL(this.video.src);
    this.stream = this.source = null;
    this._placeFilm();
    this.video.srcObject = null;
    this.video.controls = false;
    this.video.removeAttribute("src");
    this.video.load();
    this._unwatch();
    this._notice(message);
    this._render();
  }

  async ask(input) {
    const text = input.value.trim();
    if (!text) return;
    try {
      await this.stage.session.request("ask", { text });
      input.value = "";
      this._say("Asked. The answer comes with the next words.");
    } catch (error) {
      this._say(sentence(error));
    }
  }

  /** What is there now of the take that was watched. */
  async _film() {
    if (this.take !== this.stage.take.number) {
      throw new Error("Another film has begun; this one is among the takes on disk.");
    }
    const { file } = await this.stage.session.request("save");
    return (await ask(file.url)).blob();
  }

  // How a watch goes.

  /** Whether a watch is to begin as soon as there is a session. */
  get _waits() {
    return Boolean(this.running) && !this.stage.session.open;
  }

  async _begin(timeOf = null) {
    const source = (this.running = { timeOf });
    const { session } = this.stage;
    this._notice(this._waits ? notice(session, this.stage.take, true).text : LOADING);
    this._render();
    const prompt = this.querySelector("[name=instruction]").value;
    let ack;
    try {
      const film = this.source === "film";
      ack = await session.request("watch", { prompt, seed: newSeed(), film });
    } catch (error) {
      if (this.running === source) this.stop(sentence(error));
      return;
    }
    if (this.running !== source || this.source === null) {
      session.request("unwatch").catch(() => {});
      return;
    }
    this.watch = ack.watch;
    this.take = this.stage.take.number;
    this.moments.round = ack.round;
    this.most = ROUNDS_AHEAD * ack.round * ack.fps;
    this.unheard = [];
    this.dropped = 0;
    this.sampler?.stop();
    if (timeOf) {
      this.sampler = new Sampler(this.video, {
        timeOf,
        onFrame: (time, jpeg) => this._show(time, jpeg),
      });
      this.sampler.start(ack);
    }
    this._notice("");
    this._say("");
    this._render();
  }

  _show(time, jpeg) {
    if (!this.watch || !this.stage.connection.post(packShown(this.watch, time, jpeg))) return;
    this.unheard.push(time);
    if (this.source === "camera") {
      const { videoWidth, videoHeight } = this.video;
      this.moments.keep(time, this.video, videoWidth, videoHeight);
    }
    // A file can wait.
    if (this.source === "file" && this.unheard.length > this.most && !this.video.paused) {
      this.waits = true;
      this.video.pause();
    }
  }

  _heard(end) {
    this.unheard = this.unheard.filter((time) => time >= end);
    if (this.waits && this.unheard.length <= this.most / 2) {
      this.waits = false;
      this.video.play().catch(() => {});
    }
  }

  /** The file is at its end. */
  async _finish() {
    const { sampler } = this;
    // The last frame may still be on its way.
    await sampler?.order;
    if (this.source !== "file" || this.sampler !== sampler) return;
    this._unwatch();
    this._say("The video is over.");
  }

  _unwatch() {
    if (this.watch) this.stage.session.request("unwatch").catch(() => {});
    this.ending = this.watch ?? this.ending;
    this.watch = this.running = null;
    this.waits = false;
    this._render();
  }

  /** While the film is watched, it goes on in either tab, and is shown in the one in sight. */
  _placeFilm() {
    const watched = this.source === "film";
    const here = watched && !this.hidden;
    this.canvas.hidden = !here;
    this.video.hidden = here;
    this.stage.showOn(here ? this.canvas : null);
    this.stage.goOn(watched);
    if (!watched) this.stage.querySelector(".lt-caption").textContent = "";
  }

  _away() {
    if (!document.hidden && !this.hidden) return;
    if (this.source === "camera") this.stop("The camera was stopped, as this was out of sight.");
    this.waits = false;
    this.video.pause();
  }

  _unplayable() {
    this.stop(`This browser cannot play ${this.fileName}: try an MP4 or a WebM.`);
  }

  _takeDrops(place) {
    place.addEventListener("dragover", (event) => event.preventDefault());
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file && this.dataset.lacks === undefined) this.openFile(file);
    });
  }

  // What the server tells.

  /** The connection stands again: on with the watch, or another one where the session is new. */
  _ready({ resumed }) {
    this.unheard = [];
    this._heard(0);
    // What a lost connection swallowed of a line is not repeated.
    this.builder.end();
    if (this.running && !this.watch) this._notice(LOADING);
    if (resumed || !this.watch) return;
    if (this.source !== "film") return this._begin(this.running.timeOf);
    this.watch = null;
    this.stop("The film has ended with its session: watch the next one.");
  }

  _words(words) {
    if (words.watch !== this.watch && words.watch !== this.ending) return;
    const line = this.builder.add(words);
    if (line) this.lines.add(line);
    if (words.final) this._heard(words.end);
    // A line stays until the next one begins.
    const text = line?.text ?? this.builder.text;
    if (text) this._caption(text);
    if (line?.kind === "answer") this._say("");
  }

  _watching({ watch, what, message, hint, frames }) {
    if (watch !== this.watch) return;
    if (what === "dropped") {
      this.dropped += frames;
      this._say(`Too slow for it: ${this.dropped} frames were passed over.`);
    } else if (what === "ended" || what === "failed") {
      this.watch = null;
      const line = this.builder.end();
      if (line) this.lines.add(line);
      this.stop(sentence({ message, hint }));
    } else {
      this._say(sentence({ message, hint }));
    }
  }

  // What the page shows.

  _notice(text) {
    const notice = this.querySelector(".lt-told");
    notice.dataset.shown = text ? "yes" : "no";
    notice.firstElementChild.textContent = text;
  }

  _say(text) {
    this.querySelector(".lt-happens").textContent = text;
  }

  _render() {
    const find = (name) => this.querySelector(name);
    find(".lt-onair").hidden = this.source !== "camera";
    find(".lt-stop").disabled = this.source === null;
    find("[name=question]").disabled = find("form button").disabled = this.watch === null;
  }

  /** Times begin anew with what is shown; `film` gives it, null where nothing is kept of it. */
  _newTranscript(film) {
    this.lines.reset(film);
    this.moments.reset();
    this.ending = null;
    this.builder = new LineBuilder();
    this._caption("");
  }

  /** Below the picture, in both tabs where it is the film's. */
  _caption(text) {
    this.querySelector(".lt-caption").textContent = text;
    if (this.source === "film") this.stage.querySelector(".lt-caption").textContent = text;
  }

  /** Show a line's moment. */
  _seek(line) {
    if (this.source === "file") this.video.currentTime = line.start;
    else if (!this.moments.show(line)) this._say("No picture of that moment is kept.");
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

customElements.define("longtake-witness", Witness);
