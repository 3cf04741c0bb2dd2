/** The watches that the agent can use, against one contract. */

import { DirectoryWatch } from '../../src/agent/disk/directory-watch.ts';
import { ChokidarWatch } from '../../src/agent/disk/local-watch.ts';
import { describeWatch } from './watch.ts';

describe('a watch on each directory', () =>
  describeWatch(
    (root, ignored) => {
      const watch = new DirectoryWatch(root, ignored);
      return { watch, check: () => watch.check() };
    },
    { misses: 'nothing' },
  ));

describe('chokidar', () =>
  describeWatch((root, ignored) => ({ watch: new ChokidarWatch(root, ignored) }), { misses: 'some' }));
