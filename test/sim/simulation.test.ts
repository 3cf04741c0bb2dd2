/** Random edits, faults and crashes from one seed, on fakes, judged by what design 2 promises. */

import { expect } from 'chai';
import { simulate, type Outcome, type Profile } from './simulation.ts';

interface Share {
  readonly profile: Profile;
  readonly first: number;
  readonly seeds: number;
  /** It ends after this long, whatever is left of its seeds; milliseconds. */
  readonly budgetMs: number;
}

/** Without a seed, a number of seeds or a profile: as many as fit, up to a number. In CI more than for somebody who waits. */
const LENGTH = (process.env['CI'] ?? '') === '' ? 1 : 7;
const SHARES: readonly Share[] = [
  { profile: 'calm', first: 1, seeds: 150, budgetMs: 9_000 * LENGTH },
  { profile: 'links', first: 1, seeds: 60, budgetMs: 3_000 * LENGTH },
  { profile: 'stores', first: 1, seeds: 60, budgetMs: 4_000 * LENGTH },
  { profile: 'machines', first: 1, seeds: 60, budgetMs: 2_000 * LENGTH },
  { profile: 'power', first: 1, seeds: 60, budgetMs: 2_000 * LENGTH },
  { profile: 'members', first: 1, seeds: 60, budgetMs: 2_000 * LENGTH },
  { profile: 'rough', first: 100, seeds: 40, budgetMs: 4_000 * LENGTH },
];

function given(name: string): number | undefined {
  const text = process.env[name];
  return text === undefined || text === '' ? undefined : Number(text);
}

function shares(): readonly Share[] {
  const profile = (process.env['PROFILE'] ?? '') as Profile | '';
  const [first, seeds] = [given('SEED'), given('SEEDS')];
  if (profile === '' && first === undefined && seeds === undefined) return SHARES;
  const count = seeds ?? (first === undefined ? 150 : 1);
  return [
    { profile: profile === '' ? 'calm' : profile, first: first ?? 1, seeds: count, budgetMs: Infinity },
  ];
}

/** What a person needs to find out what went wrong. */
function report(profile: Profile, { seed, failures, trace }: Outcome): string {
  const words = failures.flatMap(({ what }) => [
    ...(what.match(/#\d+\b/g) ?? []),
    ...(what.match(/\b[a-g]\/\S+/g) ?? []),
  ]);
  return [
    `npm run test:sim -- --seed ${seed} --profile ${profile}`,
    ...failures.map(({ guarantee, what }) => `${guarantee}: ${what}`),
    process.env['TRACE'] === undefined ? trace.about(words) : trace.lines.join('\n'),
  ].join('\n');
}

describe('the simulation', function () {
  this.timeout(0);

  it('gives the same trace for the same seed', async () => {
    const runs = [
      ['calm', 2],
      ['calm', 3],
      ['stores', 11],
      ['machines', 5],
      ['rough', 100],
    ] as const;
    for (const [profile, seed] of runs) {
      const [one, other] = [await simulate(seed, profile), await simulate(seed, profile)];
      expect(other.digest).to.equal(one.digest);
      expect(other.trace.lines).to.deep.equal(one.trace.lines);
    }
  });

  for (const { profile, first, seeds, budgetMs } of shares()) {
    it(`finds nothing wrong: ${profile}`, async () => {
      const startMs = performance.now();
      const failed: Outcome[] = [];
      let done = 0;
      let steps = 0;
      for (; done < seeds && performance.now() - startMs < budgetMs; done += 1) {
        const outcome = await simulate(first + done, profile);
        steps += outcome.steps;
        if (outcome.failures.length > 0) failed.push(outcome);
      }
      const seconds = (performance.now() - startMs) / 1000;
      console.log(
        `      ${done} seeds from ${first}, ${(done / seconds).toFixed(2)} seeds/s, ${Math.round(steps / seconds)} steps/s`,
      );
      for (const outcome of failed) console.log(report(profile, outcome));
      expect(failed.map(({ seed }) => seed)).to.deep.equal([]);
    });
  }
});
