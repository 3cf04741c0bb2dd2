/** `accept`: a person says that what a tripped guard holds back is meant. */

import { codeOf, ConfigError } from '../base/error.ts';
import { nodeFs } from '../disk/fs.ts';
import { acceptTrip } from '../guard/guards.ts';
import type { Layout } from '../disk/layout.ts';
import { readStatus } from '../report/status.ts';
import { EXIT, print, type Output } from './context.ts';

export interface AcceptOptions {
  readonly layout: Layout;
  readonly id: string;
  readonly out: Output;
}

/**
 * Leaves word for the agent, which does what it held back with its next look or when it starts. Throws ConfigError for an
 * id that is not tripped: it is another one each time.
 */
export async function accept({ layout, id, out }: AcceptOptions): Promise<number> {
  const status = readStatus(nodeFs, layout);
  if (status === undefined)
    throw new ConfigError('no agent has served this directory yet', { path: layout.root });
  const tripped = status.guards.find((one) => one.id === id);
  if (tripped === undefined) {
    const others = status.guards.map((one) => `${one.id} (${one.reason})`);
    const there = others.length === 0 ? 'none is' : `tripped is ${others.join(', ')}`;
    throw new ConfigError(`no guard is tripped with the id ${id}: ${there}`, { path: layout.root });
  }
  try {
    acceptTrip(nodeFs, layout, id);
  } catch (error) {
    const reason = `the agent's state cannot be written (${codeOf(error) ?? String(error)})`;
    throw new ConfigError(reason, { path: layout.accept, cause: error });
  }
  await print(out, `accepted ${id}: ${tripped.reason}\n`);
  return EXIT.done;
}
