/** A directory without an agent in which the same is done as in a served one: in the end both hold the same. */

import { MemoryFs } from '../support/memory-fs.ts';
import type { Pod } from './pod.ts';
import { DiskSite, type Handle, type Site } from './site.ts';

const PLAIN = '/plain';

/** The site of a pod's programs: whatever they change there changes in the plain directory as well, in the same step. */
export class TwinSite extends DiskSite {
  readonly plain: MemoryFs;
  readonly plainRoot = PLAIN;
  readonly #plain: DiskSite;

  constructor(pod: Pod, root: string) {
    super(pod.name, pod.fs, root, (path) => pod.edit(path));
    this.plain = new MemoryFs(() => pod.clock.nowNs());
    this.plain.mkdir('make', PLAIN, 0o755);
    this.#plain = new DiskSite('plain', this.plain, PLAIN, () => undefined);
  }

  /** A directory that is there before programs begin. */
  prepare(path: string): void {
    this.#plain.mkdir(path);
  }

  override open(path: string, how: Parameters<Site['open']>[1]): Handle {
    const handle = super.open(path, how);
    const twin = this.#plain.open(path, how);
    return {
      ...handle,
      write: (text, position) => {
        handle.write(text, position);
        twin.write(text, position);
      },
      truncate: () => {
        handle.truncate();
        twin.truncate();
      },
      close: () => {
        handle.close();
        twin.close();
      },
    };
  }

  override mkdir(path: string): void {
    super.mkdir(path);
    this.#plain.mkdir(path);
  }

  override rmdir(path: string): void {
    super.rmdir(path);
    this.#plain.rmdir(path);
  }

  override unlink(path: string): void {
    super.unlink(path);
    this.#plain.unlink(path);
  }

  override rename(from: string, to: string): void {
    super.rename(from, to);
    this.#plain.rename(from, to);
  }

  override link(from: string, to: string): void {
    super.link(from, to);
    this.#plain.link(from, to);
  }

  override symlink(target: string, path: string): void {
    super.symlink(target, path);
    this.#plain.symlink(target, path);
  }

  override chmod(path: string, mode: number): void {
    super.chmod(path, mode);
    this.#plain.chmod(path, mode);
  }
}
