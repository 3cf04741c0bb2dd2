/** Stores whose news come later than they did. */

import type { EtcdStore } from '../../src/agent/base/ports.ts';

/** Holds back what a watch tells. */
export class LateNews {
  #held: (() => void)[] | undefined;

  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const tell of held) tell();
  }

  through(inner: EtcdStore): EtcdStore {
    const late = (tell: () => void): void => {
      if (this.#held === undefined) tell();
      else this.#held.push(tell);
    };
    return {
      commit: (...args) => inner.commit(...args),
      get: (...args) => inner.get(...args),
      snapshot: (...args) => inner.snapshot(...args),
      status: (...args) => inner.status(...args),
      close: () => inner.close(),
      watch: (ranges, from, handlers, signal) =>
        inner.watch(
          ranges,
          from,
          {
            onRevision: (...args) => late(() => handlers.onRevision(...args)),
            onProgress: (...args) => late(() => handlers.onProgress(...args)),
            onState: (...args) => late(() => handlers.onState(...args)),
          },
          signal,
        ),
    };
  }
}

/** A store whose news wait while a transaction is under way, so that its answer comes first. */
export function answersFirst(inner: EtcdStore): EtcdStore {
  const news = new LateNews();
  let underWay = 0;
  return {
    ...news.through(inner),
    async commit(...args) {
      underWay += 1;
      news.hold();
      try {
        return await inner.commit(...args);
      } finally {
        underWay -= 1;
        // Not before whoever waits for the answer has dealt with it.
        setImmediate(() => {
          if (underWay === 0) news.release();
        });
      }
    },
  };
}
