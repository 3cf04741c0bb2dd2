/** The default suites and the programs that they use. */

export const SUITES = ['unit', 'property', 'contract', 'fault', 'interop', 'e2e'];
export const TOOLS = ['etcd', 'etcdctl', 'nginx', 'juicefs', 'kubectl'];
