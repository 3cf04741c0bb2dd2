/**
 * Which inodes and names are in the middle of a save by a real mount, so that the tree must not be shown yet
 * (design 4.1.5; layout 12, "in-flight states"). Fed with each revision before the index takes it in.
 */

import { DecodeError } from '../codec/error.ts';
import { decodeAttr, type Attr } from '../codec/attr.ts';
import { decodeKey } from '../codec/key.ts';
import type { StoreEvent } from '../codec/kv.ts';
import type { DentryName, InodeIndex } from './inode-index.ts';

/** A name that vanished may come back, and a creation may get its mode, within this time; milliseconds. */
const REPLACE_MS = 300;

/** Whether a dentry is part of the view (below its root, not hidden). */
export type InView = (dentry: DentryName) => boolean;

/** What is held, and until when. A file without content is held until it has some. */
export class HoldTracker {
  readonly #index: InodeIndex;
  readonly #inView: InView;
  /** Files created empty or cut to nothing. */
  readonly #empty = new Set<bigint>();
  /** Files created for their owner alone, as `install` does before its chmod: until when. */
  readonly #private = new Map<bigint, number>();
  /** Names that vanished: until when. */
  readonly #gone = new Map<string, { readonly dentry: DentryName; readonly untilMs: number }>();
  readonly #createdMs = new Map<bigint, number>();

  constructor(index: InodeIndex, inView: InView) {
    this.#index = index;
    this.#inView = inView;
  }

  /**
   * Notes one revision. `own`: it is a transaction of this agent, whole by construction. Call it before the index
   * applies the events.
   */
  note(events: readonly StoreEvent[], own: boolean, nowMs: number): void {
    const appeared = new Set<bigint>();
    for (const event of events) {
      const key = decodeKey(event.type === 'put' ? event.kv.key : event.key);
      if (key.kind === 'attr') {
        if (event.type === 'delete') this.#forget(key.ino);
        else this.#noteAttr(key.ino, event.kv.value, own, nowMs);
      } else if (key.kind === 'dentry' && event.type === 'put') {
        this.#gone.delete(nameKey(key));
        const ino = dentryInode(event.kv.value);
        if (ino !== undefined && this.#inView(key)) appeared.add(ino);
      }
    }
    if (own) return;
    for (const event of events) {
      if (event.type !== 'delete') continue;
      const key = decodeKey(event.key);
      if (key.kind !== 'dentry' || !this.#inView(key)) continue;
      const target = this.#index.list(key.parent).get(key.name)?.dentry;
      if (target === undefined || target instanceof DecodeError) continue;
      // Directories are not saved by replacing them, and a rename within the view is whole.
      if (target.type === 'directory' || appeared.has(target.ino)) continue;
      this.#gone.set(nameKey(key), { dentry: key, untilMs: nowMs + REPLACE_MS });
    }
  }

  /** The first listing: a file of length 0 that has chunk records is being rewritten (design 4.1.5). */
  noteListed(ino: bigint): void {
    const record = this.#index.get(ino);
    const attr = record?.attr?.value;
    if (record === undefined || attr === undefined || attr instanceof DecodeError) return;
    if (attr.type === 'file' && attr.length === 0n && record.chunks.size > 0 && isByMount(attr))
      this.#empty.add(ino);
  }

  /** Whether the file's content is not there yet. */
  isEmptied(ino: bigint): boolean {
    return this.#empty.has(ino) && this.#isShown(ino);
  }

  /**
   * Milliseconds until the holds that end by time are over; 0 when nothing is held, Infinity while content is awaited.
   * The content of files that were `givenUp` is not awaited.
   */
  remainingMs(nowMs: number, givenUp: ReadonlySet<bigint> = new Set()): number {
    let until = 0;
    for (const [ino, ms] of this.#createdMs) if (ms + REPLACE_MS <= nowMs) this.#createdMs.delete(ino);
    for (const [name, { untilMs }] of this.#gone) {
      if (untilMs <= nowMs) this.#gone.delete(name);
      else until = Math.max(until, untilMs - nowMs);
    }
    for (const [ino, untilMs] of this.#private) {
      if (untilMs <= nowMs) this.#private.delete(ino);
      else if (this.#isShown(ino)) until = Math.max(until, untilMs - nowMs);
    }
    for (const ino of this.#empty) if (!givenUp.has(ino) && this.#isShown(ino)) return Infinity;
    return until;
  }

  /** The file is taken as it is from now on. */
  accept(ino: bigint): void {
    this.#empty.delete(ino);
  }

  #noteAttr(ino: bigint, value: Uint8Array, own: boolean, nowMs: number): void {
    const attr = attrOf(value);
    if (attr?.type !== 'file') return;
    const before = this.#index.get(ino)?.attr?.value;
    const old = before === undefined || before instanceof DecodeError ? undefined : before;
    if (old === undefined && !own) this.#createdMs.set(ino, nowMs);
    const emptied = attr.length === 0n && (old === undefined || old.length > 0n);
    if (attr.length > 0n) this.#empty.delete(ino);
    else if (emptied && !own && isByMount(attr)) this.#empty.add(ino);
    const createdMs = this.#createdMs.get(ino);
    if (createdMs === undefined || (attr.mode & 0o077) !== 0) this.#private.delete(ino);
    else if (isByMount(attr) || this.#private.has(ino)) this.#private.set(ino, createdMs + REPLACE_MS);
  }

  #forget(ino: bigint): void {
    this.#empty.delete(ino);
    this.#private.delete(ino);
    this.#createdMs.delete(ino);
  }

  #isShown(ino: bigint): boolean {
    return this.#index.namesOf(ino).some((dentry) => this.#inView(dentry));
  }
}

function nameKey({ parent, name }: DentryName): string {
  return `${parent}/${name}`;
}

/**
 * A mount creates and truncates with mtime = ctime; an agent's file carries the mtime it had on the agent's disk, and
 * comes whole.
 */
function isByMount(attr: Attr): boolean {
  return attr.mtimeNs === attr.ctimeNs;
}

function attrOf(value: Uint8Array): Attr | undefined {
  try {
    return decodeAttr(value);
  } catch {
    return undefined;
  }
}

function dentryInode(value: Uint8Array): bigint | undefined {
  return value.length === 9 ? new DataView(value.buffer, value.byteOffset).getBigUint64(1) : undefined;
}
