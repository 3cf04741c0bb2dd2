/** Edits that are made outside the published tree, and an agent that is killed at each call from there on. */

import { expect } from 'chai';
import { RecordedSite } from './history.ts';
import { DiskSite, type Handle } from './site.ts';
import { Stage } from './stage.ts';

/** Long enough for a start, a push and a publish after it, and for late finds. */
const SETTLED_MS = 12_000;
/** Each so-many-th call, another one first in each case; all of them are for somebody who waits. */
const STEP = Number(process.env['STEP'] ?? 3);
/** How long an agent is watched for calls to be killed at. */
const KILLED_WITHIN_MS = 6_000;

interface Scene {
  readonly stage: Stage;
  /** In the published tree. */
  readonly local: RecordedSite;
  /** In the tree that was replaced. */
  readonly old: RecordedSite;
}

function write(site: RecordedSite, path: string): void {
  const file = site.open(path, { create: true, truncate: true });
  append(file, site, path);
  file.close();
}

function append(file: Handle, site: RecordedSite, path: string): void {
  file.write(site.history.line(site.name, path), 0);
}

/** What is done before the edit, the edit itself, and what has to be true in the end. */
interface Case {
  readonly what: string;
  readonly prepare?: (scene: Scene) => Promise<void>;
  readonly edit: (scene: Scene) => void;
  readonly expected: (scene: Scene) => void;
}

let held: Handle | undefined;

const CASES: readonly Case[] = [
  {
    what: 'a file made in the tree that was replaced',
    edit: ({ old }) => write(old, 'd/new'),
    expected: ({ stage }) => expect(stage.mount.text('d/new')).to.include('old'),
  },
  {
    what: 'a file removed in the tree that was replaced',
    edit: ({ old }) => old.unlink('d/file'),
    expected: ({ stage }) => expect(stage.mount.list('d')).to.not.include('file'),
  },
  {
    what: 'a file moved in the tree that was replaced',
    edit: ({ old }) => old.rename('d/file', 'd/moved'),
    expected: ({ stage }) => expect(stage.mount.list('d')).to.include('moved').and.not.include('file'),
  },
  {
    what: 'a write to a file that the volume has replaced, still in the tree that was replaced',
    prepare: async ({ stage, local }) => {
      held = local.open('d/file', { append: true });
      write(stage.remote, 'd/file');
      await stage.pass(1_000);
    },
    edit: ({ local }) => append(held as Handle, local, 'd/file'),
    expected: ({ stage }) => expect(stage.mount.text('d/file')).to.include('mount'),
  },
  {
    what: 'a write to a file that the volume has replaced, in no tree any more',
    prepare: async ({ stage, local }) => {
      held = local.open('d/file', { append: true });
      for (let n = 0; n < 2; n += 1) {
        write(stage.remote, 'd/file');
        await stage.pass(1_000);
      }
    },
    edit: ({ local }) => append(held as Handle, local, 'd/file'),
    expected: ({ stage }) => expect(stage.mount.text('d/file')).to.include('mount'),
  },
  {
    what: 'a file made in the tree that was replaced, where the volume gets one as well',
    edit: ({ stage, old }) => {
      write(old, 'd/new');
      write(stage.remote, 'd/new');
    },
    expected: ({ stage }) => expect(stage.mount.list('d')).to.include('new'),
  },
];

async function setUp({ prepare, edit }: Case, change?: (scene: Scene) => void): Promise<Scene> {
  const stage = await Stage.open(1);
  const { pod, local } = stage.addPod();
  stage.mount.mkdir('d');
  for (const path of ['d/file', 'd/other']) write(stage.remote, path);
  pod.start();
  await stage.pass(3_000);
  const active = pod.fs.readlink('test', pod.layout.data);
  const tree = pod.layout.tree(active === '..a' ? 'b' : 'a');
  const disk = new DiskSite('old', pod.fs, tree, (path) => pod.changed(path));
  const scene = { stage, local, old: new RecordedSite(disk, stage.history, stage.trace) };
  await prepare?.(scene);
  edit(scene);
  change?.(scene);
  return scene;
}

describe('an edit outside the published tree outlives an agent that is killed at any call', function () {
  this.timeout(120_000);

  for (const [index, testCase] of CASES.entries()) {
    // Another change comes at once, so that the agent publishes while it is killed.
    for (const isBusy of [false, true]) {
      it(`${testCase.what}${isBusy ? ', while something else is published' : ''}`, async () => {
        const change = ({ stage }: Scene): void => {
          if (isBusy) write(stage.remote, 'd/other');
        };
        const { stage } = await setUp(testCase, change);
        const before = stage.pods[0]?.agent?.calls ?? 0;
        await stage.pass(KILLED_WITHIN_MS);
        const calls = (stage.pods[0]?.agent?.calls ?? 0) - before;
        stage.end();
        expect(calls).to.be.greaterThan(3);
        for (let call = 1 + (index % STEP); call <= calls; call += STEP) {
          const scene = await setUp(testCase, change);
          const [pod] = scene.stage.pods;
          if (pod?.agent === undefined) throw new Error('the agent is gone');
          pod.agent.killAt = pod.agent.calls + call;
          await scene.stage.pass(KILLED_WITHIN_MS);
          held?.close();
          held = undefined;
          const wasKilled = pod.agent === undefined;
          if (wasKilled) pod.start();
          await scene.stage.pass(SETTLED_MS);
          const wrong = [
            ...scene.stage.failures.map(({ what }) => what),
            ...scene.stage.lost(),
            ...scene.stage.differences(),
          ];
          const about = `killed at call ${call} of ${calls}\n${scene.stage.trace.lines.slice(-80).join('\n')}`;
          expect(wrong, about).to.deep.equal([]);
          testCase.expected(scene);
          scene.stage.end();
          expect(wasKilled).to.equal(true);
        }
      });
    }
  }
});
