/** Virtual time: what is due happens in the order of time, one thing after the other, and nothing else decides order. */

interface Due {
  readonly atUs: number;
  readonly order: number;
  readonly run: () => void;
  isCanceled: boolean;
}

/** Takes something back that has not happened yet. */
export type Cancel = () => void;

export class Scheduler {
  #nowUs = 0;
  #order = 0;
  /** A binary heap: each element is due no later than the two below it. */
  readonly #heap: Due[] = [];

  /** Microseconds since the start. */
  get nowUs(): number {
    return this.#nowUs;
  }

  get nowMs(): number {
    return this.#nowUs / 1000;
  }

  /** Things that have happened. */
  steps = 0;

  after(ms: number, run: () => void): Cancel {
    const due = {
      atUs: this.#nowUs + Math.max(0, Math.round(ms * 1000)),
      order: this.#order++,
      run,
      isCanceled: false,
    };
    this.#push(due);
    return () => {
      due.isCanceled = true;
    };
  }

  /** Lets everything happen that is due within `ms`; `isDone` ends it early. Between two things all promises go on. */
  async pass(ms: number, isDone: () => boolean = () => false): Promise<void> {
    const endUs = this.#nowUs + Math.round(ms * 1000);
    await settled();
    while (!isDone()) {
      const due = this.#heap[0];
      if (due === undefined || due.atUs > endUs) {
        this.#nowUs = endUs;
        return;
      }
      this.#pop();
      if (due.isCanceled) continue;
      this.#nowUs = due.atUs;
      this.steps += 1;
      due.run();
      await settled();
    }
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let at = heap.push(due) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const other = heap[above];
      if (other === undefined || isBefore(other, due)) break;
      heap[at] = other;
      heap[above] = due;
      at = above;
    }
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      const [left, right] = [heap[below], heap[below + 1]];
      if (left === undefined) break;
      let least = left;
      if (right !== undefined && isBefore(right, left)) {
        least = right;
        below += 1;
      }
      if (isBefore(last, least)) break;
      heap[at] = least;
      at = below;
    }
    heap[at] = last;
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.order < b.order);
}

/** Resolves when every promise that can go on has gone on: promises come before what is immediate. */
async function settled(): Promise<void> {
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
}
