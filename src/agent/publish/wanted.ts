/** What a path shall be in the next tree, and where it comes from. */

import type { ByteString } from '../../codec/kv.ts';
import type { Attributes, Remembered } from '../disk/attribute-writer.ts';
import type { SpecialKind } from '../base/ports.ts';
import type { Signature } from '../disk/slot.ts';

/** What a path shall be in the next tree. */
export type Wanted = WantedEntry & { readonly remembered?: Remembered };

type WantedEntry =
  | { readonly type: 'directory'; readonly attributes: Attributes }
  /** With `source` that link itself gets a second name. */
  | {
      readonly type: 'symlink';
      readonly target: string;
      readonly attributes: Attributes;
      readonly source?: ByteString;
    }
  /** A staged content that gets these attributes. */
  | {
      readonly type: 'file';
      readonly source: ByteString;
      readonly digest: string;
      readonly attributes: Attributes;
    }
  /**
   * An inode that somebody else made: it is linked as it is, or copied, with attributes of its own if some are given. `seen` is its signature when the digest was read.
   */
  | {
      readonly type: 'file';
      readonly source: ByteString;
      readonly digest: string;
      readonly seen: Signature;
      readonly copy?: true | Attributes;
    }
  /** A staged special file that gets these attributes; without them one that is there is linked as it is. */
  | {
      readonly type: 'special';
      readonly kind: SpecialKind;
      readonly rdev: number;
      readonly source: ByteString;
      readonly attributes?: Attributes;
    }
  | { readonly type: 'other'; readonly source: ByteString };
