/** Captured volumes decode to exactly what the real client showed of them. */

import { createHash } from 'node:crypto';
import { expect } from 'chai';
import type { Attr } from '../../../src/codec/attr.ts';
import type { BlockCodecs } from '../../../src/codec/compress.ts';
import type { ByteString } from '../../../src/codec/kv.ts';
import { toByteString, utf8ByteString } from '../../../src/codec/bytes.ts';
import { decodeSetting, readRefusal, type Setting } from '../../../src/codec/setting.ts';
import { decrypt } from '../../../src/codec/encrypt.ts';
import { loadCipher } from '../../../src/agent/volume/cipher.ts';
import { unwrapSecrets } from '../../../src/agent/volume/secret.ts';
import { loadCodecs } from '../../../src/agent/volume/codecs.ts';
import type { RemoteView } from '../../../src/reconcile/assemble.ts';
import type { InodeIndex } from '../../../src/reconcile/inode-index.ts';
import {
  FIXTURE_PASSPHRASE,
  fromBase64,
  loadVolume,
  metaKvs,
  volumeNames,
  type TreeFileEntry,
} from '../../support/fixture.ts';
import { contentOf, indexOf, viewOf } from '../../support/remote.ts';

/** What is left of an entry of the tree file when its readable duplicates are dropped, in one form for both sides. */
interface Shown {
  readonly path: ByteString;
  readonly type: string;
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: bigint;
  readonly ino: bigint;
  readonly times: readonly bigint[];
  readonly target: ByteString | undefined;
  readonly rdev: { readonly major: number; readonly minor: number } | undefined;
  readonly sha256: string | undefined;
  readonly xattrs: Readonly<Record<string, unknown>>;
}

describe('remote trees of captured volumes', () => {
  let codecs: BlockCodecs;
  before(async () => {
    codecs = await loadCodecs();
  });

  for (const name of volumeNames()) {
    const volume = loadVolume(name);
    const kvs = metaKvs(volume);
    const settingKv = kvs.find((kv) => kv.key === 'setting');
    if (settingKv === undefined) throw new Error(`${name} has no setting`);
    const setting = decodeSetting(settingKv.value);

    const blocks = new Map(volume.kvs.map((kv) => [kv.key, kv.value]));
    before(async () => decryptBlocks(setting, blocks));
    const withXattrs = volume.header.mount_options.includes('--enable-xattr');
    const index = indexOf(kvs);

    it(`${name}: every entry with every field`, () => {
      const view = viewOf(index);
      expect([...view.problems]).to.deep.equal([]);
      const shown = showView(view, index, setting, blocks, codecs, withXattrs);
      expect(shown).to.deep.equal(volume.tree.entries.map(showTreeFileEntry));
      expect(readRefusal(setting)).to.equal(undefined);
    });

    for (const [subdir, entries] of Object.entries(volume.tree.subdirs ?? {})) {
      it(`${name}: every entry of the subdirectory ${subdir}`, () => {
        const view = viewOf(index, subdir.slice(1).split('/'));
        const [root, ...below] = showView(view, index, setting, blocks, codecs, withXattrs);
        // The real client numbers the root of a subdirectory 1.
        expect([{ ...root, ino: 1n }, ...below]).to.deep.equal(entries.map(showTreeFileEntry));
      });
    }
  }
});

/** Takes the encryption off all blocks; what is left of a value is compressed as the setting says. */
async function decryptBlocks(setting: Setting, blocks: Map<ByteString, Uint8Array>): Promise<void> {
  const { encryptKey, encryptAlgo, name } = unwrapSecrets(setting);
  if (encryptKey === '') return;
  const cipher = await loadCipher(encryptKey, encryptAlgo, FIXTURE_PASSPHRASE);
  for (const [key, value] of blocks)
    if (key.startsWith(`${name}/chunks/`)) blocks.set(key, await decrypt(value, cipher));
}

