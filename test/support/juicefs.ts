/** The real JuiceFS client: formats, mounts and checks volumes in a test's own etcd. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { describeMount, mountIdOf, processesOf } from './mount-users.ts';
import { needTool } from './tools.ts';
import { until } from './until.ts';

export interface RunResult {
  readonly code: number | null;
  /** stdout and stderr together. */
  readonly output: string;
}

export interface Mount {
  readonly dir: string;
  /** Unmounts and waits until the client has closed its session. */
  close(): Promise<void>;
  /** Kills the client with all its processes; its session and what it had not flushed are left as they are. */
  kill(): Promise<void>;
}

/** One line of a mount's tree, without times and inodes. */
export interface MountedEntry {
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  /** Four octal digits; a symlink has none. */
  readonly mode: string;
  readonly nlink: number;
  readonly ino: bigint;
  /** Of a file: SHA-256 of its content in hex. Of a symlink: its target as a byte string. */
  readonly content: string;
  /** Nanoseconds. */
  readonly mtimeNs: bigint;
}

/** Names that the client shows in the root of each mount. */
const CONTROL_FILES: ReadonlySet<string> = new Set(['.accesslog', '.config', '.stats', '.trash']);

export class Juicefs {
  readonly #binary: string;
  readonly #env: Readonly<Record<string, string>>;

  /**
   * Skips the calling suite or test loudly where the client cannot be had; throws in CI. `env`: variables of every run, such
   * as the passphrase of an encrypted volume.
   */
  constructor(
    context: Context,
    env: Readonly<Record<string, string>> = {},
    program: 'juicefs' | `juicefs-${string}` = 'juicefs',
  ) {
    this.#binary = needTool(context, program);
    this.#env = env;
  }

