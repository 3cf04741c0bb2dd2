/** The state when the process is killed at any call to the file system: what was agreed on and what was parked are what they were, or what they became. */

import fs from 'node:fs';
import { expect } from 'chai';

import type { LedgerRecord } from '../../src/agent/state/ledger-record.ts';
import { Parked } from '../../src/agent/state/parked.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import { removeTree, ServedDirectory, temporaryDirectory, unflushedFs } from '../support/served-directory.ts';
import { isStop, StoppingFs } from '../support/stopping-fs.ts';
import { digestOfText, entryOf, file, readText, type Nodes } from '../support/tree-on-disk.ts';
import { fileEntry } from '../support/trees.ts';

const VIEW: Nodes = { a: file('a'), b: file('b') };

async function run<T>(root: ByteString, work: (served: ServedDirectory) => T | Promise<T>): Promise<T> {
  const served = await ServedDirectory.open({ root });
  try {
    return await work(served);
  } finally {
    await served.close();
  }
}

function parkedOf(served: ServedDirectory): Parked {
  const { layout, ledger, clock } = served;
  return new Parked({
    fs: served.fs,
    layout,
    ledger,
    clock,
    agentId: 'agent',
    subdir: '',
    volume: () => undefined,
  });
}

interface Scene {
  readonly title: string;
  /** What an earlier run has done. */
  readonly prepare?: (served: ServedDirectory) => void;
  /** What this run has done before it is killed. */
  readonly before?: (served: ServedDirectory) => void;
  readonly act: (served: ServedDirectory) => void;
  /** The last call of those that must be among them. */
  readonly call: RegExp;
}

const agreed = (...texts: string[]): LedgerRecord => ({
  t: 'ancestor',
  entries: texts.map((text) => [text, entryOf(file(text))]),
});

/** A record that says nothing, of so many bytes. */
const padding = (bytes: number): LedgerRecord => ({ t: 'kept', name: 'x'.repeat(bytes), record: null });

function park(served: ServedDirectory): void {
  const entry = { ...fileEntry('a'), digest: digestOfText('a') };
  parkedOf(served).park({ path: 'a', entry, source: served.at('a'), revision: 3n, reason: 'lost' });
}

const SCENES: readonly Scene[] = [
  { title: 'parking a content', act: park, call: /ledger mark/ },
  {
    title: 'releasing what is in the volume now',
    prepare: park,
    act: (served) => {
      const [name] = served.ledger.state.parked.keys();
      parkedOf(served).release(name ?? '', '.conflicts/a', 4n);
    },
    call: /release parked/,
  },
  {
    title: 'agreeing',
    act: (served) => served.ledger.write([agreed('a', 'new')], true),
    call: /ledger mark/,
  },
  {
    title: 'writing the log afresh',
    prepare: park,
    before: (served) =>
      served.ledger.write(
        Array.from({ length: 100 }, () => padding(10_240)),
        false,
      ),
    act: (served) => served.ledger.write([padding(60_000)], false),
    call: /ledger replace/,
  },
  {
    title: 'upgrading the log',
    prepare: (served) => {
      park(served);
      // As format 1 had it: no header.
      const { ledger } = served.layout;
      fs.writeFileSync(ledger, fs.readFileSync(ledger, 'utf8').replace(/^.*\n/, ''));
    },
    act: () => undefined,
    call: /ledger replace/,
  },
];

/** What must not be lost: what was agreed on, and the parked contents with their records. */
function facts({ ledger, layout }: ServedDirectory): string {
  const ancestor = [...ledger.state.ancestor].map(([path, entry]) => [
    path,
    entry.type === 'file' ? entry.digest : entry.type,
  ]);
  const parked = [...ledger.state.parked].map(([name, { path }]) => [
    path,
    readText(`${layout.parked}/${name}`),
  ]);
  return JSON.stringify({ ancestor: ancestor.sort(), parked });
}

describe('the state of an agent that is killed', () => {
  for (const scene of SCENES) {
    it(`${scene.title}: at every call, with half a write or none`, async () => {
      const first = temporaryDirectory();
      await run(first, (served) => {
        served.publish(VIEW);
        served.catchUp();
        scene.prepare?.(served);
      });
      try {
        const before = await stopAt(first, { ...scene, act: () => undefined }, Infinity, false);
        const after = await stopAt(first, scene, Infinity, false);
        const stops = new Set<string>();
        for (const torn of [false, true]) {
          for (let at = 1; ; at += 1) {
            const { found, stoppedAt } = await stopAt(first, scene, at, torn);
            if (stoppedAt === undefined) break;
            stops.add(stoppedAt);
            expect([before.found, after.found], stoppedAt).to.include(found);
          }
        }
        expect([...stops].join('; ')).to.match(scene.call);
      } finally {
        removeTree(first);
      }
    });
  }
});

/** Runs a scene on a copy of a directory, kills it at its n-th call, and says what the next start finds. */
async function stopAt(
  first: ByteString,
  { before, act }: Scene,
  at: number,
  torn: boolean,
): Promise<{ readonly found: string; readonly stoppedAt: string | undefined }> {
  const root = temporaryDirectory();
  try {
    fs.cpSync(first, root, { recursive: true, verbatimSymlinks: true });
    adoptCopy(root);
    const disk = new StoppingFs(unflushedFs);
    if (before === undefined) disk.arm(at, torn);
    let served: ServedDirectory | undefined;
    try {
      served = await ServedDirectory.open({ root, fs: disk.port });
      before?.(served);
      if (before !== undefined) disk.arm(at, torn);
      act(served);
    } catch (error) {
      if (!isStop(error)) throw error;
    }
    disk.revive();
    await served?.close();
    const found = await run(root, (again) => {
      expect(again.ledger.lost, disk.stoppedAt).to.equal(undefined);
      return facts(again);
    });
    return { found, stoppedAt: disk.stoppedAt };
  } finally {
    removeTree(root);
  }
}

/** The copy of a directory is another one: its log is made its own. */
function adoptCopy(root: ByteString): void {
  const ledger = `${root}/..etcd-etc-agent/ledger`;
  const ino = fs.lstatSync(root, { bigint: true }).ino;
  fs.writeFileSync(ledger, fs.readFileSync(ledger, 'utf8').replace(/"root":"\d+n"/, `"root":"${ino}n"`));
  fs.rmSync(`${root}/..etcd-etc-agent/ledger.mark`, { force: true });
}
