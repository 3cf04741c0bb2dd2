/** ACLs and flags that the real client set: what our pushes make of them is what its own operations make of them. */

import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { directory, file, symlink, TestVolume } from '../support/pushing.ts';
import { recount } from '../support/recount.ts';
import { needFuse, needTool } from '../support/tools.ts';

/** An ACL as the kernel passes it: version 2, then tag, permissions and id of each entry. */
function acl(...entries: readonly (readonly [tag: number, perm: number, id?: number])[]): string {
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(2);
  for (const [i, [tag, perm, id = 0xffffffff]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + i * 8);
    bytes.writeUInt16LE(perm, 6 + i * 8);
    bytes.writeUInt32LE(id, 8 + i * 8);
  }
  return bytes.toString('hex');
}
const [OWNER, USER, GROUP_OF_FILE, GROUP, MASK, OTHER] = [1, 2, 4, 8, 16, 32];

/** Default ACLs of the directories that the entries are made in. */
const DEFAULTS = {
  named: acl([OWNER, 7], [USER, 7, 1234], [GROUP_OF_FILE, 5], [GROUP, 6, 55], [MASK, 7], [OTHER, 1]),
  masked: acl([OWNER, 6], [GROUP_OF_FILE, 7], [GROUP, 7, 55], [MASK, 3], [OTHER, 4]),
  minimal: acl([OWNER, 7], [GROUP_OF_FILE, 4], [OTHER, 0]),
};
const SIDES = ['theirs', 'ours', 'replaced'];
const MODES = [0o666, 0o644, 0o600, 0o755, 0o777, 0o421];

const SET = `
import os, sys
args = sys.argv[1:]
for path, kind, value in zip(args[::3], args[1::3], args[2::3]):
    os.setxattr(path, "system.posix_acl_" + kind, bytes.fromhex(value))
`;
const GET = `
import os, sys
for path in sys.argv[1:]:
    shown = [oct(os.lstat(path).st_mode)]
    for kind in "access", "default":
        try:
            shown.append(os.getxattr(path, "system.posix_acl_" + kind, follow_symlinks=False).hex())
        except OSError:
            shown.append("none")
    print(*shown)
`;
/** chattr: FS_IOC_SETFLAGS. */
const CHATTR = `
import fcntl, os, struct, sys
for path, flags in zip(sys.argv[1::2], sys.argv[2::2]):
    fd = os.open(path, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack("l", int(flags)))
    os.close(fd)
`;
const [IMMUTABLE, APPEND] = ['16', '32'];
const MAKE = `
import os, sys
os.umask(0o022)
for mode in sys.argv[2:]:
    os.close(os.open(sys.argv[1] + "/f" + mode, os.O_CREAT | os.O_WRONLY, int(mode, 8)))
    os.mkdir(sys.argv[1] + "/d" + mode, int(mode, 8))
os.symlink("f", sys.argv[1] + "/link")
`;

function python(script: string, ...args: readonly string[]): string {
  return execFileSync('python3', ['-c', script, ...args], { encoding: 'utf8' });
}

