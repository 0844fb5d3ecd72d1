// Gradio's loading screen goes on asking for animation frames after it is gone (6.31): sixty times a
// second, for nothing, a tenth of a core that the film needs. While nobody touches the page, whoever
// wants to animate something waits. The film does not ask for animation frames.
//
// app/studio/calm.py puts it into the page ahead of Gradio's modules.

(() => {
  // Milliseconds from the last touch to calm, and between two frames then.
  const CALM_AFTER = 2000;
  const EVERY = 1000;
  const request = window.requestAnimationFrame.bind(window);
  const cancel = window.cancelAnimationFrame.bind(window);
  let touched = performance.now();
  const touch = () => (touched = performance.now());
  for (const type of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
    window.addEventListener(type, touch, { capture: true, passive: true });
  }

  window.requestAnimationFrame = (callback) => {
    if (performance.now() - touched < CALM_AFTER) return request(callback);
    // A timer's number, told from a frame's by its sign.
    return -setTimeout(() => request(callback), EVERY);
  };
  window.cancelAnimationFrame = (id) => (id < 0 ? clearTimeout(-id) : cancel(id));
})();
