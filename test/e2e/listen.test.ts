/** The endpoint of a built agent: probes, metrics and status over HTTP, as they change. */

import { expect } from 'chai';
import { readdirSync, unlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { runCommand } from '../support/agent.ts';
import { freePort } from '../support/etcd.ts';
import { file } from '../support/pushing.ts';
import { servedVolume } from '../support/served-volume.ts';
import { until } from '../support/until.ts';

const FILES = Array.from({ length: 20 }, (_, index) => `f${index}`);

describe('the endpoint', () => {
  const own = servedVolume('listen', async (volume) => {
    await volume.push(...FILES.map((path) => volume.make(path, file(`${path}\n`))));
  });
  let base: string;
  let address: string;

  beforeEach(async () => {
    address = `127.0.0.1:${await freePort()}`;
    base = `http://${address}`;
  });

  const get = async (path: string): Promise<{ readonly code: number; readonly body: string }> => {
    const response = await fetch(base + path);
    return { code: response.status, body: await response.text() };
  };
  /** What comes back for these very bytes. */
  const rawAnswer = async (request: string): Promise<string> => {
    const [host, port] = address.split(':');
    const socket = connect(Number(port), host);
    socket.write(request);
    let answer = '';
    for await (const chunk of socket.setEncoding('utf8')) answer += String(chunk);
    return answer;
  };
  /** Samples by name and labels. */
  const metrics = async (): Promise<Record<string, number>> => {
    const { body } = await get('/metrics');
    const samples = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return Object.fromEntries(
      samples.map((line): [string, number] => {
        const at = line.lastIndexOf(' ');
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
    );
  };

  it('says ready once a tree is published, and what is published', async () => {
    const agent = await own.start('--listen', address);
    expect(await get('/livez')).to.deep.equal({ code: 200, body: 'live\n' });
    expect(await get('/readyz')).to.deep.equal({ code: 200, body: 'ready\n' });
    const { publishedRevision, files } = JSON.parse((await get('/status')).body) as {
      publishedRevision: string;
      files: number;
    };
    expect(publishedRevision).to.equal(agent.status?.publishedRevision);
    const samples = await metrics();
    expect(samples['etcd_etc_agent_published_revision']).to.equal(Number(publishedRevision));
    expect(samples['etcd_etc_agent_tree_files']).to.equal(files);
    expect(samples['etcd_etc_agent_ready']).to.equal(1);
    expect(samples['etcd_etc_agent_stale']).to.equal(0);
    expect(samples['process_resident_memory_bytes']).to.be.greaterThan(0);
    expect((await get('/nothing')).code).to.equal(404);
    expect((await get('/livez?verbose')).code).to.equal(200);
    expect(await rawAnswer('GET // HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n')).to.match(
      /^HTTP\/1.1 404 /,
    );
    expect(await rawAnswer('nonsense\r\n\r\n')).to.equal('');
    expect((await fetch(`${base}/metrics`, { method: 'POST' })).status).to.equal(405);
  });

  it('counts a guard that trips, and shows that it holds until it is accepted', async () => {
    const agent = await own.start('--listen', address);
    const before = await metrics();
    expect(before['etcd_etc_agent_guards_tripped_total{guard="delete"}']).to.equal(0);
    expect(before['etcd_etc_agent_guards_holding{guard="delete"}']).to.equal(0);
    for (const path of FILES.slice(0, 15)) unlinkSync(join(own.dir, '..data', path));
    const { guards } = await agent.until('a guard trips', (status) => status.guards.length > 0);
    const held = await metrics();
    expect(held['etcd_etc_agent_guards_tripped_total{guard="delete"}']).to.be.greaterThan(0);
    expect(held['etcd_etc_agent_guards_holding{guard="delete"}']).to.equal(1);
    expect(held['etcd_etc_agent_pending_local_edits']).to.be.greaterThan(0);
    // A tripped guard makes nothing unready (G10).
    expect((await get('/readyz')).code).to.equal(200);

    await runCommand(['accept', own.dir, guards[0]?.id ?? '']);
    await agent.until('nothing holds', (status) => status.guards.length === 0 && status.pendingEdits === 0);
    const after = await metrics();
    expect(after['etcd_etc_agent_guards_holding{guard="delete"}']).to.equal(0);
    expect(after['etcd_etc_agent_guards_tripped_total{guard="delete"}']).to.be.greaterThan(0);
  });

  it('is there before the store is, not ready without a tree, and stays ready without the store', async () => {
    const nowhere = `etcd://127.0.0.1:${await freePort()}/nothing`;
    const lost = own.agent(['--listen', address], nowhere);
    try {
      await until('it answers', async () =>
        get('/readyz').then(
          ({ code }) => code === 503,
          () => false,
        ),
      );
      expect((await get('/livez')).code).to.equal(200);
      expect((await metrics())['etcd_etc_agent_ready']).to.equal(0);
    } finally {
      await lost.stop();
    }
    await (await own.start()).stop();
    const stale = own.agent(['--listen', address], nowhere);
    try {
      await stale.until('it serves the tree of an earlier run', ({ ready }) => ready);
      expect(await get('/readyz')).to.deep.equal({
        code: 200,
        body: 'ready, the store cannot be followed now\n',
      });
      expect((await metrics())['etcd_etc_agent_stale']).to.equal(1);
    } finally {
      await stale.stop();
    }
  });

  it('ends an agent that cannot have the address, before it touches anything', async () => {
    const taken = createServer().listen(Number(address.split(':')[1]), '127.0.0.1');
    await once(taken, 'listening');
    try {
      const { code, sentence } = await runCommand(['--watch', '--listen', address, own.volume.url, own.dir]);
      expect(code).to.equal(2);
      expect(sentence).to.equal(`etcd-etc-agent: --listen ${address} cannot be had: EADDRINUSE`);
      expect(readdirSync(own.dir)).to.deep.equal([]);
    } finally {
      taken.close();
    }
  });
});
