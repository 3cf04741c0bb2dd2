/** A program that edits a directory as fast as it can, at random: files, and directories that are moved, replaced and removed. */

/** Arguments: the directory, a seed, how many edits. What it makes is below 40 directories and 6 levels. */
export const EDITOR = `
const fs = require('node:fs');
const [root, seed, edits] = process.argv.slice(1);
let state = Number(seed) * 2654435761 >>> 0;
function random(n) {
  state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) >>> 0;
  state = (state ^ (state >>> 13)) >>> 0;
  return state % n;
}
const OWN = root + '/own';
function dirs() {
  const found = [root];
  const walk = (dir, depth) => {
    for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
      const at = dir + '/' + entry.name;
      if (!entry.isDirectory() || at === OWN) continue;
      found.push(at);
      if (depth < 6) walk(at, depth + 1);
    }
  };
  walk(root, 1);
  return found;
}
let known = dirs(), serial = 0;
const pick = () => known[random(known.length)];
const name = () => 'n' + random(12);
const nap = new Int32Array(new SharedArrayBuffer(4));
for (let n = 0; n < Number(edits); n += 1) {
  const at = pick() + '/' + name();
  if (at === OWN) continue;
  let moved = true;
  try {
    const kind = random(100);
    if (kind < 35) { fs.writeFileSync(at, 'text ' + (serial += 1)); moved = false; }
    else if (kind < 50) { fs.writeFileSync(at + '.tmp', 'text ' + (serial += 1)); fs.renameSync(at + '.tmp', at); moved = false; }
    else if (kind < 58) { fs.unlinkSync(at); moved = false; }
    else if (kind < 70) { if (known.length < 40) fs.mkdirSync(at); }
    else if (kind < 84) { if (known.length < 40) { fs.mkdirSync(at + '/deep', { recursive: true }); fs.writeFileSync(at + '/deep/f', 'deep ' + (serial += 1)); } }
    else if (kind < 94) { const from = pick(); if (from !== root) fs.renameSync(from, at); }
    else if (kind < 96) { const from = pick(); if (from !== root) { fs.rmSync(from, { recursive: true }); fs.mkdirSync(from); fs.writeFileSync(from + '/again', 'again ' + (serial += 1)); } }
    else if (kind < 97) { const gone = pick(); if (gone !== root) fs.rmSync(gone, { recursive: true }); }
    else if (kind < 98) { fs.rmSync(at, { recursive: true }); fs.writeFileSync(at, 'instead ' + (serial += 1)); }
    else { const from = pick() + '/' + name(); if (from !== OWN) fs.renameSync(from, at); }
  } catch {}
  if (moved) known = dirs();
  // The reader must not fall behind by more than the kernel's queue holds.
  if (n % 25 === 0) Atomics.wait(nap, 0, 0, 4);
}
`;
