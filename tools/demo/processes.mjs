/** Child processes of the demo: logged to files, stopped by their pids, and missed at once when one ends too early. */

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../run.mjs';

const STOP_LIMIT_MS = 5000;

export class Processes {
  #running = [];
  #logDir;
  #stopping = false;
  /** Rejects when a process ends that nobody stopped. */
  died;
  #reportDeath;

  constructor(logDir) {
    this.#logDir = logDir;
    mkdirSync(logDir, { recursive: true });
    this.died = new Promise((_, reject) => (this.#reportDeath = reject));
    this.died.catch(() => {}); // read by whoever waits for something
  }

  start(name, program, args, options = {}) {
    if (this.#stopping) throw new Failure('stopped');
    const log = openSync(join(this.#logDir, `${name}.log`), 'a');
    const child = spawn(program, args, { ...options, stdio: ['ignore', log, log] });
    closeSync(log);
    const ended = new Promise((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    this.#running.push({ name, child, ended });
    void ended.then((how) => {
      if (!this.#stopping)
        this.#reportDeath(new Failure(`${name} ended too early (${how})${this.#lastLines(name)}`));
    });
    return child;
  }

  /** Polls until `probe` resolves with something true; a Failure after `limitMs`, or when a process has died. */
  async until(what, limitMs, probe, everyMs = 50) {
    const limit = performance.now() + limitMs;
    for (;;) {
      const result = await Promise.race([probe(), this.died]);
      if (result) return result;
      if (this.#stopping) throw new Failure('stopped');
      if (performance.now() > limit) {
        const logs = this.#running.map(({ name }) => this.#lastLines(name)).join('');
        throw new Failure(`not within ${limitMs / 1000} s: ${what}${logs}`);
      }
      await sleep(everyMs);
    }
  }

  #lastLines(name) {
    const lines = readFileSync(join(this.#logDir, `${name}.log`), 'utf8')
      .trimEnd()
      .split('\n');
    return `\n  the last lines of ${name}:\n    ${lines.slice(-8).join('\n    ')}`;
  }

  /** Stops what was started, last first; SIGKILL for what does not listen. Resolves when all are gone. */
  async stop() {
    this.#stopping = true;
    for (const { child, ended } of this.#running.splice(0).reverse()) {
      child.kill('SIGTERM');
      const waiting = new AbortController();
      await Promise.race([
        ended,
        sleep(STOP_LIMIT_MS, undefined, { signal: waiting.signal }).catch(() => {}),
      ]);
      waiting.abort();
      child.kill('SIGKILL'); // does nothing to one that has ended
      await ended;
    }
  }
}

/** A port of the loopback address that nobody listens on, below those that the kernel gives to clients. */
export async function freePort() {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = 20000 + Math.floor(Math.random() * 12000);
    if (await canListen(port)) return port;
  }
  throw new Failure('no free port between 20000 and 32000 on 127.0.0.1');
}

function canListen(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
