#!/usr/bin/env bash
# Prints deploy/indexbuild.yaml: the chart with its default values, and its namespace. A test fails when the file is
# not what this prints; `make generated` writes it.
set -euo pipefail
cd "$(dirname "$0")/.."
helm="${INDEXBUILD_TOOLS:+$INDEXBUILD_TOOLS/helm}"
[ -x "$helm" ] || helm=$(command -v helm) || { echo "helm is missing: run make tools" >&2; exit 1; }

cat <<'HEAD'
# indexbuild without Helm. Made of charts/indexbuild by `make generated`; do not edit.
#   kubectl apply --server-side -f indexbuild.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: indexbuild-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
HEAD
# What Helm would note of itself is nobody's here.
"$helm" template indexbuild charts/indexbuild --namespace indexbuild-system --skip-tests --kube-version 1.30.0 |
    sed -E '/^ +(helm\.sh\/chart|app\.kubernetes\.io\/managed-by): /d'
