/** What people and programs do to files and trees, as scripts. */

import { findTool } from '../../tools/find.mjs';
import type { ToolName } from './tools.ts';

/**
 * Scripts of bash. They are given `D`, the directory to work in, `N`, what all names that they make there begin with,
 * `F`, a file `$D/$N.conf`, `LINE`, a line of text, and `TMP`, an empty directory elsewhere.
 */
export interface Edit {
  readonly name: string;
  readonly tool?: ToolName;
  /** What is there before, the file with `line 0` if not given. */
  readonly before?: string;
  readonly script: string;
  /** In how many transactions it reaches the volume, at least and at most: one if not given. */
  readonly transactions?: readonly [number, number];
}

/** Types into nano, once it shows what it can do. */
const NANO = `python3 - "$F" "$LINE" <<'PROGRAM'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(TERM='xterm', LINES='24', COLUMNS='80')
    os.execvp('nano', ['nano', '-I', sys.argv[1]])
seen = b''
while b'Exit' not in seen:
    seen += os.read(fd, 4096)
os.write(fd, b'\\x0b' + sys.argv[2].encode() + b'\\x0f\\r\\x18')
try:
    while os.read(fd, 4096): pass
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PROGRAM`;

/** As careful programs save. */
const FSYNC_AND_RENAME = `python3 - "$F" "$LINE" <<'PROGRAM'
import os, sys, tempfile
fd, name = tempfile.mkstemp(dir=os.path.dirname(sys.argv[1]))
os.write(fd, sys.argv[2].encode() + b'\\n')
os.fchmod(fd, 0o644)
os.fsync(fd)
os.close(fd)
os.rename(name, sys.argv[1])
PROGRAM`;

const EMACS = `emacs -Q --batch "$F" --eval '(progn (erase-buffer) (insert "'"$LINE"'\\n") (save-buffer))' 2> /dev/null`;

const TREE = 'mkdir -p "$D/$N-t/a/b"; cd "$D/$N-t"; echo 1 > a/b/f; echo 2 > g; ln -s a/b/f l';

/** The saves of one file. */
const SAVES: readonly Edit[] = [
  { name: 'a shell that writes', script: 'echo "$LINE" > "$F"' },
  { name: 'a shell that cuts and appends', script: ': > "$F"; echo "$LINE" >> "$F"' },
  { name: 'a shell that appends', script: 'echo "$LINE" >> "$F"' },
  { name: 'a shell that makes a new file', script: 'echo "$LINE" > "$D/$N-new"' },
  { name: 'tee', script: 'echo "$LINE" | tee "$F" > /dev/null' },
  { name: 'sed -i', script: 'sed -i "s/.*/$LINE/" "$F"' },
  { name: 'sed -i --follow-symlinks', script: 'sed -i --follow-symlinks "s/.*/$LINE/" "$F"' },
  { name: 'perl -i', script: 'perl -i -pe "s/.*/$LINE/" "$F"' },
  { name: 'cp over it', script: 'echo "$LINE" > "$TMP/new"; cp "$TMP/new" "$F"' },
  {
    name: 'cp --remove-destination',
    script: 'echo "$LINE" > "$TMP/new"; cp --remove-destination "$TMP/new" "$F"',
  },
  { name: 'mv over it', script: 'echo "$LINE" > "$TMP/new"; mv "$TMP/new" "$F"' },
  { name: 'install', script: 'echo "$LINE" > "$TMP/new"; install -m 600 "$TMP/new" "$F"' },
  { name: 'a program that writes beside it, flushes and renames', tool: 'python3', script: FSYNC_AND_RENAME },
  { name: 'rm and a new file', script: 'rm "$F"; echo "$LINE" > "$F"' },
  {
    name: 'truncate and dd',
    script: 'truncate -s 0 "$F"; printf "%s\\n" "$LINE" | dd of="$F" conv=notrunc status=none',
  },
  { name: 'truncate to less', script: 'truncate -s 3 "$F"' },
  { name: 'truncate to more', script: 'truncate -s 100000 "$F"' },
  ...['auto', 'no', 'yes'].map((copy) => ({
    name: `vim with backupcopy=${copy}`,
    tool: 'vim' as const,
    script: `TERM=dumb vim -es -u NONE -c 'set backupcopy=${copy}' -c "call setline(1, '$LINE')" -c wq "$F" < /dev/null`,
  })),
  { name: 'nano', tool: 'nano', script: NANO },
  // Emacs is 155 MiB: it is tried where it is there anyway.
  ...(findTool('emacs') === undefined
    ? []
    : [
        { name: 'emacs', tool: 'emacs' as const, script: EMACS },
        {
          name: 'emacs that copies its backup',
          tool: 'emacs' as const,
          script: EMACS.replace('(progn', '(let ((backup-by-copying t))'),
        },
      ]),
  { name: 'rsync', tool: 'rsync', script: 'echo "$LINE" > "$TMP/new"; rsync "$TMP/new" "$F"' },
  {
    name: 'rsync --inplace',
    tool: 'rsync',
    script: 'echo "$LINE" > "$TMP/new"; rsync --inplace "$TMP/new" "$F"',
  },
  {
    name: 'git checkout of one file',
    tool: 'git',
    script: `git init -q "$TMP"; echo "$LINE" > "$TMP/$N.conf"; cd "$TMP"; git add .
      git -c user.name=n -c user.email=e commit -q -m m; git --work-tree="$D" checkout -q -f HEAD -- .`,
  },
  { name: 'ln -sf over a file', script: 'ln -sf "$N.conf.target" "$F"' },
  { name: 'chmod', script: 'chmod 600 "$F"' },
  { name: 'chmod and a new content', script: 'echo "$LINE" > "$F"; chmod 640 "$F"' },
  { name: 'rm', script: 'rm "$F"' },
  { name: 'mv to another name', script: 'mv "$F" "$F.old"' },
  { name: 'touch, which changes nothing', script: 'touch "$F"', transactions: [0, 0] },
  {
    name: 'a save of the same content',
    script: 'cp "$F" "$F.new"; mv "$F.new" "$F"',
    transactions: [0, 0],
  },
];

