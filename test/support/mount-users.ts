/** What can be told of a mount that does not go away: who has it in use, and what its client is doing. */

import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** The mount's number in the kernel, which it keeps when it is taken from its place. */
export function mountIdOf(dir: string): string | undefined {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((text) => text.split(' ')[4] === dir);
  return line?.split(' ')[0];
}

/** The processes whose command line names this mount, which is like no other; parents first. */
export function processesOf(dir: string): number[] {
  return processes().filter((pid) => read(`/proc/${pid}/cmdline`).includes(dir));
}

/** One line for each of its users and for each thread of its client. */
export function describeMount(dir: string, id: string | undefined): string {
  const lines: string[] = [];
  for (const pid of processes()) {
    const what = holds(pid, id);
    // A copy of the mount in another namespace lives on by itself.
    if (!sharesOurMounts(pid) && read(`/proc/${pid}/mountinfo`).includes(dir)) what.push('has it mounted');
    if (what.length > 0) lines.push(`${pid} (${commandOf(pid)}): ${what.join(', ')}`);
  }
  for (const pid of processesOf(dir)) {
    for (const task of list(`/proc/${pid}/task`)) {
      const at = `/proc/${pid}/task/${task}`;
      const state = /^State:\s*(.*)$/m.exec(read(`${at}/status`))?.[1] ?? 'gone';
      lines.push(`client ${pid} thread ${task}: ${state}, in ${read(`${at}/wchan`)}`);
    }
  }
  return lines.join('\n');
}

/** Of a process that does not say it is assumed. */
function sharesOurMounts(pid: number): boolean {
  return ['', link('/proc/self/ns/mnt')].includes(link(`/proc/${pid}/ns/mnt`));
}

/** What of the mount the process has open. */
function holds(pid: number, id: string | undefined): string[] {
  if (id === undefined) return [];
  const open = list(`/proc/${pid}/fdinfo`)
    .filter((fd) => mountIn(read(`/proc/${pid}/fdinfo/${fd}`)) === id)
    .map((fd) => `fd ${fd} ${link(`/proc/${pid}/fd/${fd}`)}`);
  const places = ['cwd', 'root', 'exe'].filter((name) => mountOfLink(`/proc/${pid}/${name}`) === id);
  return [...open, ...places];
}

/** Asks the kernel alone: nothing is looked up in the mount, whose client may be silent. */
function mountOfLink(path: string): string | undefined {
  const O_PATH = 0o10000000;
  try {
    const fd = openSync(path, O_PATH);
    try {
      return mountIn(read(`/proc/self/fdinfo/${fd}`));
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

function mountIn(fdinfo: string): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(fdinfo)?.[1];
}

function processes(): number[] {
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function commandOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 200);
}

function read(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    // It ended meanwhile.
    return '';
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
