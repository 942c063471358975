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
const KEY = 1, VALUE = 2, NAME = 3, HELP = 4, UNIT = 5, LABEL_NAME = 6, COLUMN = 7, BOUNDS = 8; // tags
const STATE = 9, LABEL_VALUE = 10;
const STAMPED = 4, OVERFLOW = 1; // flags
const U64 = 1, I64 = 2, F64 = 3, TEXT = 4, BUFFERED = 4; // types of words, columns and cells

// Kinds of metrics by their code, and the columns that they promise: [name, type, whether it may hold many].
const SUMS = [["count", U64], ["sum", F64]];
const WINDOW = [...SUMS, ["last", F64], ["min", F64], ["max", F64], ["window_count", U64], ["window_sum", F64]];
const KINDS = [
  undefined, ["counter"], ["gauge"], ["histogram", [...SUMS, ["buckets", U64, true]]], ["timer", WINDOW],
  ["average", SUMS], ["moving_average", WINDOW], ["text", [["text", TEXT, true]]], ["enum"],
  ["info", [["text", TEXT, true]]], ["bool"], ["struct"],
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
    if (!(error instanceof Damage || error instanceof SyntaxError)) throw error; // JSON.parse throws the latter
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
  const edges = get(BOUNDS).at(-1) ?? Buffer.alloc(0);
  const bounds = Array.from({ length: edges.length / 8 }, (_, i) => words[F64](edges, 8 * i));
  const stamped = Boolean(flags & STAMPED);
  const buffered = cell === BUFFERED;
  check(edges.length % 8 === 0, "a bound is cut off");
  check(number < MAX_FAMILIES, "the number of the family is over the limit");
  check(cell >= U64 && cell <= BUFFERED, "the cell type is unknown");
  const [name, promised = []] = KINDS[kind] ?? (buffered ? ["struct"] : ["gauge"]);
  check(buffered === columns.length > 0, "cell type and columns contradict each other");
  check(buffered === (promised.length > 0 || name === "struct"), "cell type and kind contradict each other");
  check(cell === U64 || !["enum", "bool"].includes(name), "cell type and kind contradict each other");
  const has = (column, [called, type, many]) =>
    column?.name === called && column.type === type && (many || column.count === 1);
  check(promised.every((wanted, i) => has(columns[i], wanted)), "the columns of its kind are missing");
  check(!stamped || !buffered || has(columns.at(-1), ["time", U64]), "the column of its time is missing");
  if (name === "histogram") {
    check(bounds.length && columns[2].count === bounds.length + 1, "buckets and bounds contradict each other");
    check(bounds.every((b, i) => Number.isFinite(b) && !(b <= bounds[i - 1])), "the bounds make no sense");
  }
  const size = columns.reduce((sum, column) => sum + column.size, 0); // of one buffer
  const one = (tag) => text(get(tag).at(-1));
  return {
    number, name: one(NAME), kind: name, aggregate: AGGREGATES[aggregate] ?? "all", unit: one(UNIT), help: one(HELP),
    labels: get(LABEL_NAME).map(text), states: get(STATE).map(text), bounds, columns, stamped, buffered, size,
    word: words[cell], cellSize: buffered ? 24 + 2 * size : stamped ? 16 : 8, series: [],
  };
}

// What the records of both runs define: the identity, the families by their numbers, and the series.
function parseDefinitions(file, { first_definition: first, committed }, problems) {
  const [identity, families, series] = [dictionary(), new Map(), []];
  const define = {
    [IDENTITY]({ body }) {
      const get = attributes(body, 0);
      identity[text(get(KEY).at(-1))] = get(VALUE).map(text); // replaces an earlier one
    },
    [FAMILY](record) {
      const family = parseFamily(record);
      check(!families.has(family.number), "the number of the family is taken");
      families.set(family.number, family);
    },
    [SERIES]({ body, flags, cell }) {
      const labels = attributes(body, 8)(LABEL_VALUE).map(text);
      const family = families.get(body.readUInt32LE(0));
      check(family, "its family is not known");
      check(cell !== 0n && cell % 8n === 0n, "the offset of the cell is wrong");
      check(labels.length === family.labels.length, "label names and label values don't fit");
      series.push({ family, labels, overflow: Boolean(flags & OVERFLOW), value: null, cell });
    },
  };
  const runs = [[HEADER, first, [IDENTITY]], [first, Number(committed), [IDENTITY, FAMILY, SERIES]]];
  for (const [from, to, known] of runs) {
    for (const record of records(file, from, to, problems)) {
      if (!known.includes(record.kind)) continue;
      salvage(problems, `the record at ${record.at}`, () => define[record.kind](record));
    }
  }
  return { identity, families: [...families.values()], series };
}

