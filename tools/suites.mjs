/** The default suites and the programs that they use. */

export const SUITES = ['unit', 'property', 'contract', 'fault', 'interop', 'e2e'];
export const TOOLS = ['etcd', 'etcdctl', 'nginx', 'juicefs', 'kubectl'];

/** Older clients that the tests of `interop` run against. */
export const OLD_CLIENTS = ['1.3.0', '1.3.1', '1.4.0', '1.4.1'].map((version) => `juicefs-${version}`);
