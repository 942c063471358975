// Reads one stat file as docs/format.md describes it, and prints it as JSON:
//
//     node reader.js FILE
//
// It was written from that page alone and shares no code with the library.
// Integers that a JSON number can't hold exactly are printed as strings, and so are NaN and infinities.
"use strict";

const fs = require("node:fs");

const MAGIC = "894d4d530d0a1a0a";
const HEADER = 128;
const MAX_REGION = 16 * 1024 * 1024;
const MAX_RECORD = 65536;
const MAX_FAMILIES = 65536;
const MAX_COUNT = 65536;
const DEADLINE_NS = 250_000_000n; // for all the cells that don't hold still

const IDENTITY = 1, FAMILY = 2, SERIES = 3;
const KEY = 1, VALUE = 2, NAME = 3, HELP = 4, UNIT = 5, LABEL_NAME = 6, COLUMN = 7, BOUNDS = 8, STATE = 9;
const LABEL_VALUE = 10;
const DESCRIPTIVE = 1, STATIC = 2, STAMPED = 4, OVERFLOW = 1;
const U64 = 1, I64 = 2, F64 = 3, BUFFERED = 4, TEXT = 4;

const WINDOW = [
  ["count", U64], ["sum", F64], ["last", F64], ["min", F64], ["max", F64], ["window_count", U64], ["window_sum", F64],
];
// Kinds of metrics by their code: the name, and the columns that the kind promises.
const KINDS = [
  null, ["counter"], ["gauge"], ["histogram", [["count", U64], ["sum", F64], ["buckets", U64]]], ["timer", WINDOW],
  ["average", WINDOW.slice(0, 2)], ["moving_average", WINDOW], ["text", [["text", TEXT]]], ["enum"],
  ["info", [["text", TEXT]]], ["bool"], ["struct", []],
];
const AGGREGATES = [null, "sum", "min", "max", "mean", "last", "all"];

class Refused extends Error {} // the whole file can't be read
class Damage extends Error {} // one record or one cell can't; the rest can

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true }); // invalid bytes become U+FFFD
const text = (bytes) => (bytes === undefined ? "" : utf8.decode(bytes));
const align8 = (n) => Math.ceil(n / 8) * 8;
const dictionary = () => Object.create(null); // names are data: "__proto__" is one like any other

// Up to `size` bytes from `position`; fewer if the file ends before.
function readAt(fd, position, size) {
  const bytes = Buffer.alloc(size);
  let done = 0;
  while (done < size) {
    const n = fs.readSync(fd, bytes, done, size - done, BigInt(position) + BigInt(done));
    if (n === 0) break;
    done += n;
  }
  return bytes.subarray(0, done);
}

function parseHeader(b) {
  if (b.length < HEADER) throw new Refused("the file has fewer than 128 bytes");
  if (b[0] === 1) throw new Refused("the file is of version 1");
  if (b.toString("hex", 0, 8) !== MAGIC) throw new Refused("this is not a stat file");
  const header = {
    major: b.readUInt16LE(8), minor: b.readUInt16LE(10), first_definition: b.readUInt32LE(12),
    committed: b.readBigUInt64LE(16), state: b.readBigUInt64LE(24), uuid: b.toString("hex", 32, 48),
    created: b.readBigUInt64LE(48), closed: b.readBigUInt64LE(56), heartbeat: b.readBigUInt64LE(64),
    pid: b.readUInt32LE(72), exit_status: b.readInt32LE(76), start_ticks: b.readBigUInt64LE(80),
    boot_id: b.toString("hex", 88, 104), pid_namespace: b.readBigUInt64LE(104), flags: b.readBigUInt64LE(112),
    inode: b.readBigUInt64LE(120),
  };
  if (header.state > 2n) header.state = 1n;
  const first = BigInt(header.first_definition);
  if (header.major !== 2) throw new Refused(`the file is of version ${header.major}`);
  if (first < HEADER || first % 8n) throw new Refused("first_definition is damaged");
  if (header.committed < first || header.committed % 8n) throw new Refused("committed is damaged");
  if (header.committed > MAX_REGION) throw new Refused("committed is over the limit");
  return header;
}