/** What is done to whole trees. */
const TREES: readonly Edit[] = [
  {
    name: 'mkdir -p and a file',
    script: 'mkdir -p "$D/$N-t/a/b"; echo "$LINE" > "$D/$N-t/a/b/f"',
    before: '',
  },
  {
    name: 'install -D',
    script: 'echo "$LINE" > "$TMP/n"; install -D -m 640 "$TMP/n" "$D/$N-t/a/f"',
    before: '',
  },
  { name: 'cp -r of a tree', before: TREE, script: 'cp -r "$D/$N-t" "$D/$N-u"' },
  { name: 'mv of a tree', before: TREE, script: 'mv "$D/$N-t" "$D/$N-u"' },
  { name: 'mv of a tree within one', before: TREE, script: 'mv "$D/$N-t/a/b" "$D/$N-t/c"' },
  {
    name: 'mv of a tree over an empty one',
    before: `${TREE}; mkdir ../$N-u`,
    script: 'mv -T "$D/$N-t" "$D/$N-u"',
  },
  { name: 'rm -rf', before: TREE, script: 'rm -rf "$D/$N-t"' },
  // Modes count at once.
  { name: 'chmod -R', before: TREE, script: 'chmod -R go-rwx "$D/$N-t"', transactions: [1, 5] },
  {
    name: 'sed -i in a whole tree',
    before: TREE,
    script: 'find "$D/$N-t/" -type f -exec sed -i "s/.*/$LINE/" {} +',
  },
  {
    name: 'tar x of a new tree',
    before: '',
    script: `(D="$TMP"; ${TREE}); tar -C "$TMP" -cf - . | tar -C "$D" --no-overwrite-dir -xf -`,
  },
  {
    name: 'tar x over a tree',
    before: TREE,
    script: `(D="$TMP"; ${TREE}; echo "$LINE" > g; echo new > new); tar -C "$TMP" -cf - "$N-t" | tar -C "$D" -xmf -`,
  },
  {
    name: 'rsync -a of a tree over one',
    tool: 'rsync',
    before: TREE,
    script: `(D="$TMP"; ${TREE}; echo "$LINE" > g; echo new > new); rsync -a "$TMP/$N-t" "$D/"`,
  },
  {
    name: 'rsync -a --inplace of a tree over one',
    tool: 'rsync',
    before: TREE,
    script: `(D="$TMP"; ${TREE}; echo "$LINE" > g; echo new > new); rsync -a --inplace "$TMP/$N-t/" "$D/$N-t/"`,
  },
  {
    name: 'rsync -a --delete into a tree',
    tool: 'rsync',
    before: TREE,
    script: 'mkdir "$TMP/t"; echo "$LINE" > "$TMP/t/g"; rsync -a --delete "$TMP/t/" "$D/$N-t/"',
  },
  {
    name: 'git checkout between two branches',
    tool: 'git',
    before: TREE,
    script: `cd "$D/$N-t"; git init -q -b one; git add .; alias() { git -c user.name=n -c user.email=e "$@"; }
      alias commit -q -m one; git checkout -q -b two; echo "$LINE" > g; git rm -q a/b/f; git add .
      alias commit -q -m two; git checkout -q one; git checkout -q two`,
  },
  {
    name: 'a swap as kubelet makes it',
    before: 'mkdir -p "$D/$N-c/..1"; cd "$D/$N-c"; echo 1 > ..1/key; ln -s ..1 ..data; ln -s ..data/key key',
    script: `cd "$D/$N-c"; mkdir ..2; echo "$LINE" > ..2/key; ln -s ..2 ..data_tmp; mv -T ..data_tmp ..data; rm -r ..1`,
  },
  {
    name: 'a renewal as certbot makes it',
    before: `mkdir -p "$D/$N-le/live/x" "$D/$N-le/archive/x"; cd "$D/$N-le"
      for kind in cert privkey; do echo 1 > archive/x/\${kind}1.pem; ln -s ../../archive/x/\${kind}1.pem live/x/$kind.pem; done`,
    script: `cd "$D/$N-le"
      for kind in cert privkey; do
        echo "$LINE" > archive/x/\${kind}2.pem
        ln -s ../../archive/x/\${kind}2.pem live/x/$kind.new; mv -T live/x/$kind.new live/x/$kind.pem
      done`,
  },
  {
    name: 'a file in place of a directory, and the other way round',
    before: `${TREE}; echo was > "$D/$N-f"`,
    script:
      'rm -r "$D/$N-t"; echo "$LINE" > "$D/$N-t"; rm "$D/$N-f"; mkdir "$D/$N-f"; echo in > "$D/$N-f/in"',
    transactions: [1, 4],
  },
];

/** A look may fall between the steps of a tool, as after it has made a directory. */
const SOME_STEPS = [1, 4] as const;

export const EDITS: readonly Edit[] = [
  ...SAVES,
  ...TREES.map((edit) => ({ ...edit, transactions: edit.transactions ?? SOME_STEPS })),
];
