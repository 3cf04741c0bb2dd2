/** The agent's own names in DIR (design 3.2), and where a path of the view lies on disk. */

import type { ByteString } from '../../codec/kv.ts';
import type { Path } from '../../reconcile/entry.ts';

/** One of the two persistent trees. */
export type TreeName = 'a' | 'b';

/** The other tree. */
export function otherTree(tree: TreeName): TreeName {
  return tree === 'a' ? 'b' : 'a';
}

const STATE_NAME = '..etcd-etc-agent';
const OWN_NAMES: ReadonlySet<ByteString> = new Set(['..a', '..b', '..data', '..data_tmp', STATE_NAME]);

/** Whether a name at the top of the view is one of the agent's own and can therefore not be shown. */
export function isOwnName(name: ByteString): boolean {
  return OWN_NAMES.has(name);
}

/** Whether a name is that of a tree, or of the link to the published one: a link at the top leads through it. */
export function isTreeName(name: ByteString): boolean {
  return name === '..a' || name === '..b' || name === '..data';
}

/** All paths of one served directory; absolute byte strings. */
export interface Layout {
  /** DIR itself. */
  readonly root: ByteString;
  /** The symlink that names the published tree. */
  readonly data: ByteString;
  readonly dataTmp: ByteString;
  /** The state directory; 0700. */
  readonly state: ByteString;
  /** Contents on their way into a tree; emptied at every start. */
  readonly stage: ByteString;
  /** Inodes that left a tree and may still be written through an open descriptor. */
  readonly kept: ByteString;
  /** Local contents that lost and are not in the volume yet. */
  readonly parked: ByteString;
  /** Copies of the texts that both sides agreed on last; missing until there is one. */
  readonly ancestor: ByteString;
  /** What a person has accepted and no guard has spent yet: empty files named by id. */
  readonly accept: ByteString;
  /** What a reboot had left empty; missing until there is something. */
  readonly quarantine: ByteString;
  readonly ledger: ByteString;
  /** How long the ledger was when it was last flushed. */
  readonly mark: ByteString;
  readonly status: ByteString;
  tree(tree: TreeName): ByteString;
  inTree(tree: TreeName, path: Path): ByteString;
  top(name: ByteString): ByteString;
}

/** The layout of DIR with its state directory (default `DIR/..etcd-etc-agent`). */
export function layoutOf(root: ByteString, stateDir?: ByteString): Layout {
  const state = stateDir ?? `${root}/${STATE_NAME}`;
  const tree = (name: TreeName): ByteString => `${root}/..${name}`;
  return {
    root,
    data: `${root}/..data`,
    dataTmp: `${root}/..data_tmp`,
    state,
    stage: `${state}/stage`,
    kept: `${state}/kept`,
    parked: `${state}/parked`,
    ancestor: `${state}/ancestor`,
    accept: `${state}/accept`,
    quarantine: `${state}/quarantine`,
    ledger: `${state}/ledger`,
    mark: `${state}/ledger.mark`,
    status: `${state}/status.json`,
    tree,
    inTree: (name, path) => (path === '' ? tree(name) : `${tree(name)}/${path}`),
    top: (name) => `${root}/${name}`,
  };
}

/** What a published top-level name points to. */
export function topTarget(name: ByteString): ByteString {
  return `..data/${name}`;
}

/** Where that leads while `tree` is the published one, and goes on leading afterwards. */
export function targetInTree(tree: TreeName, name: ByteString): ByteString {
  return `..${tree}/${name}`;
}
