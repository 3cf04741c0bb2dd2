/** A revision of the store in one line. */

import { decodeAttr } from '../../src/codec/attr.ts';
import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeKey } from '../../src/codec/key.ts';
import type { ByteString, StoreEvent } from '../../src/codec/kv.ts';
import { keyOf } from '../support/memory-etcd.ts';

export function describeRevision(events: readonly StoreEvent[], prefix: ByteString): string {
  return events
    .map((event) => {
      const key = keyOf(event);
      if (!key.startsWith(prefix)) return `${event.type === 'put' ? '' : '-'}block ${key.split('/').at(-1)}`;
      return describe(key.slice(prefix.length), event.type === 'put' ? event.kv.value : undefined);
    })
    .filter((text) => text !== '')
    .join(', ');
}

function describe(name: ByteString, value: Uint8Array | undefined): string {
  const key = decodeKey(name);
  const gone = value === undefined ? '-' : '';
  switch (key.kind) {
    case 'dentry':
      return `${gone}${key.parent}/${key.name}${value === undefined ? '' : ` = ${decodeDentry(value).ino}`}`;
    case 'attr': {
      if (value === undefined) return `-inode ${key.ino}`;
      const { type, length, mode, nlink } = decodeAttr(value);
      return type === 'directory' ? '' : `inode ${key.ino} ${length} B ${mode.toString(8)} x${nlink}`;
    }
    case 'chunk':
      return `${gone}chunk ${key.ino}`;
    case 'counter':
      return `${gone}${key.name}`;
    default:
      return `${gone}${key.kind}`;
  }
}
