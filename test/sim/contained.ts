/** G8: nothing is written outside DIR, and no entry has rights or a kind that nobody asked for. */

import type { FsPort } from '../../src/agent/base/ports.ts';
import type { ByteString } from '../../src/codec/kv.ts';
import type { MemoryFs } from '../support/memory-fs.ts';
import { OUTSIDE, ROOT, type Pod } from './pod.ts';
import type { Fail, Validator } from './validator.ts';

const SUID_SGID = 0o6000;

export class Contained implements Validator {
  readonly #fail: Fail;
  readonly #pods: () => readonly Pod[];
  readonly #outside = new Map<Pod, string>();

  constructor(fail: Fail, pods: () => readonly Pod[]) {
    this.#fail = fail;
    this.#pods = pods;
  }

  beforeCall(pod: Pod, call: keyof FsPort, args: readonly unknown[]): void {
    if (!this.#outside.has(pod)) this.#outside.set(pod, outsideOf(pod.fs));
    const paths =
      call === 'link' || call === 'rename' ? [args[1], args[2]] : [call === 'symlink' ? args[2] : args[1]];
    for (const path of paths) if (typeof path === 'string') this.#check(pod, call, path);
  }

  #check(pod: Pod, call: string, path: ByteString): void {
    let dir: ByteString;
    try {
      dir = pod.fs.directoryOf(path);
    } catch {
      return;
    }
    if (dir !== ROOT && !dir.startsWith(`${ROOT}/`) && path !== ROOT)
      this.#fail('G8', `${pod.name}: ${call} ${path} in ${dir}`);
  }

  /** The last component of a path can be a link as well: so what is outside has to be as it was. */
  atRest(): void {
    for (const pod of this.#pods()) {
      const before = this.#outside.get(pod);
      const now = outsideOf(pod.fs);
      if (before !== undefined && before !== now)
        this.#fail('G8', `${pod.name}: outside ${before} became ${now}`);
      this.#checkBelow(pod, ROOT);
    }
  }

  #checkBelow(pod: Pod, dir: ByteString): void {
    for (const name of pod.fs.readdir('check', dir)) {
      const at = `${dir}/${name}`;
      const stat = pod.fs.lstat('check', at);
      if (stat === undefined) continue;
      if ((stat.mode & SUID_SGID) !== 0)
        this.#fail('G8', `${pod.name}: ${at} has mode ${stat.mode.toString(8)}`);
      if (stat.type === 'block' || stat.type === 'char') this.#fail('G8', `${pod.name}: ${at} is a device`);
      if (stat.type === 'directory') this.#checkBelow(pod, at);
    }
  }
}

function outsideOf(fs: MemoryFs): string {
  const stat = fs.lstat('check', OUTSIDE);
  return `${stat?.mode.toString(8)} ${stat?.ctimeNs} ${fs.readdir('check', OUTSIDE).join()}`;
}
