// A small chart of what was measured lately.

const POINTS = 60;
const WIDTH = 120;
const HEIGHT = 28;

/** Draws one or two rows of numbers, the newest at the right, from 0 to the largest. */
export class Sparkline {
  /** @param {HTMLElement} element takes an SVG for each of its `count` rows. */
  constructor(element, count) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", `0 -1 ${WIDTH} ${HEIGHT + 2}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    this.rows = Array.from({ length: count }, () => {
      const line = document.createElementNS(space, "polyline");
      svg.append(line);
      return { line, values: [] };
    });
    element.append(svg);
  }

  /** Add one number a row. */
  add(...numbers) {
    this.rows.forEach(({ values }, index) => {
      values.push(numbers[index]);
      if (values.length > POINTS) values.shift();
    });
  }

  /** Show what was added. */
  draw() {
    const top = Math.max(1e-9, ...this.rows.flatMap(({ values }) => values));
    for (const { line, values } of this.rows) {
      const left = POINTS - values.length;
      const points = values.map((value, index) => {
        const x = (WIDTH * (left + index)) / (POINTS - 1);
        return `${x.toFixed(1)},${(HEIGHT * (1 - value / top)).toFixed(1)}`;
      });
      line.setAttribute("points", points.join(" "));
    }
  }
}