/** The root and all entries in the order of the tree files: preorder, names by bytes. */
function showView(
  view: RemoteView,
  index: InodeIndex,
  setting: Setting,
  blocks: ReadonlyMap<ByteString, Uint8Array>,
  codecs: BlockCodecs,
  withXattrs: boolean,
): Shown[] {
  if (view.root === undefined) throw new Error('the view has no root');
  const inodes: [path: string, ino: bigint][] = [['', view.root]];
  for (const [path, entry] of view.entries) inodes.push([path, entry.ino]);
  inodes.sort(([a], [b]) => preorder(a, b));
  return inodes.map(([path, ino]) => {
    const record = index.get(ino);
    const attr = record?.attr?.value;
    if (record === undefined || attr === undefined || attr instanceof Error)
      throw new Error(`no inode ${ino}`);
    const entry = view.entries.get(path);
    if (entry !== undefined) expectSameAttr(entry, attr);
    if (entry?.type === 'file') expect([entry.size, entry.nlink]).to.deep.equal([attr.length, attr.nlink]);
    return {
      path: `/${path}`,
      type: attr.type === 'directory' ? 'dir' : attr.type,
      mode: attr.mode.toString(8).padStart(4, '0'),
      uid: attr.uid,
      gid: attr.gid,
      nlink: attr.nlink,
      size: attr.length,
      ino,
      times: [attr.mtimeNs, attr.ctimeNs, attr.atimeNs],
      target: entry?.type === 'symlink' ? entry.target : undefined,
      rdev: attr.type === 'char' || attr.type === 'block' ? showRdev(attr.rdev) : undefined,
      sha256: attr.type === 'file' ? sha256(contentOf(index, ino, setting, blocks, codecs)) : undefined,
      xattrs: withXattrs ? showXattrs(record.xattrs) : {},
    };
  });
}

function expectSameAttr(
  entry: { mode: number; uid: number; gid: number; mtimeNs: bigint },
  attr: Attr,
): void {
  const { mode, uid, gid, mtimeNs } = attr;
  expect(entry).to.include({ mode, uid, gid, mtimeNs });
}

function preorder(a: string, b: string): number {
  const [partsA, partsB] = [a.split('/'), b.split('/')];
  for (const [i, part] of partsA.entries()) {
    const other = partsB[i];
    if (other === undefined) return 1;
    if (part !== other) return part < other ? -1 : 1;
  }
  return partsA.length - partsB.length;
}

/** Linux's 32-bit device encoding. */
function showRdev(rdev: number): { major: number; minor: number } {
  return { major: (rdev >> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}

/** The client lists an empty xattr and then does not find it. */
function showXattrs(xattrs: ReadonlyMap<ByteString, { readonly raw: Uint8Array }>): Record<string, unknown> {
  return Object.fromEntries(
    [...xattrs].map(([name, { raw }]) => [name, raw.length === 0 ? { error: 'ENODATA' } : toByteString(raw)]),
  );
}

function sha256(content: Iterable<Uint8Array>): string {
  const hash = createHash('sha256');
  for (const piece of content) hash.update(piece);
  return hash.digest('hex');
}

function showTreeFileEntry(entry: TreeFileEntry): Shown {
  return {
    path: fromBase64(entry.path_b64),
    type: entry.type,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    nlink: entry.nlink,
    size: BigInt(entry.size),
    ino: BigInt(entry.ino),
    times: [entry.mtime_ns, entry.ctime_ns, entry.atime_ns].map(BigInt),
    target: entry.target_b64 === undefined ? undefined : fromBase64(entry.target_b64),
    rdev: entry.rdev,
    sha256: entry.sha256,
    xattrs: Object.fromEntries(
      Object.entries(entry.xattrs ?? {})
        // Made by the client from the ACL ids of the attr.
        .filter(([name]) => !name.startsWith('system.posix_acl_'))
        .map(([name, value]) => [
          utf8ByteString(name),
          typeof value === 'string' ? fromBase64(value) : value,
        ]),
    ),
  };
}
