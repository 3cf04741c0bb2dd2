/** Small files of this machine, read whole. */

import type { ByteString } from '../../codec/kv.ts';
import type { FsPort } from './ports.ts';

/** Reads a whole small file. */
export function readAll(fs: FsPort, path: ByteString): Uint8Array {
  const fd = fs.openRead('read', path);
  try {
    const size = Number(fs.fstat('read', fd).size);
    const bytes = new Uint8Array(size);
    let done = 0;
    while (done < size) {
      const n = fs.read('read', fd, bytes.subarray(done), done);
      if (n === 0) break;
      done += n;
    }
    return bytes.subarray(0, done);
  } finally {
    fs.close('read', fd);
  }
}
