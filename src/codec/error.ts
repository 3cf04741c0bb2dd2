/** `DecodeError`: what was being read, at which offset, and the key it came from. */

/** Bytes that are not the layout. The message says what and where; `key` is set by whoever knows it. */
export class DecodeError extends Error {
  readonly code = 'ERR_DECODE';
  /** What was being read, such as `attr`. */
  readonly what: string;
  /** Offset in bytes where reading stopped making sense. */
  readonly offset: number;
  /** The key the bytes came from, as a byte string; absent in pure decoding. */
  readonly key?: string;

  constructor(what: string, offset: number, message: string, key?: string) {
    super(`${what}: ${message} (at byte ${offset})`);
    this.name = 'DecodeError';
    this.what = what;
    this.offset = offset;
    if (key !== undefined) this.key = key;
  }

  /** The same error, told where the bytes came from. */
  withKey(key: string): DecodeError {
    const error = new DecodeError(this.what, this.offset, this.message, key);
    error.message = this.message;
    return error;
  }
}
