/** What was written about an inode of a volume, as long as nothing is compacted; for failures that must explain themselves. */

import { decodeDentry } from '../../src/codec/dentry.ts';
import { decodeDirStat } from '../../src/codec/counter.ts';
import { decodeKey } from '../../src/codec/key.ts';
import type { StoreEvent } from '../../src/codec/kv.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';

/** Sorts behind all volumes; written to know when everything was seen. */
const MARKER = '\xfe the end';

/** One line for each revision that wrote something about one of the inodes, in order. */
export async function historyOf(
  store: EtcdStore,
  prefix: string,
  inos: ReadonlySet<bigint>,
): Promise<string[]> {
  const lines: string[] = [];
  const value = new Uint8Array();
  await store.commit({ compares: [], ops: [{ type: 'put', key: MARKER, value }] });
  const end = new AbortController();
  const handlers = {
    onRevision(_: number, revision: bigint, events: readonly StoreEvent[]) {
      const changes = events.flatMap((event) => {
        const key = event.type === 'put' ? event.kv.key : event.key;
        return key.startsWith(prefix) ? [describe(event, key.slice(prefix.length))] : [];
      });
      if (changes.some(({ about }) => about.some((ino) => inos.has(ino)))) {
        lines.push(`${revision}: ${changes.map(({ text }) => text).join(', ')}`);
      }
      if (events.some((event) => event.type === 'put' && event.kv.key === MARKER)) end.abort();
    },
    onProgress() {},
    onState() {},
  };
  const everything = { start: '\0', end: '\xff' };
  await store.watch([everything], 1n, handlers, end.signal).catch((error: unknown) => {
    if (!end.signal.aborted) throw error;
  });
  return lines;
}

function describe(event: StoreEvent, bytes: string): { readonly text: string; readonly about: bigint[] } {
  const key = decodeKey(bytes);
  const about = 'ino' in key ? [key.ino] : [];
  let text = `${event.type === 'put' ? '' : 'no '}${shown(key)}`;
  if (event.type === 'put' && key.kind === 'dentry') {
    const { ino } = decodeDentry(event.kv.value);
    about.push(ino);
    text += `=${ino}`;
  }
  if (event.type === 'put' && key.kind === 'dirStat') {
    const { length, space, inodes } = decodeDirStat(event.kv.value);
    text += `=${length}/${space}/${inodes}`;
  }
  return { text, about };
}

function shown(key: object): string {
  return Object.values(key).map(String).join(' ');
}
