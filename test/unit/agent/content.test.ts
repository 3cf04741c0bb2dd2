import { createHash } from 'node:crypto';
import { expect } from 'chai';
import {
  storeContent,
  type StoreContentOptions,
  type StoredContent,
} from '../../../src/agent/push/content.ts';
import type { Volume } from '../../../src/agent/volume/volume.ts';
import { CHUNK_SIZE } from '../../../src/codec/slice.ts';
import type { FileEntry } from '../../../src/reconcile/entry.ts';
import type { PushChange } from '../../../src/reconcile/push-change.ts';

const MIB = 1 << 20;
type FileChange = PushChange & { readonly new: FileEntry };

function entry(size: bigint, digest: string): FileEntry {
  return { type: 'file', ino: 7n, mode: 0o644, uid: 0, gid: 0, mtimeNs: 1n, size, digest, nlink: 1 };
}

/** Bytes that are never zero. */
const PATTERN = Uint8Array.from({ length: MIB + 251 }, (_, i) => (i % 251) + 1);

/** Bytes of a file: noise where `isData` says so, else zeros. */
class Source {
  readonly size: number;
  readonly #isData: (mib: number) => boolean;

  constructor(size: number, isData: (mib: number) => boolean = () => true) {
    this.size = size;
    this.#isData = isData;
  }

  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, this.size - offset)));
    for (let at = 0; at < bytes.length;) {
      const mib = Math.floor((offset + at) / MIB);
      const end = Math.min(bytes.length, (mib + 1) * MIB - offset);
      if (this.#isData(mib)) bytes.set(PATTERN.subarray((offset + at) % 251).subarray(0, end - at), at);
      at = end;
    }
    return bytes;
  }

  digest(end = this.size): string {
    const hash = createHash('sha256');
    for (let at = 0; at < end; at += MIB) hash.update(this.read(at, Math.min(MIB, end - at)));
    return hash.digest('hex');
  }
}

interface Result {
  readonly content: StoredContent | 'changed';
  readonly puts: ReadonlyMap<string, number>;
  readonly claimed: readonly bigint[];
  readonly givenBack: readonly bigint[];
}

async function store(
  source: Source,
  blockSizeKiB: number,
  options: Partial<Pick<StoreContentOptions, 'inline' | 'mayAppend'>> & {
    old?: FileEntry;
    digest?: string;
  } = {},
): Promise<Result> {
  const { inline = false, mayAppend = false, old, digest = source.digest() } = options;
  const puts = new Map<string, number>();
  const claimed: bigint[] = [];
  const givenBack: bigint[] = [];
  let next = 1n;
  const change: FileChange = { path: 'f', old, new: entry(BigInt(source.size), digest) };
  const content = await storeContent(change, {
    volume: {
      setting: { blockSizeBytes: blockSizeKiB * 1024 },
      blocks: { name: 'v', hashPrefix: false },
      data: { pack: async (block: Uint8Array) => block },
    } as unknown as Volume,
    writer: {
      put: async (key, block) => void puts.set(key.slice(key.lastIndexOf('/') + 1), block.length),
      putPacked: async () => {},
      finish: async () => {},
      settle: async () => {},
    },
    slices: {
      take: async (n) => Array.from({ length: n }, () => next++),
      giveBack: (ids) => void givenBack.push(...ids),
    },
    ...{ inline, mayAppend, claim: {} },
    read: async (_change, offset, length) => source.read(Number(offset), length),
    onStart: () => {},
    onSlices: (ids) => void claimed.push(...ids),
  });
  return { content, puts, claimed, givenBack };
}

/** `index: pos+size of id, ...` of each chunk. */
function shape(content: StoredContent | 'changed'): string[] {
  if (content === 'changed') return [content];
  return content.chunks.map(({ index, records }) => {
    const parts = records.map(({ pos, id, size, off, len }) => {
      expect([off, len]).to.deep.equal([0, size]);
      return `${pos}+${size} of ${id}`;
    });
    return `${index}: ${parts.join(', ')}`;
  });
}

