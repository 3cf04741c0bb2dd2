/** What one transaction of the store may hold. */

export interface Limits {
  readonly compares: number;
  readonly ops: number;
  /** Bytes of keys and values with etcd's framing. */
  readonly bytes: number;
}

/** etcd's defaults, with room below `--max-request-bytes` (1.5 MiB). */
export const LIMITS: Limits = { compares: 128, ops: 128, bytes: 1_400 * 1024 };
