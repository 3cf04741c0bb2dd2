/** Random edits, faults and crashes from one seed, on fakes, judged by what design 2 promises. */

import { expect } from 'chai';
import { simulate, type Outcome, type Profile } from './simulation.ts';

/** Without a number of seeds: as many as fit, up to a number. In CI more than for somebody who waits. */
const BUDGET_MS = (process.env['CI'] ?? '') === '' ? 20_000 : 150_000;
const SEEDS = 150;
const FIRST_SEED = 1;

function given(name: string): number | undefined {
  const text = process.env[name];
  return text === undefined || text === '' ? undefined : Number(text);
}

/** What a person needs to find out what went wrong. */
function report({ seed, failures, trace }: Outcome): string {
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

const profile = (process.env['PROFILE'] ?? 'calm') as Profile;

describe('the simulation', function () {
  this.timeout(0);

  it('gives the same trace for the same seed', async () => {
    for (const seed of [2, 3]) {
      const [one, other] = [await simulate(seed), await simulate(seed)];
      expect(other.digest).to.equal(one.digest);
      expect(other.trace.lines).to.deep.equal(one.trace.lines);
    }
  });

  it('finds nothing wrong', async () => {
    const startMs = performance.now();
    const first = given('SEED') ?? FIRST_SEED;
    const isGiven = given('SEEDS') !== undefined || given('SEED') !== undefined;
    const seeds = given('SEEDS') ?? (isGiven ? 1 : SEEDS);
    const isOver = (done: number): boolean =>
      done >= seeds || (!isGiven && performance.now() - startMs > BUDGET_MS);
    const failed: Outcome[] = [];
    let done = 0;
    let steps = 0;
    for (; !isOver(done); done += 1) {
      const outcome = await simulate(first + done, profile);
      steps += outcome.steps;
      if (outcome.failures.length > 0) failed.push(outcome);
    }
    const seconds = (performance.now() - startMs) / 1000;
    console.log(
      `      ${done} seeds from ${first}, ${(done / seconds).toFixed(2)} seeds/s, ${Math.round(steps / seconds)} steps/s`,
    );
    for (const outcome of failed) console.log(report(outcome));
    expect(failed.map(({ seed }) => seed)).to.deep.equal([]);
  });
});
