// Keeps a session connected: a WebSocket, and another one whenever it is lost.

import { readFrame } from "./wire.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;
// Bytes that wait to be sent; behind more of them a live frame would come too late.
const MOST_WAITING = 500_000;

/** Connects a session to the server that the page came from, over and over until it ends. */
export class Connection {
  /**
   * @param {Session} session
   * @param {(frame: object) => void} onFrame
   */
  constructor(session, onFrame) {
    this.session = session;
    this.onFrame = onFrame;
    this.wait = FIRST_WAIT;
    this.timer = null;
    window.addEventListener("online", () => this.again());
  }

  connect() {
    this.timer = null;
    const url = new URL("stream", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    // What a closing connection would swallow is sent again over the next one.
    const send = (text) => socket.readyState === WebSocket.OPEN && socket.send(text);
    socket.addEventListener("open", () => this.session.connected(send));
    socket.addEventListener("message", ({ data }) => this._take(socket, data));
    socket.addEventListener("close", () => this._closed());
    this.socket = socket;
  }

  /** Try at once what would be tried later. */
  again() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.connect();
  }

  /** Send bytes, now or not at all; whether they were. */
  post(bytes) {
    const { socket } = this;
    const stands = this.session.open && socket.readyState === WebSocket.OPEN;
    if (!stands || socket.bufferedAmount > MOST_WAITING) return false;
    socket.send(bytes);
    return true;
  }

  _take(socket, data) {
    this.wait = FIRST_WAIT;
    if (typeof data === "string") {
      this.session.receive(data);
      return;
    }
    try {
      const frame = readFrame(data);
      this.session.received(frame);
      this.onFrame(frame);
    } catch (error) {
      console.warn(error.message);
      socket.close();
    }
  }

  _closed() {
    this.session.disconnected();
    if (this.session.phase === "ended") return;
    this.timer = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }
}
