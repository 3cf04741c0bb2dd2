/** One renewal of a lease over etcd3's low-level stream. */

import type { CallOptions } from '@grpc/grpc-js';
import type { Etcd3 } from 'etcd3';
import { UnavailableError } from '../base/error.ts';

/** Starts a lease's time again; false if it has ended. A stream for one message: renewals are seconds apart. */
export async function renewOnce(client: Etcd3, options: CallOptions, lease: bigint): Promise<boolean> {
  const stream = await client.leaseClient.leaseKeepAlive(options);
  try {
    return await new Promise<boolean>((resolve, reject) => {
      stream.on('data', ({ TTL }) => resolve(Number(TTL) > 0));
      // Stays listened to: a canceled stream emits one more error.
      stream.on('error', reject);
      stream.on('end', () => reject(new UnavailableError('the server ended the stream')));
      stream.write({ ID: String(lease) });
    });
  } finally {
    stream.cancel();
  }
}