// The region of all cells, without those that overlap one before them. Series that are kept go to their families.
function layOut(series, problems) {
  const sorted = [...series].sort((a, b) => (a.cell < b.cell ? -1 : Number(a.cell > b.cell)));
  const from = sorted[0]?.cell ?? 0n;
  let end = from;
  const kept = sorted.filter((one) => {
    const free = one.cell >= end;
    if (free) end = one.cell + BigInt(one.family.cellSize);
    else problems.push(`${one.family.name}: the cell at ${one.cell} overlaps another`);
    return free;
  });
  check(end < 1n << 63n && end - from <= MAX_REGION, "the cells are over the limit", Refused);
  for (const one of kept) one.family.series.push(one);
  return { kept, from, size: Number(end - from) };
}

function decodeColumn({ type, count }, bytes, at) {
  if (type !== TEXT) return Array.from({ length: count }, (_, i) => words[type](bytes, at + 8 * i));
  const length = bytes.readBigUInt64LE(at);
  check(length <= count, "a text is longer than its capacity");
  return [text(bytes.subarray(at + 8, at + 8 + Number(length)))];
}

// One whole buffer: the value, and the time of its last change if it has one.
function decodeBuffer({ kind, columns, stamped, bounds }, bytes) {
  const value = dictionary();
  let at = 0, time;
  for (const [i, column] of columns.entries()) {
    const found = decodeColumn(column, bytes, at);
    at += column.size;
    if (stamped && i === columns.length - 1) [time] = found;
    else value[column.name] = found.length > 1 || kind === "histogram" && i === 2 ? found : found[0];
  }
  const mean = (sum, count) => (count ? sum / Number(count) : null);
  if (kind === "text") return { value: value.text, time };
  if (kind === "info") return { value: JSON.parse(value.text || "{}"), time };
  if (kind === "histogram") value.bounds = bounds;
  if (kind === "average") value.mean = mean(value.sum, value.count);
  if (value.window_count !== undefined) value.window_mean = mean(value.window_sum, value.window_count);
  return { value, time };
}

// The value of a cell out of three reads, or undefined if the buffer was written to meanwhile.
function decodeCell(family, first, second, third) {
  const { kind, cellSize, buffered, size, word, stamped, states } = family;
  const whole = second.length >= cellSize && third.length >= 8 && first.length >= (buffered ? 16 : 8);
  check(whole, "its cell ends behind the end of the file");
  if (!buffered) {
    const value = word(second, 0);
    const shown = kind === "bool" ? Boolean(value) : kind === "enum" ? (states[value] ?? value) : value;
    return { value: shown, time: stamped ? words[U64](second, 8) : undefined };
  }
  check(words[U64](second, 16) === BigInt(size), "the size of its buffers is wrong");
  const seq = words[U64](first, 8);
  if (words[U64](third, 0) > seq + 1n) return undefined;
  const at = 24 + Number(seq % 2n) * size;
  return decodeBuffer(family, second.subarray(at, at + size));
}

// All cells share three reads. Those that did not hold still get three of their own, until the deadline.
function readCells(fd, { kept, from, size }, problems) {
  const shared = [readAt(fd, from, size), readAt(fd, from, size), readAt(fd, from, size)];
  const deadline = process.hrtime.bigint() + DEADLINE;
  for (const one of kept) {
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
  const definitions = readAt(fd, 0, Number(header.committed));
  const { identity, families, series } = parseDefinitions(definitions, header, problems);
  readCells(fd, layOut(series, problems), problems);
  const values = dictionary();
  for (const { name, kind, unit, help, aggregate, labels, series: kept } of families) {
    const shown = kept.map(({ labels: values, overflow, value, time }) => ({ labels: values, overflow, value, time }));
    values[name] = { kind, unit, help, aggregate, labels, series: shown };
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
