/** A backup may answer in the place of the right store for a while: what it said is not used in the other one. */

import { UnavailableError } from './error.ts';

/** Whether the store is still known to be the one that a push began with. Of one that nobody follows it is not asked. */
export type IsSameStore = () => boolean;

/** Called before anything is committed or deleted. Throws `UnavailableError` when the store may be another one by now. */
export function assertSameStore(isSameStore: IsSameStore | undefined): void {
  if (isSameStore?.() === false)
    throw new UnavailableError('the watch was lost while it was pushed: the store may be another one');
}
