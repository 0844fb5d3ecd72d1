// Captions put into an MP4 as a track that a player shows or hides. The film itself is neither
// read nor moved, and never leaves the browser: the new index and the words go behind it, and the
// index before becomes free space, so that every offset in it stays true (ISO/IEC 14496-12).

import { spoken } from "./transcript.js";

// Of the track's times, a second.
const TICKS = 1000;
const text = new TextEncoder();

/**
 * A copy of a film with lines as subtitles.
 * @param {Blob} film an MP4.
 * @param {{start: number, end: number, text: string}[]} lines in order, in seconds; each is shown
 *   until the next one begins at the latest.
 * @returns {Promise<Blob>}
 * @throws {Error} it is no MP4 to which a track can be added.
 */
export async function addSubtitles(film, lines) {
  const top = await outline(film);
  const index = top.find(({ type }) => type === "moov");
  if (!index) throw new Error("Only an MP4 can take the captions in, and this is none.");
  if (top.some(({ type, open }) => type === "moof" || open)) {
    throw new Error("This MP4 is a fragmented one, which takes no captions in.");
  }
  const bytes = new Uint8Array(await film.slice(index.start, index.end).arrayBuffer());
  const moov = bytes.subarray(index.body - index.start);
  const head = header(moov);
  const samples = cues(lines, Math.round((TICKS * head.duration) / head.timescale));
  const words = box("mdat", ...samples.map(({ words }) => words));
  const track = trak(head, samples, film.size + 8);
  const more = moov.slice();
  new DataView(more.buffer).setUint32(head.nextTrack, head.track + 1);
  const free = bytes.slice(0, 8);
  free.set(text.encode("free"), 4);
  return new Blob(
    [film.slice(0, index.start), free, film.slice(index.start + 8), words, box("moov", more, track)],
    { type: "video/mp4" },
  );
}

/** The boxes of a file: {type, start, body, end, open}, whose `open` lasts to the file's end. */
async function outline(file) {
  const boxes = [];
  for (let start = 0; start + 8 <= file.size; start = boxes.at(-1).end) {
    const view = new DataView(await file.slice(start, start + 16).arrayBuffer());
    const type = nameOf(new Uint8Array(view.buffer));
    const short = view.getUint32(0);
    const wide = short === 1 && view.byteLength === 16;
    const size = wide ? Number(view.getBigUint64(8)) : short || file.size - start;
    const end = start + size;
    if (size < 8 || end > file.size) break;
    boxes.push({ type, start, body: start + (wide ? 16 : 8), end, open: short === 0 });
  }
  return boxes;
}

/** What the film's header says: timescale, duration, the next track's number and where that is. */
function header(moov) {
  const view = new DataView(moov.buffer, moov.byteOffset, moov.byteLength);
  if (nameOf(moov) !== "mvhd") throw new Error("The index of this MP4 is in an unusual order.");
  const long = view.getUint8(8) === 1;
  const timescale = view.getUint32(long ? 28 : 20);
  const duration = long ? Number(view.getBigUint64(32)) : view.getUint32(24);
  const nextTrack = view.getUint32(0) - 4;
  return { timescale, duration, nextTrack, track: view.getUint32(nextTrack) };
}

/** Samples without a gap between them, as timed text has them; an empty one shows nothing. */
function cues(lines, duration) {
  const samples = [];
  let at = 0;
  const add = (until, said) => {
    if (until <= at) return;
    const coded = text.encode(said);
    samples.push({ ticks: until - at, words: bytesOf(u16(coded.length), coded) });
    at = until;
  };
  lines.forEach((line, number) => {
    const next = lines[number + 1]?.start ?? Infinity;
    const [start, end] = [line.start, Math.min(line.end, next)].map((time) =>
      Math.min(duration, Math.round(TICKS * time)),
    );
    add(start, "");
    add(end, spoken(line));
  });
  return samples;
}

/** The track's box; its words begin at an offset in the file. */
function trak(head, samples, offset) {
  const ticks = samples.reduce((sum, sample) => sum + sample.ticks, 0);
  const duration = Math.round((ticks * head.timescale) / TICKS);
  const matrix = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000].map(u32);
  const none = u32(0);
  const tkhd = [none, none, u32(head.track), none, u32(duration), none, none, none, none];
  const mdhd = [none, none, u32(TICKS), u32(ticks), u16(0x55c4), u16(0)];
  const hdlr = [none, text.encode("sbtl"), none, none, none, text.encode("Captions\0")];
  const stts = samples.flatMap((sample) => [u32(1), u32(sample.ticks)]);
  const stsz = samples.map(({ words }) => u32(words.length));
  return box(
    "trak",
    // Enabled, and part of the film.
    full("tkhd", 3, ...tkhd, ...matrix, none, none),
    box(
      "mdia",
      full("mdhd", 0, ...mdhd),
      full("hdlr", 0, ...hdlr),
      box(
        "minf",
        full("nmhd", 0),
        box("dinf", full("dref", 0, u32(1), full("url ", 1))),
        box(
          "stbl",
          full("stsd", 0, u32(1), timedText()),
          full("stts", 0, u32(samples.length), ...stts),
          full("stsc", 0, u32(1), u32(1), u32(samples.length), u32(1)),
          full("stsz", 0, none, u32(samples.length), ...stsz),
          full("co64", 0, u32(1), u32(Math.floor(offset / 2 ** 32)), u32(offset % 2 ** 32)),
        ),
      ),
    ),
  );
}

/** How the words look: white, centred, at the bottom (3GPP TS 26.245, 5.16). */
function timedText() {
  const where = [u32(0), new Uint8Array([1, 0xff]), u32(0), u32(0), u32(0)];
  const style = [u16(0), u16(0), u16(1), new Uint8Array([0, 18]), u32(0xffffffff)];
  const font = text.encode("Sans");
  const fonts = box("ftab", u16(1), u16(1), new Uint8Array([font.length]), font);
  return box("tx3g", u32(0), u16(0), u16(1), ...where, ...style, fonts);
}

function box(type, ...parts) {
  const body = bytesOf(...parts);
  return bytesOf(u32(8 + body.length), text.encode(type), body);
}

/** A box of version 0 with flags. */
function full(type, flags, ...parts) {
  return box(type, u32(flags), ...parts);
}

function nameOf(bytes) {
  return String.fromCharCode(...bytes.subarray(4, 8));
}

function u16(value) {
  return new Uint8Array([value >> 8, value & 0xff]);
}

function u32(value) {
  return new Uint8Array([value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff]);
}

function bytesOf(...parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
