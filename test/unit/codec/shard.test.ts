import { expect } from 'chai';
import { bucketsOf, shardOf } from '../../../src/codec/shard.ts';

describe('shards', () => {
  // The published test values of FNV-1a with 32 bits.
  const hashes: readonly [key: string, hash: number][] = [
    ['', 0x811c9dc5],
    ['a', 0xe40c292c],
    ['foobar', 0xbf9cf968],
  ];
  for (const [key, hash] of hashes) {
    it(`of ${JSON.stringify(key)} go by its hash`, () => {
      for (const shards of [2, 3, 7, 256]) expect(shardOf(key, shards)).to.equal(hash % shards);
    });
  }

  it('use all stores', () => {
    const keys = Array.from({ length: 100 }, (_, id) => `pics/chunks/0/0/${id}_0_13`);
    expect(new Set(keys.map((key) => shardOf(key, 4))).size).to.equal(4);
  });

  it('have addresses with their numbers', () => {
    expect(bucketsOf('etcd://data-%d:2379', 2)).to.deep.equal(['etcd://data-0:2379', 'etcd://data-1:2379']);
    expect(bucketsOf('127.0.0.1:2%d379', 1)).to.deep.equal(['127.0.0.1:20379']);
    expect(bucketsOf('etcd://data:2379', 2)).to.equal(undefined);
  });
});
