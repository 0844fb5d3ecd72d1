// The take's prompts over time: where each took effect, and those that wait for their time.

const SHORTEST = 20;

/** Draws prompts as segments of a line; each is a button that uses its prompt again. */
export class Timeline {
  /**
   * @param {HTMLElement} element
   * @param {HTMLElement} read where it is told how the prompts on the screen are read.
   * @param {(text: string) => void} use
   */
  constructor(element, read, use) {
    this.list = element.querySelector("ol");
    this.head = element.querySelector(".lt-playhead");
    this.clock = element.querySelector("time");
    this.read = read;
    this.use = use;
    this.marks = [];
    this.waiting = [];
    this.now = 0;
  }

  /**
   * @param {{time: number, text: string, read?: string}[]} marks prompts that took effect.
   * @param {{time: number, text: string}[]} waiting those that did not yet.
   */
  show(marks, waiting) {
    this.marks = marks;
    this.waiting = waiting.filter(({ time }) => time !== undefined);
    this._layOut(true);
  }

  /** Film shown so far, in seconds: for every frame, so nothing is touched that stays. */
  move(now) {
    const text = clock(now);
    if (text !== this.told) this.clock.textContent = this.told = text;
    this.now = now;
    if (now > 0.9 * this.span || !this.span) this._layOut(false);
    else this._point();
  }

  _layOut(rebuild) {
    const last = Math.max(0, ...[...this.marks, ...this.waiting].map(({ time }) => time));
    this.span = Math.max(SHORTEST, 1.5 * this.now, 1.15 * last);
    const segments = [
      ...this.marks.map((mark) => ({ ...mark, waits: false })),
      ...this.waiting.map((mark) => ({ ...mark, waits: true })),
    ];
    if (rebuild) {
      this.list.replaceChildren(...segments.map((segment) => this._segment(segment)));
      this.current = -1;
    }
    segments.forEach(({ time }, index) => {
      const { style } = this.list.children[index];
      // Those of one time share the line up to the next one.
      const first = segments.findIndex((each) => each.time === time);
      const end = segments.find((each) => each.time > time)?.time ?? this.span;
      const count = segments.filter((each) => each.time === time).length;
      const width = Math.max(0, end - time) / count;
      style.left = `${(100 * (time + (index - first) * width)) / this.span}%`;
      style.width = `${(100 * width) / this.span}%`;
    });
    this._point();
  }

  /** Move the head, and tell the prompt that is on the screen from the others. */
  _point() {
    // As wide as the line, so that it moves without another layout of the page.
    this.head.style.transform = `translateX(${(100 * this.now) / this.span}%)`;
    const current = this.marks.findLastIndex(({ time }) => time <= this.now);
    if (current === this.current) return;
    this.current = current;
    const { read } = this.marks[current] ?? {};
    this.read.hidden = !read;
    this.read.textContent = read ? `Read as “${read}”` : "";
    const inForce = ({ time }) => time <= this.now && time === this.marks[current].time;
    [...this.list.children].forEach((item, index) => {
      const { firstChild: button } = item;
      if (inForce(this.marks[index] ?? {})) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
  }

  _segment({ time, text, waits }) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = waits ? "lt-waits" : "";
    button.textContent = text;
    button.title = `${time.toFixed(2)} s: ${text}`;
    const state = waits ? "waits for" : "since";
    button.setAttribute("aria-label", `${text}, ${state} ${time.toFixed(1)} seconds. Use again`);
    button.addEventListener("click", () => this.use(text));
    item.append(button);
    return item;
  }
}

/** Seconds as minutes and seconds. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
