#!/usr/bin/env bash
# An index on an integer and one on a 120-character string over many rows, each process within
# 256 MiB: the tool measures and prints the peak of each child; this fails when one is above.
#   memory.sh INDEXBUILD ROWS
set -euo pipefail
indexbuild=$(realpath "$1")
rows=$2
limit=$((256 * 1024 * 1024))
folder=$(mktemp -d -t indexbuild-memory.XXXXXX)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$indexbuild" sample --rows "$rows" --columns id,k,c --out table.parquet
cat > build.yaml <<'YAML'
apiVersion: indexbuild.dev/v1alpha1
kind: IndexBuild
metadata: {name: memory}
spec:
  source:
    parquet: {urls: [table.parquet]}
  rowId: {columns: [id]}
  indexes:
    - {name: by_k, columns: [{name: k}]}
    - {name: by_c, columns: [{name: c}]}
  output: {url: indexes}
  parallelism: 2
  executor: {resources: {requests: {cpu: "1"}, limits: {memory: 256Mi}}}
YAML
"$indexbuild" run build.yaml -o json > summary.json
python3 - "$limit" <<'PYTHON'
import json, sys
limit = int(sys.argv[1])
summary = json.load(open("summary.json"))
children = summary["children"]
assert children, "the summary names no child"
for child in children:
    print(f"{child['podName']}: peak RSS {child['peakRssBytes'] / 2**20:.0f} MiB")
worst = max(child["peakRssBytes"] for child in children)
if worst >= limit:
    sys.exit(f"a child used {worst / 2**20:.0f} MiB, above its limit of {limit / 2**20:.0f} MiB")
PYTHON