// The records of the run [from, to) of the file, whose bytes from 128 on are `bytes`, as far as they are whole.
function* records(bytes, from, to, problems) {
  for (let at = from; at < to; ) {
    const b = bytes.subarray(at - HEADER, to - HEADER);
    const size = b.length < 16 ? 0 : b.readUInt32LE(0);
    if (b.length < to - at && (b.length < 16 || size > b.length)) return problems.push("the file is cut off");
    if (size < 16 || size % 8 || size > MAX_RECORD || at + size > to) {
      return problems.push(`the record at ${at} is damaged, and what is behind it is lost`);
    }
    yield { at, kind: b.readUInt16LE(4), flags: b.readUInt16LE(6), cell: b.readBigUInt64LE(8), body: b.subarray(16, size) };
    at += size;
  }
}

// The attributes of a body from `at` on: a function from tags to lists of values.
function attributes(body, at) {
  const found = new Map();
  while (at < body.length) {
    if (at + 8 > body.length) throw new Damage("an attribute is cut off");
    const tag = body.readUInt16LE(at);
    const end = at + 8 + body.readUInt32LE(at + 4);
    if (end > body.length) throw new Damage("an attribute reaches beyond its record");
    if (!found.has(tag)) found.set(tag, []);
    found.get(tag).push(body.subarray(at + 8, end));
    at += 8 + align8(end - at - 8);
  }
  return (tag) => found.get(tag) ?? [];
}

function parseColumn(bytes) {
  if (bytes.length < 8) throw new Damage("a column is cut off");
  const [type, count] = [bytes[0], bytes.readUInt32LE(4)];
  if (type < U64 || type > TEXT) throw new Damage("a column's type is unknown");
  if (count < 1 || count > MAX_COUNT) throw new Damage("a column's count is out of range");
  return { name: text(bytes.subarray(8)), type, count, size: type === TEXT ? 8 + align8(count) : 8 * count };
}

function parseFamily({ body, flags }) {
  if (body.length < 8) throw new Damage("the family is cut off");
  const [kind, aggregate, cell] = body.subarray(4, 7);
  const get = attributes(body, 8);
  const columns = get(COLUMN).map(parseColumn);
  const bounds = get(BOUNDS).flatMap((b) => Array.from({ length: b.length >> 3 }, (_, i) => b.readDoubleLE(8 * i)));
  if (cell < U64 || cell > BUFFERED) throw new Damage("the cell type is unknown");
  if ((cell === BUFFERED) !== columns.length > 0) throw new Damage("cell type and columns contradict each other");
  const [name, promised] = KINDS[kind] ?? (cell === BUFFERED ? ["struct", []] : ["gauge"]);
  (promised ?? []).forEach(([column, type], i) => {
    const here = columns[i];
    const single = type !== TEXT && column !== "buckets";
    if (here?.name !== column || here.type !== type || (single && here.count !== 1)) {
      throw new Damage("the columns of its kind are missing");
    }
  });
  if ((cell === BUFFERED) !== (promised !== undefined)) throw new Damage("kind and cell type contradict each other");
  if (name === "histogram" && columns[2].count !== bounds.length + 1) throw new Damage("buckets and bounds don't fit");
  const buffer = columns.reduce((sum, column) => sum + column.size, 0);
  return {
    number: body.readUInt32LE(0), name: text(get(NAME)[0]), kind: name, aggregate: AGGREGATES[aggregate] ?? "all",
    help: text(get(HELP)[0]), unit: text(get(UNIT)[0]), labels: get(LABEL_NAME).map(text), states: get(STATE).map(text),
    descriptive: Boolean(flags & DESCRIPTIVE), static: Boolean(flags & STATIC), stamped: Boolean(flags & STAMPED),
    bounds, columns, cell, buffer, cellSize: columns.length ? 24 + 2 * buffer : flags & STAMPED ? 16 : 8,
  };
}

