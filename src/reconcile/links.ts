/** What changes of files with several names mean: contents for all of them, one name more, or an inode of its own. */

import { sameContent, type Entry, type FileEntry, type Path } from './entry.ts';
import type { FileLink, PushChange } from './push-change.ts';

export interface LinkInput {
  /** With moves found. The inode of a new file entry is the volume's one that its inode on disk stands for, 0n if none. */
  readonly changes: readonly PushChange[];
  /** The inode on disk behind a path; paths with the same one are names of one file. */
  readonly diskInode: (path: Path) => bigint | undefined;
  /** What both sides agreed on last about the inode of a file entry. */
  readonly agreedFile: (path: Path) => FileEntry | undefined;
  /** The volume's file of that inode, if the view shows it. */
  readonly volumeFile: (ino: bigint) => FileEntry | undefined;
}

type FileChange = PushChange & { readonly new: FileEntry };

/** The changes with what each means for the other names of its file (layout 10.5, 13.2). */
export function findLinks({ changes, diskInode, agreedFile, volumeFile }: LinkInput): PushChange[] {
  const leaders = new Map<bigint, FileChange>();
  const makers = new Map<bigint, FileChange>();
  const files = changes.filter(isFileChange).sort((a, b) => (a.path < b.path ? -1 : 1));
  const links = new Map<PushChange, FileLink>();
  // Contents that go into an inode come first: names that the inode gets in the same push have them then.
  for (const change of files) {
    const { old } = change;
    if (!isLinked(change) || old?.type !== 'file' || old.ino !== change.new.ino) continue;
    if (sameContent(old, change.new)) continue;
    const leader = leaders.get(old.ino);
    if (leader === undefined) {
      leaders.set(old.ino, change);
      links.set(change, { kind: 'in-place' });
    } else {
      links.set(change, { kind: 'follow', leader: leader.path });
    }
  }
  for (const change of files) {
    if (!isLinked(change) || change.movedFrom !== undefined) continue;
    const { old, new: wanted, path } = change;
    if (old?.type === 'file' && old.ino === wanted.ino) continue;
    const leader = leaders.get(wanted.ino);
    const known = leader?.new ?? volumeFile(wanted.ino);
    if (known !== undefined && sameContent(known, wanted)) {
      links.set(change, { kind: 'name', ino: wanted.ino });
      continue;
    }
    // Edited on disk, and its old name is not settled: the volume's inode has no news that the edit would overwrite.
    if (leader === undefined && known !== undefined && sameContent(known, agreedFile(path))) {
      leaders.set(wanted.ino, change);
      links.set(change, { kind: 'name-in-place', ino: wanted.ino, size: known.size });
      continue;
    }
    const disk = diskInode(path);
    const maker = disk === undefined ? undefined : makers.get(disk);
    if (maker !== undefined) {
      links.set(change, { kind: 'name-of-new', maker: maker.path });
      continue;
    }
    if (disk !== undefined) makers.set(disk, change);
    if (old?.type === 'file') links.set(change, { kind: 'apart' });
  }
  return changes.map((change) => {
    const link = links.get(change);
    return link === undefined ? change : { ...change, link };
  });
}

function isFileChange(change: PushChange): change is FileChange {
  return change.new?.type === 'file';
}

/** Whether the file has several names on either side; else it does not matter which inode it is. */
function isLinked({
  old,
  new: wanted,
}: {
  readonly old: Entry | undefined;
  readonly new: FileEntry;
}): boolean {
  return wanted.nlink > 1 || (old?.type === 'file' && old.nlink > 1);
}
