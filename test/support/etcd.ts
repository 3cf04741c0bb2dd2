/** Real etcd servers for tests: each on free ports, with its own data and a name that proves it is ours. */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants, readdirSync, readFileSync, statfsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3, type IOptions } from 'etcd3';
import type { Endpoint } from '../../src/codec/url.ts';
import { findTool } from '../../tools/find.mjs';
import { until } from './until.ts';

export interface EtcdServerOptions {
  /** The program; else `ETCD_BIN`, the PATH, or the project's cache. */
  readonly binary?: string;
  /** More arguments, such as `--quota-backend-bytes`. */
  readonly args?: readonly string[];
  /** Where it listens besides 127.0.0.1, without TLS. */
  readonly alsoAt?: Endpoint;
  /** Folder in which the data are kept; else memory where there is enough, or the folder for temporary files. */
  readonly dataRoot?: string;
  /** Serves TLS, and asks clients for a certificate. */
  readonly tls?: TlsFiles;
}

/** Paths. The server uses them as its own, and a client with them is let in. */
export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface EtcdServer {
  /** The member's name, unique to this server. */
  readonly name: string;
  readonly endpoint: Endpoint;
  /** `http://127.0.0.1:PORT`, or `https` with TLS. */
  readonly clientUrl: string;
  /** `etcd://127.0.0.1:PORT`: a metadata address without a path. */
  readonly url: string;
  /** Who may ask for the member's name once users are asked for; set by the test that enables them. */
  login?: { readonly username: string; readonly password: string };
  /** Of the process that runs now. */
  readonly pid: number;
  /** Ends the process and waits for it; the data stay. */
  kill(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Starts the process again on the same data and port. */
  start(): Promise<void>;
  /** Removes the data of a server that does not run: it starts again as another, empty one. */
  wipe(): Promise<void>;
  /** Copies the data of a server that does not run: a backup, with all that makes the store what it is. */
  save(): Promise<string>;
  /** Puts a backup in the place of the data of a server that does not run. */
  restore(backup: string): Promise<void>;
  /** SIGSTOP: it still accepts connections and answers nothing. */
  pause(): void;
  resume(): void;
  /** Ends the process and removes the data. Safe to call twice. */
  stop(): Promise<void>;
}

/** How long SIGSTOP may take; milliseconds. */
const STOP_MS = 5_000;

function isStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((task) => {
    const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T');
  });
}

/** How often another test may come first at a port that was free just now. */
const MOST_TAKEN = 3;

/** Starts a server and waits until it answers under its own name. */
export async function startEtcd(options: EtcdServerOptions = {}): Promise<EtcdServer> {
  for (let taken = 0; ; taken += 1) {
    const ports = [await freePort(), await freePort()] as const;
    const server = await newServer(options, ports);
    try {
      await server.start();
      return server;
    } catch (error) {
      await server.stop();
      if (taken === MOST_TAKEN || (await Promise.all(ports.map(isFree))).every(Boolean)) throw error;
    }
  }
}