// What the two runs of records define: identity, families by their number, and series.
function parseDefinitions(bytes, header, problems) {
  const identity = dictionary();
  const families = new Map();
  const series = [];
  function define(record) {
    if (record.kind === IDENTITY) {
      const get = attributes(record.body, 0);
      identity[text(get(KEY)[0])] = get(VALUE).map(text);
    } else if (record.kind === FAMILY) {
      const family = parseFamily(record);
      if (family.number >= MAX_FAMILIES) throw new Damage("the family's number is over the limit");
      if (families.has(family.number)) throw new Damage("the family's number is taken");
      families.set(family.number, family);
    } else if (record.kind === SERIES) {
      if (record.body.length < 8) throw new Damage("the series is cut off");
      const labels = attributes(record.body, 8)(LABEL_VALUE).map(text);
      const family = families.get(record.body.readUInt32LE(0));
      if (family === undefined) return;
      if (record.cell === 0n || record.cell % 8n) throw new Damage("the cell's offset is damaged");
      if (labels.length !== family.labels.length) throw new Damage("the series has another number of labels");
      series.push({ family, labels, overflow: Boolean(record.flags & OVERFLOW), cell: record.cell, value: null });
    }
  }
  for (const [from, to] of [[HEADER, header.first_definition], [header.first_definition, Number(header.committed)]]) {
    for (const record of records(bytes, from, to, problems)) {
      if (from === HEADER && record.kind !== IDENTITY) continue; // families and series are in the stream
      try {
        define(record);
      } catch (error) {
        if (!(error instanceof Damage)) throw error;
        problems.push(`the record at ${record.at} is damaged: ${error.message}`);
      }
    }
  }
  return { identity, families, series };
}

// The series in the order of their cells, without those whose cells overlap others; the region of all cells.
function layOut(series, problems) {
  const end = (one) => one.cell + BigInt(one.family.cellSize);
  const sorted = [...series].sort((a, b) => (a.cell < b.cell ? -1 : a.cell > b.cell ? 1 : 0));
  const from = sorted.length ? sorted[0].cell : 0n;
  const to = sorted.reduce((last, one) => (end(one) > last ? end(one) : last), from);
  if (to >= 1n << 63n || to - from > MAX_REGION) throw new Refused("the cells are over the limit");
  let free = 0n;
  const kept = sorted.filter((one) => {
    const fits = one.cell >= free;
    if (fits) free = end(one);
    else problems.push(`${one.family.name}: the cell at ${one.cell} overlaps another`);
    return fits;
  });
  return { kept, from, size: Number(to - from) };
}

const readWord = { [U64]: (b, at) => b.readBigUInt64LE(at), [I64]: (b, at) => b.readBigInt64LE(at), [F64]: (b, at) => b.readDoubleLE(at) };

function decodeColumn({ type, count }, buffer, at) {
  if (type !== TEXT) {
    const words = Array.from({ length: count }, (_, i) => readWord[type](buffer, at + 8 * i));
    return words;
  }
  const length = buffer.readBigUInt64LE(at);
  if (length > count) throw new Damage("a text is longer than its capacity");
  return [text(buffer.subarray(at + 8, at + 8 + Number(length)))];
}

function parseInfo(json) {
  try {
    const found = JSON.parse(json || "{}");
    if (found !== null && typeof found === "object" && !Array.isArray(found)) return found;
  } catch {}
  throw new Damage("the text is no JSON object");
}

const mean = (sum, count) => (count ? sum / Number(count) : null);

