/** An agent's run in this process, on real parts but for what a test puts in their place. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../src/agent/base/error.ts';
import { nodeFs } from '../../src/agent/disk/fs.ts';
import { layoutOf } from '../../src/agent/disk/layout.ts';
import type { EtcdStore, Ports } from '../../src/agent/base/ports.ts';
import { run } from '../../src/agent/run.ts';
import type { RunOptions, RunResult } from '../../src/agent/run-options.ts';
import { readStatus, type Status } from '../../src/agent/report/status.ts';
import type { Volume } from '../../src/agent/volume/volume.ts';
import { VolumeTree } from '../../src/agent/volume/volume-tree.ts';
import { MortalPorts } from './mortal-ports.ts';
import { storeRevision } from './stillness.ts';
import { until } from './until.ts';

export class RunningAgent {
  readonly dir: string;
  readonly #world: MortalPorts;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** How it ended; `undefined` while it runs. */
  ended: RunResult | Error | undefined;

  /** `speed`: how much faster time passes for it. */
  constructor(options: RunOptions, speed: number, replaced: (ports: Ports) => Partial<Ports> = () => ({})) {
    this.dir = options.dir;
    this.#world = new MortalPorts(Infinity, speed);
    const ports = { ...this.#world.ports, ...replaced(this.#world.ports) };
    this.#running = run(options, ports, this.#stop.signal).then(
      (result) => void (this.ended = result),
      (error: unknown) => void (this.ended = error instanceof Error ? error : new Error(String(error))),
    );
  }

  get status(): Status | undefined {
    return readStatus(nodeFs, layoutOf(this.dir));
  }

  /** What a reader finds at a path; `undefined` when there is nothing. */
  shown(path: string): string | undefined {
    try {
      return readFileSync(join(this.dir, '..data', path), 'latin1');
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** What stands at the top of DIR, links with where they lead. */
  get top(): string {
    return readdirSync(this.dir, { withFileTypes: true })
      .map((entry) =>
        entry.isSymbolicLink() ? `${entry.name} -> ${readlinkSync(join(this.dir, entry.name))}` : entry.name,
      )
      .join(' ');
  }

  /** Waits until nothing is left to say of what is `wrong`; fails with that, or when the run ends. */
  async until(what: string, wrong: () => string[] | Promise<string[]>, limitMs?: number): Promise<void> {
    let last: readonly string[] = [];
    try {
      await until(
        what,
        async () => {
          if (this.ended !== undefined)
            throw new Error(
              `the agent ended: ${this.ended instanceof Error ? (this.ended.stack ?? '') : this.ended.sentence}`,
            );
          last = await wrong();
          return last.length === 0;
        },
        limitMs,
      );
    } catch (cause) {
      throw new Error(`${String(cause)}\n${last.join('\n')}\nat the top: ${this.top}`, { cause });
    }
  }

  /** Ends it as SIGTERM does. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#world.bury();
  }
}

/** The content of a file of a volume, nothing when it is not there. */
export async function contentInVolume(store: EtcdStore, volume: Volume, path: string): Promise<string> {
  const tree = new VolumeTree(store, volume, await storeRevision(store));
  const node = await tree.find(path);
  const parts: Uint8Array[] = [];
  if (node !== undefined) for await (const part of tree.content(node)) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}

/** The contents of all conflict copies of a volume. */
export async function conflictCopies(store: EtcdStore, volume: Volume): Promise<string[]> {
  const tree = new VolumeTree(store, volume, await storeRevision(store));
  const root = await tree.find('.conflicts');
  const copies: string[] = [];
  if (root === undefined) return copies;
  for await (const node of tree.below(root)) {
    if (node.attr?.type !== 'file' || node.path.endsWith('.json')) continue;
    const parts: Uint8Array[] = [];
    for await (const part of tree.content(node)) parts.push(part);
    copies.push(Buffer.concat(parts).toString('latin1'));
  }
  return copies.sort();
}
