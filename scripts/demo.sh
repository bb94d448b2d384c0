#!/usr/bin/env bash
# The main job on real input: two indexes over a million rows, built by three processes, one of
# which is cut off from its parent for longer than the parent's patience while its engine's handle
# is leaked. The build finishes, and every row is proved against the table.
set -euo pipefail
indexbuild=$(realpath "$1")
folder=$(mktemp -d -t indexbuild-demo.XXXXXX)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$*"; }

say "A table of 1,000,000 rows: id, k (an integer), c (a string of 119 characters)"
"$indexbuild" sample --rows 1000000 --columns id,k,c --row-group-rows 50000 --out orders.parquet

cat > build.yaml <<'YAML'
apiVersion: indexbuild.dev/v1alpha1
kind: IndexBuild
metadata: {name: demo}
spec:
  source:
    parquet: {urls: [orders.parquet]}
  rowId: {columns: [id]}
  indexes:
    - {name: by_k, columns: [{name: k}], include: []}
    - {name: by_c, columns: [{name: c}]}
  output: {url: indexes}
  parallelism: 3
YAML
sed -i 's/, include: \[\]//' build.yaml

say "The build: three processes; one is cut off for 4 s, longer than the parent's patience of 2 s, with its engine leaked"
"$indexbuild" run build.yaml --replace-after 2s --renew-interval 250ms \
    --fault leak-engine:1 --fault cut:1:4s@encode --timeline timeline.svg

say "Verify: every file, every entry, and the table itself read again"
"$indexbuild" verify indexes/default/demo --source build.yaml

say "A lookup"
key=$("$indexbuild" scan indexes/default/demo --index by_k --limit 1 -o json | sed -n 's/.*"k": *\([0-9]*\).*/\1/p' | head -n 1)
"$indexbuild" get indexes/default/demo --index by_k "$key"