// One whole buffer -> the series' value and time.
function decodeBuffer(family, buffer) {
  const columns = dictionary();
  let at = 0;
  let time;
  family.columns.forEach((column, i) => {
    const found = decodeColumn(column, buffer, at);
    at += column.size;
    if (family.stamped && i === family.columns.length - 1) time = found[0];
    else columns[column.name] = column.count === 1 || column.type === TEXT ? found[0] : found;
  });
  if (family.kind === "text") return { value: columns.text, time };
  if (family.kind === "info") return { value: parseInfo(columns.text), time };
  if (family.kind === "histogram") Object.assign(columns, { bounds: family.bounds, buckets: [columns.buckets].flat() });
  if (family.kind === "average") columns.mean = mean(columns.sum, columns.count);
  if (family.kind === "moving_average") columns.mean = mean(columns.window_sum, columns.window_count);
  return { value: columns, time };
}

function decodeWord(family, cell) {
  const word = readWord[family.cell](cell, 0);
  const time = family.stamped ? cell.readBigUInt64LE(8) : undefined;
  if (family.kind === "bool") return { value: Boolean(word), time };
  if (family.kind === "enum") return { value: family.states[word] ?? word, time };
  return { value: word, time };
}

// One cell out of three reads, one after the other; undefined if the buffer was written to meanwhile.
function decodeCell(family, first, second, third) {
  if (Math.min(first.length, second.length, third.length) < family.cellSize) {
    throw new Damage("the cell is behind the end of the file");
  }
  if (family.cell !== BUFFERED) return decodeWord(family, second);
  const seq = first.readBigUInt64LE(8);
  if (second.readBigUInt64LE(16) !== BigInt(family.buffer)) throw new Damage("the size of the buffers is wrong");
  if (third.readBigUInt64LE(0) > seq + 1n) return undefined;
  const at = 24 + Number(seq & 1n) * family.buffer;
  return decodeBuffer(family, second.subarray(at, at + family.buffer));
}

// All cells share three reads; those that did not hold still get three of their own, until the deadline.
function readCells(fd, { kept, from, size }, problems) {
  const threeReads = (at, n) => [readAt(fd, at, n), readAt(fd, at, n), readAt(fd, at, n)];
  const shared = threeReads(from, size);
  const deadline = process.hrtime.bigint() + DEADLINE_NS;
  for (const one of kept) {
    const at = Number(one.cell - from);
    try {
      let found = decodeCell(one.family, ...shared.map((b) => b.subarray(at, at + one.family.cellSize)));
      while (found === undefined && process.hrtime.bigint() < deadline) {
        found = decodeCell(one.family, ...threeReads(one.cell, one.family.cellSize));
      }
      if (found === undefined) throw new Damage("the cell does not hold still");
      Object.assign(one, found);
    } catch (error) {
      if (!(error instanceof Damage)) throw error;
      problems.push(`${[one.family.name, ...one.labels].join(" ")}: ${error.message}`);
    }
  }
}

function readFile(path) {
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = fs.constants;
  const fd = fs.openSync(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  try {
    if (!fs.fstatSync(fd).isFile()) throw new Refused("this is not a regular file");
    const problems = [];
    const header = parseHeader(readAt(fd, 0, HEADER));
    const bytes = readAt(fd, HEADER, Number(header.committed) - HEADER);
    const { identity, families, series } = parseDefinitions(bytes, header, problems);
    const cells = layOut(series, problems);
    readCells(fd, cells, problems);
    const values = dictionary();
    for (const family of families.values()) {
      const { kind, unit, help, aggregate, descriptive, stamped, labels } = family;
      const entry = { kind, unit, help, aggregate, descriptive, static: family.static, stamped, labels, series: [] };
      values[family.name] = entry;
      family.entry = entry;
    }
    const rank = new Set(cells.kept);
    for (const one of series.filter((each) => rank.has(each))) {
      one.family.entry.series.push({ labels: one.labels, overflow: one.overflow, value: one.value, time: one.time });
    }
    return { header, identity, values, problems };
  } finally {
    fs.closeSync(fd);
  }
}

// JSON has neither 64-bit integers nor NaN and infinities.
function plain(_, value) {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

let found;
try {
  found = readFile(process.argv[2]);
} catch (error) {
  found = { error: error.message };
  process.exitCode = 1;
}
process.stdout.write(JSON.stringify(found, plain) + "\n");
