/** A volume that the real client makes and edits: the directory of the built agent equals the mount. */

import { expect } from 'chai';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isOwnName } from '../../src/agent/disk/layout.ts';
import { mountedTree, publishedTree, startAgent, untilSame, type Agent } from '../support/agent.ts';
import { startEtcd, type EtcdServer } from '../support/etcd.ts';
import { Juicefs, type Mount } from '../support/juicefs.ts';
import { captureLog, releaseLog } from '../support/captured-log.ts';
import { Poller } from '../support/poller.ts';
import { watchOptions } from '../support/run-options.ts';
import { RunningAgent } from '../support/running.ts';
import { saveWithVim, shell } from '../support/shell.ts';
import { startNginx, type NginxServer } from '../support/nginx.ts';
import { needFuse, needTool, projectDir } from '../support/tools.ts';
import { until } from '../support/until.ts';

/** What people do in a mount, each on what was left by those before. */
const EDITS: readonly (readonly [what: string, edit: string | ((dir: string) => Promise<void>)])[] = [
  [
    'copies the configuration of a site',
    async (dir) => cpSync(join(projectDir, 'tools/demo/nginx'), dir, { recursive: true }),
  ],
  [
    'edits with sed -i, at the top and below',
    'sed -i s/worker/WORKER/ nginx.conf; sed -i s/listen/LISTEN/ conf.d/site.conf',
  ],
  ['saves with vim', async (dir) => saveWithVim(join(dir, 'html/index.html'), 'saved by vim')],
  ['writes in place', 'echo new > html/news.txt; echo more >> html/news.txt; truncate -s 100 mime.types'],
  [
    'installs a file over another',
    'install -m 0640 nginx.conf conf.d/site.conf; install -m 0755 nginx.conf run.sh',
  ],
  [
    'makes directories, empty ones too',
    'mkdir -p a/b/c a/empty empty; echo deep > a/b/c/deep; mkdir -m 0700 private; echo p > private/p',
  ],
  ['moves files', 'mv html/news.txt news; mv nginx.conf a/; mv a/b/c/deep html/deep; mv run.sh renamed.sh'],
  ['moves directories with what is in them', 'mv html www; mv a/b b; mkdir x; mv www x/; mv b x/www/'],
  ['moves over what is there', 'echo one > one; echo two > two; mv one two; mkdir d1 d2; mv -T d1 d2'],
  [
    'makes and changes symlinks',
    'ln -s x/www/index.html link; ln -s ../../outside x/out; ln -s /etc/hostname abs; ln -sfn news link; ln -s nowhere dangling',
  ],
  ['changes modes', 'chmod 600 news; chmod 0750 x; chmod 4755 renamed.sh; chmod 1777 empty'],
  ['makes hard links and edits through one', 'echo hard > h1; ln h1 h2; ln h1 x/h3; echo harder >> h2'],
  ['breaks a hard link', 'rm h1; sed -i s/hard/soft/ x/h3'],
  [
    'uses names of 255 bytes, of odd bytes and like kubelet',
    `
    echo l > ${'n'.repeat(255)}; echo b > $'\\xff\\xfe odd\\nname'; mkdir $'d\\xe9'; echo in > $'d\\xe9/\\x01'
    mkdir -p cm/..2026; echo k > cm/..2026/key; ln -s ..2026 cm/..data; ln -s ..data/key cm/key; echo dash > ./-rf`,
  ],
  [
    'writes files of several blocks',
    `
    head -c 200000 /dev/urandom > blocks; head -c 5500000 /dev/urandom > x/large
    dd if=/dev/zero of=x/sparse bs=1 count=1 seek=3000000 status=none`,
  ],
  [
    'writes into the middle and cuts',
    'printf middle | dd of=blocks bs=1 seek=100000 conv=notrunc status=none; truncate -s 4400000 x/large',
  ],
  [
    'replaces one type by another',
    'rm two; mkdir two; echo t > two/t; rm -r d2; echo file > d2; rm link; mkdir link',
  ],
  ['removes directories with everything', 'rm -rf x cm; rmdir empty; rm abs dangling'],
];

const VOLUMES = [
  { name: 'plain-trash', what: 'plain, with trash', options: ['--trash-days', '1'] },
  {
    name: 'hash-prefix',
    what: 'with hash prefix, no trash',
    options: ['--trash-days', '0', '--hash-prefix'],
  },
  { name: 'zstd-volume', what: 'compressed with zstd', options: ['--trash-days', '1', '--compress', 'zstd'] },
];

/**
 * Time passes this many times slower for the agent that a reader looks at: between two steps of one save a busy machine may stand
 * still for longer than a name that vanished is waited for, and then it is right that it is missing.
 */
const SLOWER = 20;

