/** The real programs a test needs, and what a test does when one cannot be had: says so loudly, or fails in CI. */

import { accessSync, constants } from 'node:fs';
import type { Context } from 'mocha';
import { findTool, projectDir } from '../../tools/find.mjs';

export { projectDir };

export type ToolName =
  | 'etcd'
  | 'etcdctl'
  | 'nginx'
  | 'juicefs'
  | `juicefs-${string}`
  | 'kubectl'
  | 'fusermount3'
  | 'python3'
  | EditorName;

/** What people edit with; system packages. */
type EditorName = 'vim' | 'nano' | 'emacs' | 'rsync' | 'git';

/** True where a missing program is a failure and not a skip. */
const inCi = process.env['CI'] !== undefined && !['', '0', 'false'].includes(process.env['CI']);

/** The program's absolute path. Without it the calling suite or test is skipped with a loud line; in CI it throws. */
export function needTool(context: Context, name: ToolName): string {
  return findTool(name) ?? doWithout(context, `${name} is missing; "npm run tools" fetches it`, inCi);
}

/**
 * Makes sure that FUSE mounts can be tried: `/dev/fuse` and `fusermount3`. Without the device the caller is skipped
 * loudly, even in CI, because no installation brings it; without the program as `needTool` does.
 */
export function needFuse(context: Context): void {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    doWithout(context, '/dev/fuse is missing, so nothing can be mounted', false);
  }
  needTool(context, 'fusermount3');
}

function doWithout(context: Context, reason: string, fail: boolean): never {
  if (fail) throw new Error(reason);
  process.stderr.write(`\n  !!! SKIPPED: ${reason}\n\n`);
  return context.skip();
}
