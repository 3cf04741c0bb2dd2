/** Runs a program to its end; what it printed is kept and shown only when it fails. */

import { spawn } from 'node:child_process';

/** A sentence for a person, printed without a stack. */
export class Failure extends Error {}

/** Resolves with everything that the program printed on stdout; rejects with a Failure that ends with its last lines. */
export function run(program, args, { input, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let everything = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      everything += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => (everything += text));
    child.on('error', (error) => reject(new Failure(`cannot run ${program}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(stdout);
      const last = everything.trimEnd().split('\n').slice(-15).join('\n    ');
      reject(new Failure(`"${[program, ...args].join(' ')}" ended with ${signal ?? code}\n    ${last}`));
    });
    child.stdin.on('error', () => {}); // a program that does not read its input says so by its exit code
    child.stdin.end(input);
  });
}

/** Runs a program that talks to the person itself; resolves with its exit code (128 after a signal). */
export function runOpen(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: 'inherit' });
    child.on('error', (error) => reject(new Failure(`cannot run ${program}: ${error.message}`)));
    child.on('close', (code) => resolve(code ?? 128));
  });
}

/** Ends this process with one sentence instead of a stack, unless the error is a surprise. */
export function explain(error) {
  console.error(error instanceof Failure ? `\n${error.message}` : error);
  process.exitCode = 1;
}
