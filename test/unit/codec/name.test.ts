import { expect } from 'chai';
import { nameProblem } from '../../../src/codec/name.ts';

describe('dentry names', () => {
  for (const name of ['a', '...', '..data', '.a', '\n', '\xff\xfe', ' ', '\\', 'x'.repeat(255)]) {
    it(`${JSON.stringify(name)} may become a path component`, () => {
      expect(nameProblem(name)).to.equal(undefined);
    });
  }

  for (const [name, problem] of [
    ['', 'the name is empty'],
    ['.', 'the name is .'],
    ['..', 'the name is ..'],
    ['/', 'the name has a slash'],
    ['../etc/passwd', 'the name has a slash'],
    ['a\0', 'the name has a NUL byte'],
    ['x'.repeat(256), 'the name has 256 bytes, more than 255'],
  ] as const) {
    it(`${JSON.stringify(name)}: ${problem}`, () => {
      expect(nameProblem(name)).to.equal(problem);
    });
  }
});
