/** What cases that are told step by step have in common. */

import { expect } from 'chai';
import type { Path } from '../../src/reconcile/entry.ts';
import type { RecordedSite } from './history.ts';
import type { Stage } from './stage.ts';

/** Long enough for anything that has to settle, and for a push and a publish after it. */
const SETTLED_MS = 20_000;

export async function expectAgreement(stage: Stage): Promise<void> {
  await stage.pass(SETTLED_MS);
  expect(stage.failures).to.deep.equal([]);
  expect(stage.differences()).to.deep.equal([]);
  expect(stage.lost()).to.deep.equal([]);
}

export function write(site: RecordedSite, path: Path): void {
  const file = site.open(path, { create: true, truncate: true });
  file.write(site.history.line(site.name, path), 0);
  file.close();
}

export function append(site: RecordedSite, path: Path): void {
  const file = site.open(path, { append: true });
  file.write(site.history.line(site.name, path), 0);
  file.close();
}
