import { expect } from 'chai';

import { ConfigError } from '../../../src/agent/base/error.ts';
import { createFilter, isReservedTop } from '../../../src/agent/disk/filter.ts';

const CASES: readonly {
  readonly patterns: readonly string[];
  readonly out: readonly string[];
  readonly stays: readonly string[];
}[] = [
  {
    patterns: [],
    out: [
      'f.swp',
      'd/.f.swp',
      'd/f.swx',
      'd/.f.swpx',
      '4913',
      'd/4913',
      'f~',
      'd/f~',
      '.#f',
      'd/.#f',
      '.d.swp/f',
    ],
    stays: ['f', 'd/f', 'swp', '49130', '~f', '#f', '.f', 'f.swp.conf', 'd~e'],
  },
  {
    patterns: ['*.bak'],
    out: ['a.bak', 'd/a.bak', '.bak', 'd.bak/f', 'f.swp'],
    stays: ['a.bak2', 'bak', 'd/a'],
  },
  { patterns: ['/top'], out: ['top', 'top/f'], stays: ['d/top'] },
  { patterns: ['d/e'], out: ['d/e', 'd/e/f'], stays: ['x/d/e', 'e', 'd'] },
  { patterns: ['d/**'], out: ['d/f', 'd/e/f'], stays: ['e/d2', 'f'] },
  { patterns: ['**/e/*.c'], out: ['e/f.c', 'd/e/f.c'], stays: ['e/d/f.c', 'f.c'] },
  { patterns: ['cache/'], out: ['cache', 'd/cache', 'd/cache/f'], stays: ['cached'] },
  { patterns: ['[ab].txt', '{x,y}'], out: ['a.txt', 'd/b.txt', 'x', 'y/f'], stays: ['c.txt', 'z'] },
  { patterns: ['.git'], out: ['.git', '.git/config', 'd/.git'], stays: ['git', '.gitignore'] },
  { patterns: ['caf\xc3\xa9*'], out: ['caf\xc3\xa9', 'caf\xc3\xa9.conf'], stays: ['cafe'] },
  { patterns: ['*.conf'], out: ['\xff.conf', 'new\nline.conf'], stays: ['\xff'] },
];

describe('filter', () => {
  for (const { patterns, out, stays } of CASES) {
    it(`${patterns.join(' ') || 'by itself'} leaves out ${out.join(' ')}`, () => {
      const { excluded } = createFilter({ exclude: patterns, isVolumeRoot: false });
      expect(out.filter((path) => !excluded(path))).to.deep.equal([]);
      expect(stays.filter(excluded)).to.deep.equal([]);
      // The answer is the same each time.
      expect(out.every(excluded)).to.equal(true);
    });
  }

  it('leaves out what is JuiceFS’s own and the conflict copies, in the root of the volume alone', () => {
    const root = createFilter({ exclude: [], isVolumeRoot: true });
    const paths = ['.trash', '.trash/x', '.conflicts', '.conflicts/x/f'];
    expect(paths.every(root.excluded)).to.equal(true);
    expect(['d/.trash', '.trash2'].some(root.excluded)).to.equal(false);
    const below = createFilter({ exclude: [], isVolumeRoot: false });
    expect(paths.some(below.excluded)).to.equal(false);
  });

  it('answers for more paths than it remembers', () => {
    const { excluded } = createFilter({ exclude: ['x*'], isVolumeRoot: false });
    for (let index = 0; index < 100_002; index += 1) excluded(`d/f${index}`);
    expect([excluded('d/f1'), excluded('x1')]).to.deep.equal([false, true]);
  });

  for (const pattern of ['', '/', '//']) {
    it(`refuses the pattern ${JSON.stringify(pattern)}`, () => {
      expect(() => createFilter({ exclude: [pattern], isVolumeRoot: false })).to.throw(
        ConfigError,
        'no pattern',
      );
    });
  }

  it('knows the names that the agent needs at the top', () => {
    expect(['..a', '..b', '..data', '..data_tmp', '..etcd-etc-agent'].every(isReservedTop)).to.equal(true);
    expect(['a', '..c', 'd/..data', '..data/x', '..'].some(isReservedTop)).to.equal(false);
  });
});
