/** Extended attributes and owners on a real file system: what a publish sets and a look finds. */

import { expect } from 'chai';
import fs from 'node:fs';

import { nodeFs } from '../../../src/agent/disk/fs.ts';
import { native } from '../../../src/agent/disk/native.ts';
import type { FsPort } from '../../../src/agent/base/ports.ts';
import { entryOfSlot } from '../../../src/agent/disk/slot.ts';
import { NOTHING_HELD, type Xattrs } from '../../../src/reconcile/attributes.ts';
import type { Path } from '../../../src/reconcile/entry.ts';
import { asNobody } from '../../support/nobody.ts';
import { ServedDirectory, unflushedFs } from '../../support/served-directory.ts';
import { dir, entryOf, file, type Node } from '../../support/tree-on-disk.ts';

type WithXattrs = Readonly<Record<Path, readonly [Node, Xattrs]>>;

describe('attributes on disk', () => {
  const running: ServedDirectory[] = [];

  async function serve(port: FsPort = unflushedFs): Promise<ServedDirectory> {
    const served = await ServedDirectory.open({ fs: port });
    running.push(served);
    return served;
  }

  before(function () {
    if (native() !== undefined) return;
    process.stderr.write('\n  !!! SKIPPED: without the package koffi there are no extended attributes\n\n');
    this.skip();
  });
  afterEach(async () => {
    for (const served of running.splice(0)) await served.remove();
  });

  /** Publishes these alone, as if all of them had changed. */
  function publish(served: ServedDirectory, next: WithXattrs): void {
    const items = new Map(
      Object.entries(next).map(([path, [node, xattrs]]) => {
        const wanted = served.wanted(node);
        if (!('attributes' in wanted) || wanted.attributes === undefined) throw new Error('not staged');
        return [path, { ...wanted, attributes: { ...wanted.attributes, xattrs } }] as const;
      }),
    );
    const ancestor = Object.entries(next).map(
      ([path, [node, xattrs]]) => [path, { ...entryOf(node), xattrs }] as const,
    );
    served.publishItems(new Map(items), ancestor);
  }

  function xattrsAt(served: ServedDirectory, path: Path): Xattrs {
    const at = served.at(path);
    return Object.fromEntries(
      nodeFs.listXattrs('', at).map((name) => [name, nodeFs.getXattr('', at, name) ?? '']),
    );
  }

  function xattrsOfEntry(served: ServedDirectory, path: Path): Xattrs | undefined {
    return served.local.entryAt(path)?.xattrs;
  }

  const K = { 'user.k': 'v', 'user.bytes': '\xff\0\n' };

  it('are set on what is staged and on directories, in both trees', async () => {
    const served = await serve();
    publish(served, { d: [dir(0o500), K], 'd/f': [file('f', 0o400), K], plain: [file('p'), {}] });
    served.catchUp();
    expect(xattrsAt(served, 'd')).to.deep.equal(K);
    expect(xattrsAt(served, 'd/f')).to.deep.equal(K);
    publish(served, { other: [file('o'), {}] });
    expect(xattrsAt(served, 'd'), 'in the other tree').to.deep.equal(K);
    expect(xattrsAt(served, 'd/f')).to.deep.equal(K);
    expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
  });

  it('are set by who may not give files away, and closed files and directories are no obstacle', () =>
    asNobody(async () => {
      const served = await serve();
      publish(served, { d: [dir(0o500), K], 'd/f': [file('f', 0o400), K], top: [file('t', 0o444), {}] });
      publish(served, { d: [dir(0o500), { 'user.k': 'w' }], 'd/g': [file('g', 0), { 'user.g': 'g' }] });
      expect(xattrsAt(served, 'd')).to.deep.equal({ 'user.k': 'w' });
      expect(xattrsAt(served, 'd/f')).to.deep.equal(K);
      expect(served.abilities.held.owners).to.equal(process.geteuid?.() === 0);
      expect(xattrsOfEntry(served, 'd/g')).to.deep.equal({ 'user.g': 'g' });
      served.catchUp();
      expect((await served.lookUntilSettled()).edits).to.deep.equal([]);
      await running.pop()?.remove();
    }));

  it('of a directory change by the volume without a trace of what was', async () => {
    const served = await serve();
    publish(served, { d: [dir(), K] });
    publish(served, { d: [dir(), { 'user.k': 'w' }] });
    publish(served, { f: [file('f'), {}] });
    publish(served, { f: [file('g'), {}] });
    expect(xattrsAt(served, 'd')).to.deep.equal({ 'user.k': 'w' });
    expect((await served.look()).edits.size).to.equal(0);
  });

  it('that somebody sets are found, on files and directories, and carried on', async () => {
    const served = await serve();
    publish(served, { d: [dir(), K], 'd/f': [file('f'), K] });
    for (const path of ['d', 'd/f']) nodeFs.setXattr('', served.at(path), 'user.k', 'mine');
    nodeFs.removeXattr('', served.at('d/f'), 'user.bytes');
    await served.lookUntilSettled();
    expect(xattrsOfEntry(served, 'd')).to.deep.equal({ ...K, 'user.k': 'mine' });
    expect(xattrsOfEntry(served, 'd/f')).to.deep.equal({ 'user.k': 'mine' });
    expect([...served.local.dirty].sort()).to.deep.equal(['d', 'd/f']);
    for (const text of ['1', '2', '3']) publish(served, { 'd/g': [file(text), {}] });
    expect(xattrsAt(served, 'd')).to.deep.equal({ ...K, 'user.k': 'mine' });
    expect(xattrsAt(served, 'd/f')).to.deep.equal({ 'user.k': 'mine' });
    expect((await served.look()).edits.size).to.equal(0);
  });

  it('that are set while a publish links the file are found afterwards', async () => {
    const linked: { at?: string } = {};
    const setting: FsPort = {
      ...unflushedFs,
      rename(label, from, to) {
        unflushedFs.rename(label, from, to);
        if (to === linked.at) unflushedFs.setXattr('', to, 'user.late', 'l');
      },
    };
    const one = await serve(setting);
    publish(one, { f: [file('f'), {}] });
    linked.at = one.inIdle('f');
    publish(one, { other: [file('o'), {}] });
    await one.lookUntilSettled();
    expect(xattrsOfEntry(one, 'f')).to.deep.equal({ 'user.late': 'l' });
  });

  it('that the file system does not take are remembered, and no edit', async () => {
    const small: FsPort = {
      ...unflushedFs,
      setXattr(label, path, name, value) {
        if (name === 'user.big') throw Object.assign(new Error('no room'), { code: 'ENOSPC' });
        unflushedFs.setXattr(label, path, name, value);
      },
    };
    const served = await serve(small);
    const wanted = { 'user.big': 'b', 'user.k': 'v' };
    publish(served, { d: [dir(), wanted], f: [file('f'), wanted] });
    for (const path of ['d', 'f']) {
      expect(xattrsAt(served, path)).to.deep.equal({ 'user.k': 'v' });
      expect(xattrsOfEntry(served, path)).to.deep.equal(wanted);
    }
    fs.appendFileSync(served.at('f'), 'edited');
    nodeFs.setXattr('', served.at('d'), 'user.k', 'w');
    await served.lookUntilSettled();
    expect(xattrsOfEntry(served, 'f')).to.deep.equal(wanted);
    expect(xattrsOfEntry(served, 'd')).to.deep.equal({ 'user.big': 'b', 'user.k': 'w' });
  });

  it('are kept by a file that is saved as a new one, at the top and below', async () => {
    const served = await serve();
    publish(served, { d: [dir(), {}], 'd/f': [file('f'), K], top: [file('t'), K] });
    fs.writeFileSync(served.at('d/.n'), 'saved');
    fs.renameSync(served.at('d/.n'), served.at('d/f'));
    fs.writeFileSync(`${served.root}/.n`, 'saved');
    fs.renameSync(`${served.root}/.n`, `${served.root}/top`);
    await served.lookUntilSettled();
    expect(xattrsOfEntry(served, 'd/f')).to.deep.equal(K);
    expect(xattrsOfEntry(served, 'top')).to.deep.equal(K);
    served.publishItems(new Map(), []);
    expect(entryOfSlot(served.ledger.state.slots.get('top')!)?.xattrs).to.deep.equal(K);
  });

  it('that were on disk before they could be held are no edits of now', async () => {
    const none = { held: NOTHING_HELD, exchanges: false, leases: false, specialRefusal: () => undefined };
    const served = await ServedDirectory.open({ abilities: none });
    publish(served, { f: [file('f'), K] });
    expect(fs.existsSync(served.at('f'))).to.equal(true);
    const { root } = served;
    await served.close();
    const again = await ServedDirectory.open({ root });
    running.push(again);
    expect(xattrsOfEntry(again, 'f')).to.deep.equal(K);
    expect([...again.local.dirty]).to.deep.equal([]);
    fs.appendFileSync(again.at('f'), 'edited');
    await again.lookUntilSettled();
    expect(xattrsOfEntry(again, 'f')).to.deep.equal(K);
  });
});
