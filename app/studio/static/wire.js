// Frames as they come over the WebSocket; docs/protocol.md has their layout.

export const PROTOCOL = 3;
const TAG = 0x46;
const HEADER = 32;
const SHOWN_TAG = 0x57;
const SHOWN_HEADER = 16;
const JPEG = 1;
const TYPES = { 1: "image/jpeg", 2: "image/webp" };

/**
 * The frame in a binary message.
 * @param {ArrayBuffer} buffer
 * @returns {{take: number, chunk: number, index: number, time: number, picture: Blob}}
 *   time is presentation time in seconds.
 * @throws {Error} it is no frame of this version.
 */
export function readFrame(buffer) {
  if (buffer.byteLength <= HEADER) throw new Error("a binary message is no frame: it is too short");
  const header = new DataView(buffer, 0, HEADER);
  const type = TYPES[header.getUint8(2)];
  const length = header.getUint32(12, true);
  const fits = header.getUint8(0) === TAG && header.getUint8(1) === PROTOCOL;
  if (!fits || !type || length !== buffer.byteLength - HEADER) {
    throw new Error("a binary message is no frame of this version");
  }
  return {
    take: header.getUint32(4, true),
    chunk: header.getUint32(8, true),
    index: Number(header.getBigUint64(16, true)),
    time: Number(header.getBigUint64(24, true)) / 1e6,
    picture: new Blob([new Uint8Array(buffer, HEADER)], { type }),
  };
}

/**
 * The binary message that shows a picture to the captioner.
 * @param {number} watch its number.
 * @param {number} time presentation time in seconds.
 * @param {ArrayBuffer} jpeg
 * @returns {Uint8Array}
 */
export function packShown(watch, time, jpeg) {
  const bytes = new Uint8Array(SHOWN_HEADER + jpeg.byteLength);
  const header = new DataView(bytes.buffer, 0, SHOWN_HEADER);
  [SHOWN_TAG, PROTOCOL, JPEG, 0].forEach((value, at) => header.setUint8(at, value));
  header.setUint32(4, watch, true);
  header.setBigUint64(8, BigInt(Math.round(1e6 * time)), true);
  bytes.set(new Uint8Array(jpeg), SHOWN_HEADER);
  return bytes;
}
