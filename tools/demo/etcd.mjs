/** A private etcd: own folder, own free ports, own member name, which is checked before anything is written. */

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { freePort } from './processes.mjs';

/** Starts it and resolves with its address, as `host:port`, when the member that answers there is this one. */
export async function startEtcd(processes, program, folder) {
  const name = `demo-${randomBytes(6).toString('hex')}`;
  const address = `127.0.0.1:${await freePort()}`;
  const [client, peer] = [`http://${address}`, `http://127.0.0.1:${await freePort()}`];
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('ETCD')));
  const args = [
    ['--name', name],
    ['--data-dir', join(folder, 'etcd')],
    ['--listen-client-urls', client],
    ['--advertise-client-urls', client],
    ['--listen-peer-urls', peer],
    ['--initial-advertise-peer-urls', peer],
    ['--initial-cluster', `${name}=${peer}`],
    ['--initial-cluster-token', name],
  ];
  processes.start('etcd', program, args.flat(), { env });
  await processes.until('etcd answers', 20_000, async () => (await memberNames(client)).includes(name));
  return address;
}

async function memberNames(url) {
  try {
    const response = await fetch(`${url}/v3/cluster/member/list`, { method: 'POST', body: '{}' });
    const { members = [] } = await response.json();
    return members.map((member) => member.name);
  } catch {
    return []; // not listening yet
  }
}