  async run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<RunResult> {
    const child = spawn(this.#binary, ['--no-agent', ...args], {
      env: { ...process.env, ...this.#env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr.on('data', (data: Buffer) => (output += data.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, output };
  }

  /** Runs and fails with what was printed unless the exit code is 0. */
  async ok(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
    const { code, output } = await this.run(args, env);
    if (code !== 0) throw new Error(`juicefs ${args.join(' ')} ended with ${code}:\n${output}`);
    return output;
  }

  /** `bucket` is `HOST:PORT` of the etcd that holds the blocks. */
  async format(
    metaUrl: string,
    name: string,
    bucket: string,
    options: readonly string[] = [],
  ): Promise<void> {
    await this.ok(['format', metaUrl, name, '--storage', 'etcd', '--bucket', bucket, ...options]);
  }

  /** Mounts in the foreground of a child process and waits until the mount stands. */
  async mount(metaUrl: string, options: readonly string[] = []): Promise<Mount> {
    const folder = mkdtempSync(join(tmpdir(), 'juicefs-'));
    // A name of its own in the command line, so that the process can be told from others before a signal.
    const dir = join(folder, `mnt-${randomUUID()}`);
    const child = spawn(
      this.#binary,
      [
        ...['--no-agent', 'mount', metaUrl, dir, '--no-syslog', '--no-usage-report', '--backup-meta', '0'],
        ...['--cache-dir', join(folder, 'cache'), '--metrics', '127.0.0.1:0', ...options],
      ],
      { env: { ...process.env, ...this.#env }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr.on('data', (data: Buffer) => (output += data.toString()));
    await until(`${dir} is mounted`, () => {
      if (child.exitCode !== null) throw new Error(`the mount ended with ${child.exitCode}:\n${output}`);
      return isMounted(dir);
    });
    const id = mountIdOf(dir);
    async function kill(): Promise<void> {
      for (const pid of processesOf(dir)) process.kill(pid, 'SIGKILL');
      await ended(child);
      await once(spawn('umount', ['-l', dir], { stdio: 'ignore' }), 'close');
      rmSync(folder, { recursive: true, force: true });
    }
    return {
      dir,
      async close() {
        let users = '';
        try {
          users = await unmount(dir, id);
          await ended(child);
        } catch (cause) {
          const seen = `${users}\n${describeMount(dir, id)}`;
          // Goroutines are printed, and it ends: nothing of it is left after the failure.
          for (const pid of processesOf(dir).reverse()) process.kill(pid, 'SIGQUIT');
          await ended(child, 5000).catch(() => undefined);
          await kill();
          throw new Error(`${String(cause)}\n${seen}\nit said:\n${relevant(output)}`, { cause });
        }
        rmSync(folder, { recursive: true, force: true });
      },
      kill,
    };
  }

  /** Both forms of fsck; fails with what they printed. The second one compares directory statistics too. */
  async fsck(metaUrl: string): Promise<void> {
    await this.ok(['fsck', metaUrl]);
    await this.ok(['fsck', metaUrl, '--path', '/', '-r', '--sync-dir-stat']);
  }

  /** What gc says of a volume that nobody writes to: blocks that nothing names, and files that await deletion. */
  async gc(
    metaUrl: string,
  ): Promise<{ readonly leaked: number; readonly pending: number; readonly line: string }> {
    // Without this every object of an etcd is too young to be looked at (layout trap 9).
    const output = await this.ok(['gc', metaUrl], { JFS_GC_SKIPPEDTIME: '-3600' });
    const line = output.split('\n').find((text) => text.includes('leaked')) ?? output;
    const count = (what: RegExp): number => {
      const match = what.exec(line);
      if (match === null) throw new Error(`gc said nothing of ${what.source}:\n${output}`);
      return Number(match[1]);
    };
    return { leaked: count(/(\d+) leaked/), pending: count(/(\d+) pending delete/), line };
  }
}

/** Bytes of what a client said that a failure shows. */
const SAID_BYTES = 30_000;

/** The end of what it said, or from where it prints its goroutines. */
function relevant(output: string): string {
  const goroutines = output.indexOf('SIGQUIT: quit');
  const from = goroutines < 0 ? output.length - SAID_BYTES : goroutines - 3000;
  return output.slice(Math.max(0, from)).slice(0, SAID_BYTES);
}

function isMounted(dir: string): boolean {
  return readFileSync('/proc/self/mounts', 'utf8').includes(` ${dir} fuse.juicefs `);
}

/** A mount that somebody still has in use after a while is taken from its place; the client ends with its last user. */
const BUSY_MS = 10_000;

/** Resolves with who had it in use, if anybody had for too long; else with nothing. */
async function unmount(dir: string, id: string | undefined): Promise<string> {
  const startMs = performance.now();
  let users = '';
  await until(`${dir} is unmounted`, async () => {
    if (!isMounted(dir)) return true;
    const isBusy = performance.now() - startMs > BUSY_MS;
    if (isBusy && users === '') users = `in use: ${describeMount(dir, id)}`;
    const child = spawn('umount', [...(isBusy ? ['-l'] : []), dir], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (data: Buffer) => (said += data.toString()));
    await once(child, 'close');
    if (isBusy) users += said;
    return !isMounted(dir);
  });
  return users;
}

async function ended(child: ChildProcess, limitMs = 60_000): Promise<void> {
  await until(
    'the client ended after its unmount',
    () => child.exitCode !== null || child.signalCode !== null,
    limitMs,
  );
}

/**
 * Not by `readFileSync`: that leaves a file open whose `fstat` fails, as it does where another client removes the file
 * just then and there is no trash, and a mount with an open file does not end.
 */
function digestOf(file: Buffer): string {
  const hash = createHash('sha256');
  const fd = openSync(file, 'r');
  try {
    const part = Buffer.alloc(65_536);
    for (let count = readSync(fd, part); count > 0; count = readSync(fd, part)) {
      hash.update(part.subarray(0, count));
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}

/** What a mount shows, by path (a byte string without leading slash); names at its top may be left out. */
export function treeOfMount(dir: string, leftOut: readonly string[] = []): Map<string, MountedEntry> {
  const tree = new Map<string, MountedEntry>();
  const walk = (path: string): void => {
    const names = readdirSync(Buffer.from(join(dir, path), 'latin1'), { encoding: 'latin1' });
    for (const name of names.sort()) {
      if (path === '' && (CONTROL_FILES.has(name) || leftOut.includes(name))) continue;
      const below = path === '' ? name : `${path}/${name}`;
      const file = Buffer.from(`${dir}/${below}`, 'latin1');
      const stat = lstatSync(file, { bigint: true });
      const mode = Number(stat.mode & 0o7777n)
        .toString(8)
        .padStart(4, '0');
      const base = { nlink: Number(stat.nlink), ino: stat.ino, mtimeNs: stat.mtimeNs };
      if (stat.isDirectory()) {
        tree.set(below, { ...base, type: 'directory', mode, content: '' });
        walk(below);
      } else if (stat.isSymbolicLink()) {
        const content = readlinkSync(file, { encoding: 'latin1' });
        tree.set(below, { ...base, type: 'symlink', mode: '', content });
      } else if (stat.isFile()) {
        tree.set(below, { ...base, type: 'file', mode, content: digestOf(file) });
      } else {
        tree.set(below, { ...base, type: 'other', mode, content: '' });
      }
    }
  };
  walk('');
  return tree;
}
