/** What a suite of built agents has for itself: an etcd, and for each test a volume, a directory, and agents that end with it. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cat } from '../../src/agent/verbs/cat.ts';
import { ls } from '../../src/agent/verbs/ls.ts';
import { Agent } from './agent.ts';
import { startEtcd, type EtcdServer } from './etcd.ts';
import { TestVolume, verbContext, type TestContext } from './pushing.ts';

export interface ServedVolume {
  readonly etcd: EtcdServer;
  /** For the test alone; DIR is in it. */
  readonly folder: string;
  readonly dir: string;
  readonly volume: TestVolume;
  /** Of the volume. */
  readonly name: string;
  /** Starts an agent on DIR, and waits for nothing. */
  readonly agent: (options?: readonly string[], url?: string) => Agent;
  /** Starts one that looks often, and waits until it serves and follows. */
  readonly start: (...options: string[]) => Promise<Agent>;
  /** The content of a file of the volume. */
  readonly cat: (path: string) => Promise<string>;
  /** The paths of the volume at and below a directory. */
  readonly paths: (path?: string) => Promise<string[]>;
}

/** Call it in `describe`. `fill` is done to the volume of each test first; its etcd runs after each, whatever that did to it. */
export function servedVolume(
  prefix: string,
  fill: (volume: TestVolume) => Promise<unknown> = () => Promise.resolve(),
): ServedVolume {
  let etcd: EtcdServer;
  let folder: string;
  let volume: TestVolume;
  let count = 0;
  const name = (): string => `${prefix}-${count}`;
  const dir = (): string => join(folder, 'served');
  const agents: Agent[] = [];

  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => etcd?.stop());
  beforeEach(async () => {
    count += 1;
    folder = mkdtempSync(join(tmpdir(), `${prefix}-`));
    mkdirSync(dir());
    volume = await TestVolume.format(etcd, { name: name(), blockSizeKiB: 64 });
    await fill(volume);
  });
  afterEach(async () => {
    for (const agent of agents.splice(0)) await agent.kill();
    if (isRunning(etcd)) etcd.resume();
    else await etcd.start();
    await volume.store.close();
    rmSync(folder, { recursive: true });
  });

  function agent(options: readonly string[] = [], url = volume.url): Agent {
    const started = new Agent(url, dir(), options);
    agents.push(started);
    return started;
  }

  async function verb(run: (context: TestContext) => Promise<unknown>): Promise<string> {
    const context = verbContext(etcd, `/${name()}`);
    try {
      await run(context);
      return context.out.text;
    } finally {
      await context.store.close();
    }
  }

  return {
    get etcd() {
      return etcd;
    },
    get folder() {
      return folder;
    },
    get dir() {
      return dir();
    },
    get volume() {
      return volume;
    },
    get name() {
      return name();
    },
    agent,
    start: (...options) => agent(['--rescan', '500ms', ...options]).ready(),
    cat: (path) => verb((context) => cat(context, { path })),
    paths: async (path = '/') => {
      const text = await verb((context) => ls(context, { path, recursive: true, json: true }));
      const lines = text.split('\n').filter((line) => line !== '');
      return lines.map((line) => (JSON.parse(line) as { path: string }).path).sort();
    },
  };
}

function isRunning(server: EtcdServer): boolean {
  try {
    return server.pid > 0;
  } catch {
    return false;
  }
}
