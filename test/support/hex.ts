/** Bytes written as hex with blanks wherever they help. */

export function hex(text: string): Uint8Array {
  const digits = text.replaceAll(/\s/g, '');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`no hex: ${text}`);
  return new Uint8Array(Buffer.from(digits, 'hex'));
}

/** The same as a byte string. */
export function hexString(text: string): string {
  return Buffer.from(hex(text)).toString('latin1');
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
