/** The types of `suites.mjs`, for the tests. */

export declare const OLD_CLIENTS: readonly `juicefs-${string}`[];