describe('following a mount', function () {
  let server: EtcdServer;
  let juicefs: Juicefs;
  let folder: string;

  before(async function () {
    juicefs = new Juicefs(this);
    needFuse(this);
    server = await startEtcd();
    folder = mkdtempSync(join(tmpdir(), 'follow-'));
  });
  after(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  for (const { name, what, options } of VOLUMES) {
    describe(`a volume ${what}`, () => {
      let mount: Mount;
      let agent: Agent;

      before(async () => {
        const url = `${server.url}/${name}`;
        await juicefs.format(url, name, server.url.slice('etcd://'.length), [
          '--block-size',
          '64',
          ...options,
        ]);
        mount = await juicefs.mount(url);
        const dir = join(folder, name);
        mkdirSync(dir);
        agent = await startAgent(url, dir);
      });
      after(async () => {
        await agent?.kill();
        await mount?.close();
      });

      for (const [edit, how] of EDITS) {
        it(edit, async () => {
          if (typeof how === 'string') await shell(mount.dir, how);
          else await how(mount.dir);
          await untilSame(
            'the directory is as the mount',
            () => publishedTree(agent.dir),
            () => mountedTree(mount.dir),
          );
        });
      }

      it('has the names of the tree at its top, each leading there', () => {
        const tops = readdirSync(agent.dir, { encoding: 'latin1' }).filter((top) => !isOwnName(top));
        const tree = new Set(Object.keys(publishedTree(agent.dir)).map((path) => path.split('/', 1)[0]));
        expect(tops.sort()).to.deep.equal([...tree].sort());
      });

      it('seeds another directory with the same tree', async () => {
        const dir = join(folder, `${name}-2`);
        mkdirSync(dir);
        const other = await startAgent(`${server.url}/${name}`, dir);
        try {
          expect(publishedTree(dir)).to.deep.equal(mountedTree(mount.dir));
        } finally {
          await other.kill();
        }
      });
    });
  }

  it('shows a file that was emptied and left so in the end', async () => {
    const url = `${server.url}/empty`;
    await juicefs.format(url, 'empty', server.url.slice('etcd://'.length));
    const mount = await juicefs.mount(url);
    const dir = join(folder, 'empty');
    mkdirSync(dir);
    await shell(mount.dir, 'echo full > cut; echo other > other');
    const agent = await startAgent(url, dir);
    try {
      await shell(mount.dir, ': > cut; touch never-written');
      await agent.until('the files are known as unfinished', ({ problems }) => 'cut' in problems);
      expect(await readFile(join(dir, 'cut'), 'utf8')).to.equal('full\n');
      await untilSame(
        'the empty files are shown',
        () => publishedTree(dir),
        () => mountedTree(mount.dir),
      );
    } finally {
      await agent.kill();
      await mount.close();
    }
  });

  it('lets a real nginx serve what is edited on the mount', async function () {
    needTool(this, 'nginx');
    const url = `${server.url}/web`;
    await juicefs.format(url, 'web', server.url.slice('etcd://'.length));
    const mount = await juicefs.mount(url);
    const pod = join(folder, 'pod');
    mkdirSync(join(pod, 'nginx'), { recursive: true });
    cpSync(join(projectDir, 'tools/demo/nginx'), mount.dir, { recursive: true });
    const agent = await startAgent(url, join(pod, 'nginx'));
    let nginx: NginxServer | undefined;
    try {
      nginx = await startNginx(pod);
      await saveWithVim(join(mount.dir, 'html/news.txt'), 'read all about it');
      const server = nginx;
      await until(
        'nginx serves it',
        async () => (await server.get('/news.txt')).body === 'read all about it\n',
      );
    } finally {
      await nginx?.stop();
      await agent.kill();
      await mount.close();
    }
  });

  describe('a reader while files are saved on the mount', () => {
    let mount: Mount;
    let agent: RunningAgent;
    let logged: readonly string[] = [];

    before(async () => {
      const url = `${server.url}/saving`;
      await juicefs.format(url, 'saving', server.url.slice('etcd://'.length), ['--trash-days', '1']);
      mount = await juicefs.mount(url);
      const dir = join(folder, 'saving');
      mkdirSync(dir);
      await shell(mount.dir, 'mkdir d; echo first > f; cp f d/f; chmod 644 f d/f');
      logged = captureLog();
      agent = new RunningAgent(watchOptions(url, dir), 1 / SLOWER);
      await agent.until('it follows', () => (agent.status?.stale === false ? [] : ['not yet']));
    });
    after(async () => {
      releaseLog();
      await agent?.stop();
      await mount?.close();
    });

    const SAVES: readonly (readonly [
      what: string,
      save: (file: string, text: string) => Promise<unknown>,
    ])[] = [
      ['echo > f', (file, text) => shell('/', `echo ${text} > ${file}`)],
      ['vim', (file, text) => saveWithVim(file, text)],
      [
        'install',
        (file, text) => shell('/', `echo ${text} > /tmp/i$$; install -m 0644 /tmp/i$$ ${file}; rm /tmp/i$$`),
      ],
      ['sed -i', (file, text) => shell('/', `sed -i "s/.*/${text}/" ${file}`)],
      ['mv over', (file, text) => shell('/', `echo ${text} > ${file}.new; mv ${file}.new ${file}`)],
      ['perl -i', (file, text) => shell('/', `perl -i -pe "s/.*/${text}/" ${file}`)],
      [
        'git checkout',
        (file, text) =>
          shell(
            '/tmp',
            `r=$(mktemp -d); git init -q $r; echo ${text} > $r/f; cd $r; git add f
            git -c user.name=n -c user.email=e commit -q -m m
            git --work-tree=${dirname(file)} checkout -q -f HEAD -- f; rm -rf $r`,
          ),
      ],
      [
        'rsync',
        (file, text) => shell('/', `echo ${text} > /tmp/r$$; rsync -I /tmp/r$$ ${file}; rm /tmp/r$$`),
      ],
    ];
    for (const [what, save] of SAVES) {
      it(`sees neither a missing nor an empty nor a private file: ${what}`, async function () {
        if (what === 'git checkout') needTool(this, 'git');
        if (what === 'rsync') needTool(this, 'rsync');
        const poller = await Poller.start([join(agent.dir, 'f'), join(agent.dir, 'd/f')]);
        for (let round = 1; round <= 6; round += 1) {
          const text = `${what.replace(/\W/g, '')}${round}`;
          await Promise.all([save(join(mount.dir, 'f'), text), save(join(mount.dir, 'd/f'), text)]);
          await poller.sees(`${text}\n`);
        }
        const { reads, bad } = await poller.stop();
        expect(bad, logged.slice(-20).join('')).to.deep.equal([]);
        expect(reads).to.be.greaterThan(100);
      });
    }
  });
});