describe('ACLs of the real client', function () {
  this.timeout(180_000);
  let server: EtcdServer;
  let juicefs: Juicefs;
  let volume: TestVolume;

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    needTool(this, 'python3');
    server = await startEtcd();
    const url = `${server.url}/acl`;
    await juicefs.format(url, 'acl', server.url.slice('etcd://'.length), [
      ...['--block-size', '64', '--enable-acl'],
    ]);
    volume = await TestVolume.open(server, '/acl');
  });
  after(async () => {
    await volume?.store.close();
    await server?.stop();
  });

  async function mounted<T>(work: (mount: Mount) => T): Promise<T> {
    const mount = await juicefs.mount(volume.url, ['--enable-ioctl']);
    try {
      return work(mount);
    } finally {
      await mount.close();
    }
  }

  /** Takes what a mount made into the test's own tree. */
  async function learn(...paths: readonly string[]): Promise<void> {
    const { revision } = await volume.store.status();
    for (const path of paths) {
      const tree = new VolumeTree(volume.store, volume.volume, revision);
      const node = await tree.find(path);
      const entry = node === undefined ? undefined : tree.entryOf(node, 'not looked at', '');
      if (entry === undefined) throw new Error(`the mount did not make ${path}`);
      volume.tree.set(path, entry);
    }
  }

  it('new entries inherit what they inherit in a mount', async () => {
    const names = Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[];
    const modes = MODES.map((mode) => mode.toString(8));
    await mounted(({ dir }) => {
      for (const name of names) {
        for (const side of ['theirs', 'ours']) {
          mkdirSync(join(dir, `${name}-${side}`));
        }
      }
      const sides = names.flatMap((name) =>
        [`${name}-ours`, `${name}-theirs`].map((path) => [name, path] as const),
      );
      python(SET, ...sides.flatMap(([name, path]) => [join(dir, path), 'default', DEFAULTS[name]]));
      for (const name of names) python(MAKE, join(dir, `${name}-theirs`), ...modes);
    });
    await learn(...names.map((name) => `${name}-ours`));
    for (const name of names) {
      await volume.push(
        ...MODES.flatMap((mode) => [
          volume.make(`${name}-ours/f${mode.toString(8)}`, file('', { mode })),
          volume.make(`${name}-ours/d${mode.toString(8)}`, directory({ mode })),
        ]),
        volume.make(`${name}-ours/link`, symlink('f')),
      );
    }
    await mounted(({ dir }) => {
      for (const name of names) {
        const shown = (side: string): Record<string, string | undefined> => {
          const at = join(dir, `${name}-${side}`);
          const entries = readdirSync(at).sort();
          const lines = python(GET, ...entries.map((entry) => join(at, entry))).split('\n');
          return Object.fromEntries(entries.map((entry, i) => [entry, lines[i]]));
        };
        const theirs = shown('theirs');
        expect(Object.keys(theirs)).to.have.length(2 * MODES.length + 1);
        expect(shown('ours'), name).to.deep.equal(theirs);
      }
    });
  });

  it('a chmod changes the mask as a chmod in a mount does, and new contents keep the ACL', async () => {
    const names = MODES.map((mode) => `chmod-${mode.toString(8)}`);
    const rule = acl([OWNER, 6], [USER, 7, 1234], [GROUP_OF_FILE, 4], [MASK, 7], [OTHER, 4]);
    await mounted(({ dir }) => {
      const paths = names.flatMap((name) => SIDES.map((side) => join(dir, `${name}-${side}`)));
      for (const path of paths) writeFileSync(path, 'before\n');
      python(SET, ...paths.flatMap((path) => [path, 'access', rule]));
      for (const [i, name] of names.entries()) chmodSync(join(dir, `${name}-theirs`), MODES[i] ?? 0);
    });
    await learn(...names.flatMap((name) => [`${name}-ours`, `${name}-replaced`]));
    await volume.push(
      ...names.flatMap((name, i) => {
        const mode = MODES[i] ?? 0;
        return [
          volume.edit(`${name}-ours`, { mode }),
          volume.edit(`${name}-replaced`, file('after\n', { mode })),
        ];
      }),
    );
    await mounted(({ dir }) => {
      const [theirs, ...ours] = SIDES.map((side) =>
        python(GET, ...names.map((name) => join(dir, `${name}-${side}`))),
      );
      expect(theirs?.split('\n')).to.have.length(MODES.length + 1);
      expect(ours).to.deep.equal([theirs, theirs]);
    });
  });

  it('what is immutable or append-only for a mount is so for us', async () => {
    await mounted(({ dir }) => {
      writeFileSync(join(dir, 'fixed'), 'fixed\n');
      writeFileSync(join(dir, 'grows'), 'grows\n');
      mkdirSync(join(dir, 'closed'));
      python(
        CHATTR,
        join(dir, 'fixed'),
        IMMUTABLE,
        join(dir, 'grows'),
        APPEND,
        join(dir, 'closed'),
        IMMUTABLE,
      );
      for (const name of ['fixed', 'grows']) expect(() => unlinkSync(join(dir, name))).to.throw(/EPERM/);
      expect(() => writeFileSync(join(dir, 'closed/f'), '')).to.throw(/EPERM/);
    });
    await learn('fixed', 'grows', 'closed');
    const { changes } = await volume.try([
      volume.edit('fixed', file('edited\n')),
      volume.remove('grows'),
      volume.make('closed/f', file('new\n')),
    ]);
    expect(changes.map((one) => ('reason' in one ? one.reason : one.outcome))).to.deep.equal([
      'the entry is immutable (chattr +i)',
      'the entry is append-only (chattr +a)',
      'the directory is immutable (chattr +i)',
    ]);
    await mounted(({ dir }) => {
      python(CHATTR, ...['fixed', 'grows', 'closed'].flatMap((name) => [join(dir, name), '0']));
      rmdirSync(join(dir, 'closed'));
    });
  });

  it('leave a volume that is whole', async () => {
    expect(await recount(volume.store, volume.address.prefix)).to.deep.equal([]);
    await juicefs.fsck(volume.url);
    expect(await juicefs.gc(volume.url)).to.include({ leaked: 0 });
  });
});
