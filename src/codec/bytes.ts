/** Bounds-checked fixed-width reads and writes over one `Uint8Array`; every width and byte order is spelled in the name. */

import { DecodeError } from './error.ts';
import type { ByteString, KeyRange } from './kv.ts';

/** Reads fields in order. Each read past the end throws `DecodeError` and leaves the offset where it was. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  #offset = 0;

  /** `what` names the record in errors, such as `attr`. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes left to read. */
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16be(): number {
    return this.#view.getUint16(this.#take(2));
  }

  u32be(): number {
    return this.#view.getUint32(this.#take(4));
  }

  u64be(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  u64le(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  i64be(): bigint {
    return this.#view.getBigInt64(this.#take(8));
  }

  i64le(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  /** The next `n` bytes, copied. */
  bytes(n: number): Uint8Array {
    const start = this.#take(n);
    return this.#bytes.slice(start, start + n);
  }

  /** All bytes that are left, copied. */
  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  /** The next byte without reading it; `undefined` at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#offset];
  }

  /** Throws `DecodeError` if anything is left. */
  end(): void {
    if (this.remaining > 0) throw this.error(`${this.remaining} bytes too many`);
  }

  /** An error about the place reached. */
  error(message: string): DecodeError {
    return new DecodeError(this.#what, this.#offset, message);
  }

  #take(n: number): number {
    if (n > this.remaining) throw this.error(`${n} bytes wanted, ${this.remaining} left`);
    const start = this.#offset;
    this.#offset += n;
    return start;
  }
}

/** Writes fields in order. A value that does not fit its width is our own mistake: `RangeError`. */
export class ByteWriter {
  #bytes = new Uint8Array(96);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  u8(value: number): this {
    const number = checked(value, 8);
    const at = this.#grow(1);
    this.#view.setUint8(at, number);
    return this;
  }

  u16be(value: number): this {
    const number = checked(value, 16);
    const at = this.#grow(2);
    this.#view.setUint16(at, number);
    return this;
  }

  u32be(value: number): this {
    const number = checked(value, 32);
    const at = this.#grow(4);
    this.#view.setUint32(at, number);
    return this;
  }

  u64be(value: bigint): this {
    const number = unsigned(value);
    const at = this.#grow(8);
    this.#view.setBigUint64(at, number);
    return this;
  }

  u64le(value: bigint): this {
    const number = unsigned(value);
    const at = this.#grow(8);
    this.#view.setBigUint64(at, number, true);
    return this;
  }

  i64be(value: bigint): this {
    const number = signed(value);
    const at = this.#grow(8);
    this.#view.setBigInt64(at, number);
    return this;
  }

  i64le(value: bigint): this {
    const number = signed(value);
    const at = this.#grow(8);
    this.#view.setBigInt64(at, number, true);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
    return this;
  }

  /** What was written, in an array of its own. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Makes room and returns its offset. The view may be another one afterwards. */
  #grow(n: number): number {
    const start = this.#length;
    this.#length += n;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return start;
  }
}

function checked(value: number, bits: number): number {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** bits) {
    throw new RangeError(`${value} is no u${bits}`);
  }
  return value;
}

function unsigned(value: bigint): bigint {
  if (BigInt.asUintN(64, value) !== value) throw new RangeError(`${value} is no u64`);
  return value;
}

function signed(value: bigint): bigint {
  if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${value} is no i64`);
  return value;
}

/** Bytes as a string, one char a byte. */
export function toByteString(bytes: Uint8Array): ByteString {
  // In pieces, because each byte becomes an argument and a call takes only so many.
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) {
    text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  }
  return text;
}

/** The bytes of a byte string. A char above 0xFF is our own mistake (text that was never encoded): `RangeError`. */
export function toBytes(s: ByteString): Uint8Array {
  const bytes = new Uint8Array(s.length);
  for (let i = 0; i < s.length; i++) bytes[i] = checked(s.charCodeAt(i), 8);
  return bytes;
}

/** Text as the byte string of its UTF-8 form. */
export function utf8ByteString(text: string): ByteString {
  return toByteString(new TextEncoder().encode(text));
}

/** The UTF-8 text in a byte string; `undefined` if the bytes are no UTF-8. */
export function utf8Text(s: ByteString): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(toBytes(s));
  } catch {
    return undefined;
  }
}

/**
 * All keys that start with `prefix`: the end is the prefix with its last byte incremented, trailing 0xFF bytes dropped
 * first (layout 1.2). A prefix of nothing or of 0xFF alone ends in `\0`, which is etcd's "to the end of the key space".
 */
export function prefixRange(prefix: ByteString): KeyRange {
  let length = prefix.length;
  while (length > 0 && prefix.charCodeAt(length - 1) === 0xff) length--;
  if (length === 0) return { start: prefix === '' ? '\0' : prefix, end: '\0' };
  const last = prefix.charCodeAt(length - 1);
  return { start: prefix, end: prefix.slice(0, length - 1) + String.fromCharCode(last + 1) };
}

/** Whether two arrays hold the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** What would confuse a terminal or a line of log: controls, format characters (bidi overrides) and line separators. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/** A byte string for people: valid UTF-8 as text; all other bytes, unprintable characters and backslashes as `\xHH`. */
export function escapeBytes(s: ByteString): string {
  let text = '';
  for (let i = 0; i < s.length;) {
    const sequence = s.slice(i, i + sequenceLength(s.charCodeAt(i)));
    const char = utf8Text(sequence);
    if (char === undefined) {
      text += hex(s[i] ?? '');
      i += 1;
    } else {
      text += char === '\\' || UNPRINTABLE.test(char) ? hex(sequence) : char;
      i += sequence.length;
    }
  }
  return text;
}

/** Bytes of the UTF-8 sequence that this byte would start. */
function sequenceLength(first: number): number {
  if (first >= 0xf0) return 4;
  if (first >= 0xe0) return 3;
  return first >= 0xc0 ? 2 : 1;
}

function hex(s: ByteString): string {
  return [...s].map((char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`).join('');
}
