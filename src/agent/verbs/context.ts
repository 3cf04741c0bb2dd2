/** What every verb for people is given, and what they share: paths as people write them, and sentences. */

import { toByteString } from '../../codec/bytes.ts';
import type { ByteString } from '../../codec/kv.ts';
import type { MetaAddress } from '../../codec/url.ts';
import type { Path } from '../../reconcile/entry.ts';
import { ConfigError, VolumeError } from '../base/error.ts';
import type { DataOptions } from '../volume/open-blocks.ts';
import type { Clock, LeaseStore } from '../base/ports.ts';
import { openVolume, type Volume } from '../volume/volume.ts';

/** A stream to print to; `write` returns false when it wants to be waited for (`drain`), as Node's streams do. */
export interface Output {
  write(data: string | Uint8Array): boolean;
  once(event: 'drain', listener: () => void): unknown;
}

export interface VerbContext {
  readonly store: LeaseStore;
  readonly address: MetaAddress;
  /** What the command line and the environment say of the volume's data. */
  readonly data?: DataOptions;
  readonly clock: Clock;
  readonly out: Output;
  readonly err: Output;
  readonly signal?: AbortSignal;
}

/** The exit codes of design 3.1 that verbs return; what they throw has its own. */
export const EXIT = { done: 0, failed: 1, problems: 5 } as const;

/** A path of the volume from what a person wrote: absolute or not, doubled and trailing slashes do not matter. */
export function volumePath(text: ByteString): Path {
  const parts = text.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new ConfigError('A path in the volume cannot go up with "..".');
  return parts.join('/');
}

/** Text of the command line or of Node's file names as a byte string. */
export function bytesOfText(text: string): ByteString {
  return toByteString(Buffer.from(text, 'utf8'));
}

/** Writes and waits until the stream takes more. */
export async function print(stream: Output, data: string | Uint8Array): Promise<void> {
  if (stream.write(data)) return;
  await new Promise<void>((resolve) => stream.once('drain', resolve));
}

/** Opens the volume for as long as `use` takes. */
export async function withVolume<T>(context: VerbContext, use: (volume: Volume) => Promise<T>): Promise<T> {
  const volume = await openVolume(context.store, context.address, context.signal, context.data);
  try {
    return await use(volume);
  } finally {
    await volume.close();
  }
}

/** The same for writing; throws `VolumeError` with the reason why a volume is not written. */
export function withWritableVolume<T>(context: VerbContext, use: (volume: Volume) => Promise<T>): Promise<T> {
  return withVolume(context, async (volume) => {
    const { writeRefusal, setting } = volume;
    if (writeRefusal !== undefined)
      throw new VolumeError(`The volume ${setting.name} is not written: ${writeRefusal}`);
    return use(volume);
  });
}
