// Reads one stat file as docs/format.md describes it, and prints it as JSON:
//
//     node reader.js FILE
//
// It was written from that page alone and shares no code with the library.
// Integers that a JSON number can't hold exactly are printed as strings, and so are NaN and the infinities.
"use strict";

const fs = require("node:fs");

const MAGIC = "894d4d530d0a1a0a";
const HEADER = 128;
const MAX_REGION = 16777216n;
const MAX_RECORD = 65536, MAX_FAMILIES = 65536, MAX_COUNT = 65536;
const DEADLINE = 250_000_000n; // nanoseconds, for all the cells that don't hold still

const IDENTITY = 1, FAMILY = 2, SERIES = 3; // kinds of records
const KEY = 1, VALUE = 2, NAME = 3, HELP = 4, UNIT = 5, LABEL_NAME = 6, COLUMN = 7, BOUNDS = 8, STATE = 9, LABEL_VALUE = 10;
const STAMPED = 4, OVERFLOW = 1; // flags
const U64 = 1, I64 = 2, F64 = 3, TEXT = 4, BUFFERED = 4; // types of words, columns and cells

// Kinds of metrics by their code, and the columns that they promise: [name, type, whether it may hold many].
const SUMS = [["count", U64], ["sum", F64]];
const WINDOW = [...SUMS, ["last", F64], ["min", F64], ["max", F64], ["window_count", U64], ["window_sum", F64]];
const KINDS = [
  undefined, ["counter"], ["gauge"], ["histogram", [...SUMS, ["buckets", U64, true]]], ["timer", WINDOW],
  ["average", SUMS], ["moving_average", WINDOW], ["text", [["text", TEXT, true]]], ["enum"],
  ["info", [["text", TEXT, true]]], ["bool"], ["struct", []],
];
const AGGREGATES = [undefined, "sum", "min", "max", "mean", "last", "all"];

class Refused extends Error {} // the whole file can't be read
class Damage extends Error {} // one record or one cell can't be read; the others can

function check(condition, message, type = Damage) {
  if (!condition) throw new type(message);
}

// Do something that may meet damage, and go on behind it.
function salvage(problems, what, action) {
  try {
    action();
  } catch (error) {
    if (!(error instanceof Damage)) throw error;
    problems.push(`${what}: ${error.message}`);
  }
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true }); // invalid bytes become U+FFFD
const text = (bytes) => utf8.decode(bytes);
const align8 = (n) => Math.ceil(n / 8) * 8;
const dictionary = () => Object.create(null); // in which "__proto__" is a name like any other
const words = {
  [U64]: (bytes, at) => bytes.readBigUInt64LE(at),
  [I64]: (bytes, at) => bytes.readBigInt64LE(at),
  [F64]: (bytes, at) => bytes.readDoubleLE(at),
};

// `size` bytes from `position`, or fewer if the file ends before.
function readAt(fd, position, size) {
  const bytes = Buffer.alloc(size);
  let done = 0;
  for (let n = -1; n !== 0 && done < size; done += n) {
    n = fs.readSync(fd, bytes, done, size - done, BigInt(position) + BigInt(done));
  }
  return bytes.subarray(0, done);
}

function parseHeader(b) {
  check(b.length === HEADER, "the file has fewer than 128 bytes", Refused);
  check(b.toString("hex", 0, 8) === MAGIC, b[0] === 1 ? "the file is of version 1" : "this is no stat file", Refused);
  const [u32, u64] = [(at) => b.readUInt32LE(at), (at) => words[U64](b, at)];
  const header = {
    major: b.readUInt16LE(8), minor: b.readUInt16LE(10), first_definition: u32(12), committed: u64(16),
    state: u64(24) > 2n ? 1n : u64(24), uuid: b.toString("hex", 32, 48), created: u64(48), closed: u64(56),
    heartbeat: u64(64), pid: u32(72), exit_status: b.readInt32LE(76), start_ticks: u64(80),
    boot_id: b.toString("hex", 88, 104), pid_namespace: u64(104), flags: u64(112), inode: u64(120),
  };
  const { major, first_definition: first, committed } = header;
  check(major === 2, `the file is of version ${major}`, Refused);
  check(first >= HEADER && first % 8 === 0, "first_definition is damaged", Refused);
  check(committed >= first && committed % 8n === 0n, "committed is damaged", Refused);
  check(committed <= MAX_REGION, "committed is over the limit", Refused);
  return header;
}

// The records of the run [from, to), as far as they are whole. `file` holds what there is of [0, committed).
function* records(file, from, to, problems) {
  for (let at = from, size; at < to; at += size) {
    const head = file.subarray(at, at + 16);
    size = head.length < 16 ? 16 : head.readUInt32LE(0);
    if (size < 16 || size % 8 || size > MAX_RECORD || at + size > to) {
      return problems.push(`the record at ${at} is damaged, and what follows it is lost`);
    }
    if (at + size > file.length) return problems.push("the file ends before its definitions");
    const body = file.subarray(at + 16, at + size);
    yield { at, kind: head.readUInt16LE(4), flags: head.readUInt16LE(6), cell: head.readBigUInt64LE(8), body };
  }
}

