/** Whose work is being done: log lines are told apart by it. */

import { AsyncLocalStorage } from 'node:async_hooks';

export const speaker = new AsyncLocalStorage<string>();