describe('storing contents', () => {
  it('an empty file has no slice', async () => {
    const { content, puts, claimed } = await store(new Source(0), 1024);
    expect([shape(content), puts.size, claimed]).to.deep.equal([[], 0, []]);
  });

  it('a slice goes on through all blocks of a chunk', async () => {
    const { content, puts } = await store(new Source(150_000), 64);
    expect(shape(content)).to.deep.equal(['0: 0+150000 of 1']);
    expect([...puts]).to.deep.equal([
      ['1_0_65536', 65536],
      ['1_1_65536', 65536],
      ['1_2_18928', 18928],
    ]);
  });

  it('each chunk has its own', async () => {
    const { content, puts } = await store(new Source(CHUNK_SIZE + 5), 1024);
    expect(shape(content)).to.deep.equal([`0: 0+${CHUNK_SIZE} of 1`, '1: 0+5 of 2']);
    expect([puts.size, puts.get('2_0_5'), puts.get(`1_63_${MIB}`)]).to.deep.equal([65, 5, MIB]);
  });

  for (const blockSizeKiB of [2048, 4096, 16384]) {
    it(`no block is larger than 1 MiB on a volume with blocks of ${blockSizeKiB} KiB`, async () => {
      const { content, puts, claimed, givenBack } = await store(new Source(5 * MIB + 1), blockSizeKiB);
      const records = [0, 1, 2, 3, 4].map((n) => `${n * MIB}+${MIB} of ${n + 1}`);
      expect(shape(content)).to.deep.equal([`0: ${records.join(', ')}, ${5 * MIB}+1 of 6`]);
      expect([...puts.keys()]).to.deep.equal([1, 2, 3, 4, 5].map((id) => `${id}_0_${MIB}`).concat('6_0_1'));
      expect([claimed, givenBack]).to.deep.equal([[1n, 2n, 3n, 4n, 5n, 6n], []]);
    });
  }

  it('zeros have no slice, but at the end', async () => {
    const source = new Source(6 * MIB + 10, (mib) => mib === 1 || mib === 4);
    const { content, puts } = await store(source, 1024);
    expect(shape(content)).to.deep.equal([
      `0: ${MIB}+${MIB} of 1, ${4 * MIB}+${MIB} of 2, ${6 * MIB}+10 of 3`,
    ]);
    expect([...puts.keys()]).to.deep.equal([`1_0_${MIB}`, `2_0_${MIB}`, '3_0_10']);
  });

  it('ids that zeros left over are given back', async () => {
    const source = new Source(40 * MIB, (mib) => mib === 39);
    const { claimed, givenBack } = await store(source, 4096);
    expect([claimed, givenBack]).to.deep.equal([[1n], []]);
    const half = await store(new Source(4 * MIB, (mib) => mib < 2), 4096);
    expect([half.claimed, half.givenBack]).to.deep.equal([
      [1n, 2n, 3n, 4n],
      [3n, 4n],
    ]);
  });

  it('blocks for the transaction are kept and not claimed', async () => {
    const { content, puts, claimed } = await store(new Source(70_000), 64, { inline: true });
    expect([puts.size, claimed]).to.deep.equal([0, []]);
    if (content === 'changed') throw new Error('changed');
    expect(content.blocks.map(({ key, value }) => [key, value.length])).to.deep.equal([
      ['v/chunks/0/0/1_0_65536', 65536],
      ['v/chunks/0/0/1_1_4464', 4464],
    ]);
    expect(content.storedKeys).to.deep.equal([]);
  });

  it('another digest is a change', async () => {
    expect((await store(new Source(100), 64, { digest: 'another' })).content).to.equal('changed');
  });

  describe('that may be appended', () => {
    const source = new Source(3 * MIB + 7);
    const old = (size: number, digest = source.digest(size)): FileEntry => entry(BigInt(size), digest);

    it('begin where the old ones end', async () => {
      const { content, puts } = await store(source, 1024, { mayAppend: true, old: old(2 * MIB + 3) });
      expect(content).to.include({ length: BigInt(source.size), appendTo: BigInt(2 * MIB + 3) });
      expect(shape(content)).to.deep.equal([`0: ${2 * MIB + 3}+${MIB + 4} of 1`]);
      expect([...puts]).to.deep.equal([
        [`1_0_${MIB}`, MIB],
        ['1_1_4', 4],
      ]);
    });

    it('are cut at the end of a chunk', async () => {
      const large = new Source(CHUNK_SIZE + MIB + 1, (mib) => mib >= 63);
      const from = entry(BigInt(CHUNK_SIZE - 5), large.digest(CHUNK_SIZE - 5));
      const { content, puts } = await store(large, 1024, { mayAppend: true, old: from });
      expect(shape(content)).to.deep.equal([`0: ${CHUNK_SIZE - 5}+5 of 1`, `1: 0+${MIB + 1} of 2`]);
      expect([...puts.keys()]).to.deep.equal(['1_0_5', `2_0_${MIB}`, '2_1_1']);
    });

    it('are stored anew where the old ones are not their beginning', async () => {
      const { content } = await store(source, 1024, { mayAppend: true, old: old(MIB, 'something else') });
      expect(content).not.to.have.property('appendTo');
      expect(shape(content)).to.deep.equal([`0: 0+${source.size} of 1`]);
    });

    it('another digest is a change', async () => {
      const options = { mayAppend: true, old: old(MIB), digest: 'another' };
      expect((await store(source, 1024, options)).content).to.equal('changed');
    });
  });
});