// The attributes of a body from `at` on, as a function from a tag to its values.
function attributes(body, at) {
  const found = new Map();
  check(at <= body.length, "the body is cut off");
  for (let next; at < body.length; at = next) {
    check(at + 8 <= body.length, "an attribute is cut off");
    const [tag, n] = [body.readUInt16LE(at), body.readUInt32LE(at + 4)];
    next = at + 8 + align8(n);
    check(next <= body.length, "an attribute reaches beyond its record");
    if (!found.has(tag)) found.set(tag, []);
    found.get(tag).push(body.subarray(at + 8, at + 8 + n));
  }
  return (tag) => found.get(tag) ?? [];
}

function parseColumn(bytes) {
  check(bytes.length >= 8, "a column is cut off");
  const [type, count, name] = [bytes[0], bytes.readUInt32LE(4), text(bytes.subarray(8))];
  check(type >= U64 && type <= TEXT, "the type of a column is unknown");
  check(count >= 1 && count <= MAX_COUNT, "the count of a column is out of range");
  return { name, type, count, size: type === TEXT ? 8 + align8(count) : 8 * count };
}

function parseFamily({ body, flags }) {
  const get = attributes(body, 8);
  const [number, kind, aggregate, cell] = [body.readUInt32LE(0), ...body.subarray(4, 7)];
  const columns = get(COLUMN).map(parseColumn);
  const bounds = get(BOUNDS).flatMap((b) => Array.from({ length: b.length >> 3 }, (_, i) => b.readDoubleLE(8 * i)));
  check(number < MAX_FAMILIES, "the number of the family is over the limit");
  check(cell >= U64 && cell <= BUFFERED, "the cell type is unknown");
  const [name, promised] = KINDS[kind] ?? (cell === BUFFERED ? ["struct", []] : ["gauge"]);
  check((cell === BUFFERED) === columns.length > 0, "cell type and columns contradict each other");
  check((cell === BUFFERED) === (promised !== undefined), "cell type and kind contradict each other");
  for (const [i, [column, type, many]] of (promised ?? []).entries()) {
    const { name: found, type: typeFound, count } = columns[i] ?? {};
    check(found === column && typeFound === type && (many || count === 1), `the column ${column} is missing`);
  }
  check(name !== "histogram" || columns[2].count === bounds.length + 1, "buckets and bounds contradict each other");
  const buffer = columns.reduce((sum, column) => sum + column.size, 0); // the size of one buffer
  const one = (tag) => text(get(tag)[0]);
  return {
    number, name: one(NAME), kind: name, aggregate: AGGREGATES[aggregate] ?? "all", unit: one(UNIT), help: one(HELP),
    labels: get(LABEL_NAME).map(text), states: get(STATE).map(text), stamped: Boolean(flags & STAMPED), bounds, columns,
    cell, buffer, cellSize: cell === BUFFERED ? 24 + 2 * buffer : flags & STAMPED ? 16 : 8, series: [],
  };
}

// What the records of both runs define: the identity, and families by their number, with their series.
function parseDefinitions(file, { first_definition: first, committed }, problems) {
  const [identity, families] = [dictionary(), new Map()];
  const define = {
    [IDENTITY]({ body }) {
      const get = attributes(body, 0);
      identity[text(get(KEY)[0])] = get(VALUE).map(text);
    },
    [FAMILY](record) {
      const family = parseFamily(record);
      check(!families.has(family.number), "the number of the family is taken");
      families.set(family.number, family);
    },
    [SERIES]({ body, flags, cell }) {
      const labels = attributes(body, 8)(LABEL_VALUE).map(text);
      const family = families.get(body.readUInt32LE(0));
      if (family === undefined) return;
      check(cell !== 0n && cell % 8n === 0n, "the offset of the cell is wrong");
      check(labels.length === family.labels.length, "label names and label values don't fit");
      family.series.push({ family, labels, overflow: Boolean(flags & OVERFLOW), value: null, cell });
    },
  };
  for (const [from, to, known] of [[HEADER, first, [IDENTITY]], [first, Number(committed), [IDENTITY, FAMILY, SERIES]]]) {
    for (const record of records(file, from, to, problems)) {
      if (!known.includes(record.kind)) continue;
      salvage(problems, `the record at ${record.at}`, () => define[record.kind](record));
    }
  }
  return { identity, families: [...families.values()] };
}

