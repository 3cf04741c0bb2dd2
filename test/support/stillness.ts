/** Whether anything is written although nothing is to be done. */

import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { prefixRange } from '../../src/codec/bytes.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import type { EtcdStore } from '../../src/agent/base/ports.ts';

/** The revision of the whole store: any write by anyone moves it. */
export async function storeRevision(store: EtcdStore): Promise<bigint> {
  return (await store.get(['nothing'])).revision;
}

/** The newest write among the metadata keys of one volume. */
export async function volumeRevision(store: EtcdStore, prefix: ByteString): Promise<bigint> {
  let newest = 0n;
  await store.snapshot([prefixRange(prefix)], ({ modRevision }) => {
    if (modRevision > newest) newest = modRevision;
  });
  return newest;
}

/** Inode and ctime of every name at the top of DIR and in both trees; those of the state directory are left out. */
export function namesOnDisk(dir: string): Readonly<Record<string, string>> {
  const names: Record<string, string> = {};
  const walk = (path: string): void => {
    for (const name of readdirSync(Buffer.from(join(dir, path), 'latin1'), { encoding: 'latin1' })) {
      const below = path === '' ? name : `${path}/${name}`;
      if (below === '..etcd-etc-agent') continue;
      const stat = lstatSync(Buffer.from(`${dir}/${below}`, 'latin1'), { bigint: true });
      names[below] = `${stat.ino} ${stat.ctimeNs}`;
      if (stat.isDirectory()) walk(below);
    }
  };
  walk('');
  return names;
}
