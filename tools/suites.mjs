/** The default suites, the longest files first, as files run at the same time; and the programs that they use. */

export const SUITES = ['fault', 'interop', 'e2e', 'sim', 'contract', 'property', 'unit'];
export const TOOLS = ['etcd', 'etcdctl', 'nginx', 'juicefs', 'kubectl'];

/** Older clients that the tests of `interop` run against. */
export const OLD_CLIENTS = ['1.3.0', '1.3.1', '1.4.0', '1.4.1'].map((version) => `juicefs-${version}`);
