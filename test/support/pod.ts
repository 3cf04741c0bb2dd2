/** The rendered manifests: what a cluster would get, in the few shapes that the tests look at. */

import { execFileSync } from 'node:child_process';
import { parseAllDocuments } from 'yaml';
import { projectDir } from './tools.ts';

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly secretKeyRef: { readonly name: string; readonly key: string } };
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string | number };
}

export interface SecurityContext {
  readonly runAsNonRoot?: boolean;
  readonly runAsUser?: number;
  readonly runAsGroup?: number;
  readonly allowPrivilegeEscalation?: boolean;
  readonly readOnlyRootFilesystem?: boolean;
  readonly capabilities?: { readonly drop?: readonly string[]; readonly add?: readonly string[] };
  readonly seccompProfile?: { readonly type: string };
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly env?: readonly EnvVar[];
  readonly restartPolicy?: string;
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly securityContext?: SecurityContext;
  readonly resources?: { readonly requests?: object; readonly limits?: object };
  readonly volumeMounts?: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly readOnly?: boolean;
  }[];
}

export interface PodSpec {
  readonly initContainers: readonly Container[];
  readonly containers: readonly Container[];
  readonly securityContext: SecurityContext;
  readonly volumes: readonly { readonly name: string; readonly emptyDir?: object }[];
}

export interface Rendered {
  readonly pod: PodSpec;
  /** Keys and values of each Secret, by its name. */
  readonly secrets: ReadonlyMap<string, Readonly<Record<string, string>>>;
}

type Manifest =
  | {
      readonly kind: 'Secret';
      readonly metadata: { readonly name: string };
      readonly stringData: Record<string, string>;
    }
  | { readonly kind: 'Deployment'; readonly spec: { readonly template: { readonly spec: PodSpec } } };

/** Renders `manifests/base` with `kubectl kustomize`. */
export function renderManifests(kubectl: string): Rendered {
  const yaml = execFileSync(kubectl, ['kustomize', `${projectDir}/manifests/base`], { encoding: 'utf8' });
  const manifests = parseAllDocuments(yaml).map((document) => document.toJS() as Manifest);
  const secrets = new Map<string, Record<string, string>>();
  let pod: PodSpec | undefined;
  for (const manifest of manifests) {
    if (manifest.kind === 'Secret') secrets.set(manifest.metadata.name, manifest.stringData);
    else pod = manifest.spec.template.spec;
  }
  if (pod === undefined) throw new Error('the manifests have no Deployment');
  return { pod, secrets };
}
