import { expect } from 'chai';

import { Settling } from '../../../src/agent/look/settle.ts';

/** One look at one name; `at` is the time in milliseconds. */
function looker(
  settling: Settling,
  quietMs = 300,
  lasts = false,
): (at: number, fingerprint: string) => boolean {
  return (at, fingerprint) => {
    settling.startRound();
    const settled = settling.isSettled('name', fingerprint, quietMs, at, lasts);
    settling.endRound(() => true);
    return settled;
  };
}

describe('settling', () => {
  it('counts a name that was the same for long enough, once', () => {
    const settling = new Settling();
    const look = looker(settling);
    expect(look(0, 'a')).to.equal(false);
    expect([...settling.waiting()]).to.deep.equal(['name']);
    expect(look(299, 'a')).to.equal(false);
    expect(look(300, 'a')).to.equal(true);
    expect([...settling.waiting()]).to.deep.equal([]);
    expect(look(310, 'a')).to.equal(false);
  });

  it('starts again with each change', () => {
    const look = looker(new Settling());
    look(0, 'a');
    expect(look(290, 'b')).to.equal(false);
    expect(look(580, 'b')).to.equal(false);
    expect(look(590, 'b')).to.equal(true);
  });

  it('counts at once what needs no quiet', () => {
    const settling = new Settling();
    expect(looker(settling, 0)(0, 'a')).to.equal(true);
    looker(settling)(0, 'a');
    expect(looker(settling, 0)(1, 'a')).to.equal(true);
    expect([...settling.waiting()]).to.deep.equal([]);
  });

  it('takes what never rests after 10 s, and then every 30 s', () => {
    const look = looker(new Settling());
    const taken: number[] = [];
    for (let at = 0; at <= 100_000; at += 100) if (look(at, `changed at ${at}`)) taken.push(at);
    expect(taken).to.deep.equal([10_000, 40_100, 70_200]);
  });

  it('is patient again with what came to rest once', () => {
    const look = looker(new Settling());
    for (let at = 0; at <= 10_000; at += 100) look(at, `${at}`);
    look(10_100, 'rest');
    expect(look(10_400, 'rest')).to.equal(true);
    const taken: number[] = [];
    for (let at = 20_000; at <= 31_000; at += 100) if (look(at, `${at}`)) taken.push(at);
    expect(taken).to.deep.equal([30_000]);
  });

  it('forgets a name that a look does not come by any more', () => {
    const settling = new Settling();
    const look = looker(settling);
    look(0, 'a');
    settling.startRound();
    settling.endRound(() => true);
    expect([...settling.waiting()]).to.deep.equal([]);
    expect(look(400, 'a')).to.equal(false);
  });

  it('forgets a name that is as it should be', () => {
    const settling = new Settling();
    const look = looker(settling);
    look(0, 'a');
    settling.forget('name');
    expect(look(400, 'a')).to.equal(false);
  });

  it('a name that lasts counts in every look until it changes', () => {
    const settling = new Settling();
    const look = looker(settling, 300, true);
    look(0, 'a');
    expect([look(300, 'a'), look(310, 'a'), look(5_000, 'a')]).to.deep.equal([true, true, true]);
    expect([...settling.waiting()]).to.deep.equal([]);
    expect(look(20_000, 'b')).to.equal(false);
    expect(look(20_290, 'c')).to.equal(false);
    expect(look(20_590, 'c')).to.equal(true);
  });

  it('a name that lasts and never rests is not taken more often for that', () => {
    const look = looker(new Settling(), 300, true);
    const taken: number[] = [];
    for (let at = 0; at <= 75_000; at += 100) if (look(at, `changed at ${at}`)) taken.push(at);
    expect(taken).to.deep.equal([10_000, 40_100, 70_200]);
  });

  it('a look elsewhere leaves what lasts', () => {
    const settling = new Settling();
    const look = looker(settling, 300, true);
    look(0, 'a');
    look(300, 'a');
    settling.startRound();
    settling.endRound(() => false);
    expect(look(310, 'a')).to.equal(true);
  });

  /** The time at which each name counts; `first` is when it begins to change, and looks are 10 ms apart. */
  const settledAt = (first: Readonly<Record<string, number>>, untilMs: number): Record<string, number> => {
    const settling = new Settling();
    const settled: Record<string, number> = {};
    for (let at = 0; at <= untilMs; at += 10) {
      settling.startRound();
      for (const [name, fromMs] of Object.entries(first)) {
        if (at < fromMs || name in settled) continue;
        if (settling.isSettled(name, 'same', 300, at)) settled[name] = at;
      }
      settling.endRound(() => true);
    }
    return settled;
  };

  it('names that change one after the other count together', () => {
    expect(settledAt({ cert: 0, key: 200, link: 250 }, 1000)).to.deep.equal({
      cert: 550,
      key: 550,
      link: 550,
    });
    expect(settledAt({ one: 0, other: 310 }, 1000)).to.deep.equal({ one: 300, other: 610 });
  });

  it('one that begins to change in the look in which another would count holds that up', () => {
    const settling = new Settling();
    const look = (at: number, names: readonly string[]): string[] => {
      settling.startRound();
      settling.noteBegun(names, at);
      const settled = names.filter((name) => settling.isSettled(name, 'same', 300, at));
      settling.endRound(() => true);
      return settled;
    };
    expect(look(0, ['cert'])).to.deep.equal([]);
    expect(look(300, ['cert', 'key'])).to.deep.equal([]);
    expect(look(600, ['cert', 'key'])).to.deep.equal(['cert', 'key']);
  });

  it('a name waits no more than a second longer for others', () => {
    const first = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`file ${n}`, n * 100]));
    expect(settledAt(first, 5000)).to.include({ 'file 0': 1300, 'file 1': 1400, 'file 19': 2200 });
  });

  it('what somebody can still write to waits, but not for ever, and for ever anew', () => {
    const settling = new Settling();
    const taken: number[] = [];
    let isOpen = true;
    const look = (at: number, print: string): void => {
      settling.startRound();
      if (settling.isSettled('name', print, 300, at, false, () => isOpen)) taken.push(at);
      settling.endRound(() => true);
    };
    for (let at = 0; at <= 10_000; at += 100) look(at, 'once');
    for (let at = 20_000; at <= 30_000; at += 100) look(at, 'again');
    expect(taken).to.deep.equal([10_000, 30_000]);
    look(40_000, 'last');
    look(40_400, 'last');
    isOpen = false;
    look(40_500, 'last');
    expect(taken).to.deep.equal([10_000, 30_000, 40_500]);
  });
});
