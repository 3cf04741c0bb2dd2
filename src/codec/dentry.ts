/** The value of a directory entry: a type and an inode. */

import { numberOfType, typeOfNumber, type FileType } from './attr.ts';
import { ByteReader, ByteWriter } from './bytes.ts';

/** Where a name leads. The attr of the inode has the last word on the type. */
export interface Dentry {
  readonly type: FileType;
  readonly ino: bigint;
}

/** Decodes the 9 bytes of `A parent D name` (layout 3, upstream `parseEntry`). Throws `DecodeError`. */
export function decodeDentry(value: Uint8Array): Dentry {
  const reader = new ByteReader(value, 'dentry');
  const type = typeOfNumber(reader.u8(), 'dentry', 0);
  const ino = reader.u64be();
  reader.end();
  return { type, ino };
}

export function encodeDentry(dentry: Dentry): Uint8Array {
  return new ByteWriter().u8(numberOfType(dentry.type)).u64be(dentry.ino).finish();
}
