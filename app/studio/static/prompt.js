// The prompt box: what is typed, which of its words the model knows, and when it is sent.

const WORD = /[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*/gu;
const LIVE_WAIT = 350;

/** What is known of words; each is asked for once. */
class Words {
  constructor() {
    this.nearest = new Map();
  }

  /** Learn of the words of a text that were not met before. */
  async learn(text) {
    const words = (text.toLowerCase().match(WORD) ?? []).filter((word) => !this.nearest.has(word));
    if (words.length === 0) return;
    const response = await fetch(`spelling?${new URLSearchParams({ text: words.join(" ") })}`);
    if (!response.ok) return;
    const { unknown } = await response.json();
    for (const word of words) this.nearest.set(word, word in unknown ? unknown[word] : word);
  }

  /** Whether the model knows a word; undefined where that is not known yet. */
  knows(word) {
    const nearest = this.nearest.get(word.toLowerCase());
    return nearest === undefined ? undefined : nearest === word.toLowerCase();
  }

  suggestion(word) {
    return this.nearest.get(word.toLowerCase()) ?? null;
  }
}

/** A form with a text field, a switch for live mode, a time and a length of transition. */
export class PromptBox {
  /**
   * @param {HTMLFormElement} form
   * @param {(prompt: {text: string, at: number, transition: number}) => Promise} apply
   */
  constructor(form, apply) {
    this.form = form;
    this.apply = apply;
    this.words = new Words();
    this.sent = null;
    this.busy = false;
    const { text, live } = form.elements;
    Object.assign(this, { text, live, mirror: form.querySelector(".lt-mirror") });
    this.suggestions = form.querySelector(".lt-suggestions");
    this.hint = form.querySelector(".lt-hint");
    text.addEventListener("input", () => this._typed());
    text.addEventListener("blur", () => this._check(true));
    text.addEventListener("keydown", (event) => this._key(event));
    text.addEventListener("compositionstart", () => (this.composing = true));
    text.addEventListener("compositionend", () => {
      this.composing = false;
      this._typed();
    });
    // The field keeps the focus, or its loss would draw the suggestions anew under the pointer.
    this.suggestions.addEventListener("mousedown", (event) => event.preventDefault());
    live.addEventListener("change", () => this._typed());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this._typed();
  }

  /** Put a text into the box, to be changed or applied. */
  fill(text) {
    this.text.value = text;
    this.text.focus();
    this._typed();
    this._check(true);
  }

  /** What stands in the box was applied by other means. */
  taken(text) {
    this.sent = text;
    this._mark();
  }

  /** Apply what the box holds. */
  async submit() {
    const text = this.text.value.trim();
    const { at, transition } = this.form.elements;
    if (!text) return;
    this._check(true);
    const prompt = { text, at: at.valueAsNumber || 0, transition: transition.valueAsNumber || 0 };
    at.value = "";
    await this._send(prompt);
  }

  _key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  _typed() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
    this._mark();
    this._check(false);
    clearTimeout(this.timer);
    if (!this.live.checked || this.composing) return;
    this.timer = setTimeout(() => this._live(), LIVE_WAIT);
  }

  /** What live mode sends: the words that the model knows. */
  async _live() {
    if (this.busy || !this.live.checked) return;
    await this.words.learn(this.text.value).catch(() => {});
    const known = this.text.value.replace(WORD, (word) => (this.words.knows(word) ? word : ""));
    const text = known.replace(/\s+/g, " ").trim();
    if (!text.match(WORD) || text === this.sent) return;
    await this._send({ text, at: 0, transition: this.form.elements.transition.valueAsNumber || 0 });
    // What was typed meanwhile is the newest; whatever was between is passed over.
    this._live();
  }

  async _send(prompt) {
    this.busy = true;
    this.sent = prompt.text;
    this._mark();
    try {
      await this.apply(prompt);
    } finally {
      this.busy = false;
    }
  }

  /** A word that is still being typed is not judged. */
  async _check(finished) {
    const text = this.text.value;
    const done = finished ? text : text.replace(/[\p{L}\p{N}'’]+$/u, "");
    await this.words.learn(done).catch(() => {});
    if (text === this.text.value) this._underline(done);
  }

  _underline(done) {
    const words = [...done.matchAll(WORD)].filter(([word]) => this.words.knows(word) === false);
    const marks = [];
    let from = 0;
    for (const { 0: word, index } of words) {
      const mark = document.createElement("mark");
      mark.textContent = word;
      marks.push(this.text.value.slice(from, index), mark);
      from = index + word.length;
    }
    this.mirror.replaceChildren(...marks, this.text.value.slice(from));
    const unknown = [...new Set(words.map(([word]) => word))];
    this.suggestions.replaceChildren(...unknown.map((word) => this._suggest(word)));
  }

  _suggest(word) {
    const nearest = this.words.suggestion(word);
    const item = document.createElement(nearest ? "button" : "span");
    item.textContent = nearest ? `${word} → ${nearest}` : `${word}: not known, passed over`;
    if (nearest) {
      item.type = "button";
      item.setAttribute("aria-label", `Replace ${word} by ${nearest}`);
      item.addEventListener("click", () => {
        const replaced = (found) => (found === word ? nearest : found);
        this.fill(this.text.value.replace(WORD, replaced));
      });
    }
    return item;
  }

  /** Say at once whether what stands in the box was sent. */
  _mark() {
    const text = this.text.value.trim();
    const draft = text !== "" && text !== this.sent;
    this.form.dataset.state = draft ? "draft" : "sent";
    const live = "Live: applied as you type";
    this.hint.textContent = this.live.checked ? live : draft ? "Enter applies" : "";
  }
}