// The region of all cells, after dropping the series whose cells overlap one at a lower offset.
function layOut(families, problems) {
  const series = families.flatMap((family) => family.series);
  series.sort((a, b) => (a.cell < b.cell ? -1 : Number(a.cell > b.cell)));
  const from = series[0]?.cell ?? 0n;
  let to = from;
  for (const one of series) {
    const end = one.cell + BigInt(one.family.cellSize);
    check(end < 1n << 63n && end - from <= MAX_REGION, "the cells are over the limit", Refused);
    one.kept = one.cell >= to;
    if (!one.kept) problems.push(`${one.family.name}: the cell at ${one.cell} overlaps another`);
    if (end > to) to = end;
  }
  for (const family of families) family.series = family.series.filter((one) => one.kept);
  return { series: series.filter((one) => one.kept), from, size: Number(to - from) };
}

function decodeColumn({ type, count }, bytes, at) {
  if (type !== TEXT) return Array.from({ length: count }, (_, i) => words[type](bytes, at + 8 * i));
  const length = bytes.readBigUInt64LE(at);
  check(length <= count, "a text is longer than its capacity");
  return [text(bytes.subarray(at + 8, at + 8 + Number(length)))];
}

function parseInfo(json) {
  try {
    return JSON.parse(json || "{}");
  } catch {
    throw new Damage("its text is not JSON");
  }
}

// One whole buffer: the value, and the time of its last change if it has one.
function decodeBuffer({ kind, columns, stamped, bounds }, bytes) {
  const value = dictionary();
  let at = 0, time;
  for (const [i, column] of columns.entries()) {
    const found = decodeColumn(column, bytes, at);
    at += column.size;
    if (stamped && i === columns.length - 1) [time] = found;
    else value[column.name] = found.length > 1 || column.name === "buckets" ? found : found[0];
  }
  const mean = (sum, count) => (count ? sum / Number(count) : null);
  if (kind === "text") return { value: value.text, time };
  if (kind === "info") return { value: parseInfo(value.text), time };
  if (kind === "histogram") value.bounds = bounds;
  if (kind === "average") value.mean = mean(value.sum, value.count);
  if (kind === "moving_average") value.mean = mean(value.window_sum, value.window_count);
  return { value, time };
}

// The value of a cell out of three reads, or undefined if the buffer was written to meanwhile.
function decodeCell(family, first, second, third) {
  const { kind, cell, cellSize, buffer, stamped, states } = family;
  const whole = second.length >= cellSize && third.length >= 8 && first.length >= (cell === BUFFERED ? 16 : 8);
  check(whole, "its cell lies behind the end of the file");
  if (cell !== BUFFERED) {
    const [word, time] = [words[cell](second, 0), stamped ? second.readBigUInt64LE(8) : undefined];
    return { value: kind === "bool" ? Boolean(word) : kind === "enum" ? (states[word] ?? word) : word, time };
  }
  check(second.readBigUInt64LE(16) === BigInt(buffer), "the size of its buffers is wrong");
  const seq = first.readBigUInt64LE(8);
  if (third.readBigUInt64LE(0) > seq + 1n) return undefined;
  const at = 24 + Number(seq % 2n) * buffer;
  return decodeBuffer(family, second.subarray(at, at + buffer));
}

// All cells share three reads. Those that did not hold still get three of their own, until the deadline.
function readCells(fd, { series, from, size }, problems) {
  const shared = [readAt(fd, from, size), readAt(fd, from, size), readAt(fd, from, size)];
  const deadline = process.hrtime.bigint() + DEADLINE;
  for (const one of series) {
    const { family, labels, cell } = one;
    const [at, n] = [Number(cell - from), family.cellSize];
    salvage(problems, [family.name, ...labels].join(" "), () => {
      let found = decodeCell(family, ...shared.map((bytes) => bytes.subarray(at, at + n)));
      while (found === undefined && process.hrtime.bigint() < deadline) {
        found = decodeCell(family, readAt(fd, cell, 16), readAt(fd, cell, n), readAt(fd, cell, 8));
      }
      check(found, "its cell does not hold still");
      Object.assign(one, found);
    });
  }
}

function readFile(path) {
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = fs.constants;
  const fd = fs.openSync(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW); // the process ends soon and closes it
  check(fs.fstatSync(fd).isFile(), "this is no regular file", Refused);
  const problems = [];
  const header = parseHeader(readAt(fd, 0, HEADER));
  const { identity, families } = parseDefinitions(readAt(fd, 0, Number(header.committed)), header, problems);
  readCells(fd, layOut(families, problems), problems);
  const values = dictionary();
  for (const { name, kind, unit, help, aggregate, stamped, labels, series } of families) {
    const shown = series.map((one) => ({ labels: one.labels, overflow: one.overflow, value: one.value, time: one.time }));
    values[name] = { kind, unit, help, aggregate, stamped, labels, series: shown };
  }
  return { header, identity, values, problems };
}

let result;
try {
  result = readFile(process.argv[2]);
} catch (error) {
  result = { error: error.message };
  process.exitCode = 1;
}
console.log(JSON.stringify(result, (_, value) => {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}));
