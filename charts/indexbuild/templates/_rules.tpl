{{- /* What the operator may do where it looks for builds: what its code calls, and nothing else. No secret is ever read: pods name them, the kubelet mounts them. */}}
{{- define "indexbuild.rules" -}}
# Builds are found and followed. `patch` is for the finalizer alone: the policy <name>-guard refuses the operator any
# other change of a build.
- apiGroups: [indexbuild.dev]
  resources: [indexbuilds]
  verbs: [get, list, watch, patch]
# What becomes of a build is written to its status.
- apiGroups: [indexbuild.dev]
  resources: [indexbuilds/status]
  verbs: [patch]
# The records of ownership: one for each slot, made, granted, chosen in and removed by the operator. `get` and `watch`
# are also what it grants to executors.
- apiGroups: [indexbuild.dev]
  resources: [enginedirectories]
  verbs: [get, list, watch, create, patch, delete]
# The operator's part of a record's status; executors are granted it for their own records.
- apiGroups: [indexbuild.dev]
  resources: [enginedirectories/status]
  verbs: [patch]
# Executors are pods that the operator makes, follows and asks to stop. They are never changed.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
# Each slot has a claim of its own, which goes when its owner is proved gone. Claims are never changed.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, delete]
# The build's file and the frozen stages, which executors read (`get` is granted to them by name). They go with their
# build, by its owner reference.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch]
# Each build's executors have an account of their own, unless the build names one.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [create, patch]
# ... with a role that names the build's own records and stages. The operator holds all that it grants: it needs
# neither `escalate` nor `bind`.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [create, patch]
# What happened is told as events of the build. What was told is not told again soon, so none is ever patched.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# A pod whose mounts fail says why in events alone: they are read for a pod that does not start, so that the build's
# conditions tell it. Without this right they name what the pod mounts.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end }}