async function newServer(
  options: EtcdServerOptions,
  [port, peerPort]: readonly [number, number],
): Promise<EtcdServer> {
  const binary = options.binary ?? findTool('etcd');
  if (binary === undefined) throw new Error('etcd is missing; "npm run tools" fetches it');
  const folder = await mkdtemp(join(options.dataRoot ?? dataRoot(), 'etcd-'));
  const name = `test-${randomUUID()}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const { tls, alsoAt } = options;
  const clientUrl = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  const listen = alsoAt === undefined ? clientUrl : `${clientUrl},http://${alsoAt.host}:${alsoAt.port}`;
  let child: ChildProcess | undefined;

  const server: EtcdServer = {
    name,
    endpoint: { host: '127.0.0.1', port },
    clientUrl,
    url: `etcd://127.0.0.1:${port}`,
    get pid() {
      if (child?.pid === undefined) throw new Error(`etcd ${name} does not run`);
      return child.pid;
    },
    async start() {
      child = spawn(
        binary,
        [
          ...['--name', name, '--data-dir', join(folder, 'data')],
          ...['--listen-client-urls', listen, '--advertise-client-urls', clientUrl],
          ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
          ...['--initial-cluster', `${name}=${peerUrl}`, '--initial-cluster-token', name],
          ...(tls === undefined ? [] : tlsArgs(tls)),
          ...(options.args ?? []),
        ],
        { stdio: 'ignore' },
      );
      const ended = child;
      await until(`etcd ${name} answers`, async () => {
        if (ended.exitCode !== null) throw new Error(`etcd ${name} ended with ${ended.exitCode}`);
        return (await memberName(clientUrl, tls, server.login)) === name;
      });
    },
    async kill(signal = 'SIGTERM') {
      if (child === undefined) return;
      await killOurs(child, name, signal);
      child = undefined;
    },
    async wipe() {
      if (child !== undefined) throw new Error(`etcd ${name} still runs`);
      await rm(join(folder, 'data'), { recursive: true });
    },
    async save() {
      if (child !== undefined) throw new Error(`etcd ${name} still runs`);
      const backup = join(folder, `backup-${randomUUID()}`);
      await cp(join(folder, 'data'), backup, { recursive: true });
      return backup;
    },
    async restore(backup) {
      await server.wipe();
      await cp(backup, join(folder, 'data'), { recursive: true });
    },
    pause() {
      process.kill(server.pid, 'SIGSTOP');
      // Until the last thread has stopped, a request may still be answered.
      const endMs = performance.now() + STOP_MS;
      while (!isStopped(server.pid)) {
        if (performance.now() > endMs) throw new Error(`etcd ${name} did not stop`);
      }
    },
    resume() {
      process.kill(server.pid, 'SIGCONT');
    },
    async stop() {
      await server.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    },
  };
  return server;
}

/** Room for the logs that a server lays out ahead, 64 MiB each, of all servers that run at a time. */
const MEMORY_BYTES = 4 * 2 ** 30;

/** Memory where there is enough: a server waits for the disk at every transaction, and no test takes the power away. */
function dataRoot(): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    accessSync('/dev/shm', constants.W_OK);
    if (bavail * bsize >= MEMORY_BYTES) return '/dev/shm';
  } catch {
    // None here.
  }
  return tmpdir();
}

/** A port of 127.0.0.1 that is free now, below the range that outgoing connections use. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  return new Promise((resolve) => {
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** The name of the member that answers, or `undefined` while none does. */
async function memberName(
  clientUrl: string,
  tls: TlsFiles | undefined,
  login: EtcdServer['login'],
): Promise<string | undefined> {
  const client = new Etcd3({
    hosts: clientUrl,
    grpcOptions: { 'grpc.use_local_subchannel_pool': 1 },
    ...(tls === undefined ? {} : { credentials: await credentialsOf(tls) }),
    ...(login === undefined ? {} : { auth: login }),
  });
  try {
    const { header, members } = await client.cluster.memberList({}, { deadline: Date.now() + 1_000 });
    return members.find((member) => member.ID === header.member_id)?.name;
  } catch {
    return undefined;
  } finally {
    client.close();
  }
}

async function credentialsOf(tls: TlsFiles): Promise<NonNullable<IOptions['credentials']>> {
  const [rootCertificate, certChain, privateKey] = await Promise.all([
    readFile(tls.ca),
    readFile(tls.cert),
    readFile(tls.key),
  ]);
  return { rootCertificate, certChain, privateKey };
}

function tlsArgs(tls: TlsFiles): string[] {
  return [
    ...['--cert-file', tls.cert, '--key-file', tls.key],
    ...['--trusted-ca-file', tls.ca, '--client-cert-auth'],
  ];
}

/** The number may belong to somebody else by now: the command line tells. */
async function killOurs(child: ChildProcess, name: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const commandLine = await readFile(`/proc/${child.pid}/cmdline`, 'latin1');
  if (!commandLine.includes(name)) throw new Error(`process ${child.pid} is not etcd ${name}`);
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}
