#!/usr/bin/env bash
# Builds whose processes must stay within their memory limit, as the tool measures the peak of each child, and as a cgroup
# counts it with the page cache, where one can be made.
#   memory.sh INDEXBUILD LONG_VALUES ROWS
# - an index on an integer and one on a 120-character string over many rows, each process within 256 MiB;
# - one that includes texts of 64 KB and of 1 MB, of a dictionary and plain, within 128 MiB. LONG_VALUES is the program
#   that writes such tables (crates/source/examples/long_values.rs).
set -euo pipefail
indexbuild=$(realpath "$1")
long_values=$(realpath "$2")
rows=$3
# What the parent of the children takes beside them in the same cgroup.
parent=$((32 * 1024 * 1024))
folder=$(mktemp -d -t indexbuild-memory.XXXXXX)
group=
clean() {
    [ -z "$group" ] || rmdir "$group" || true
    rm -rf "$folder"
}
trap clean EXIT
cd "$folder"

# A cgroup that may use $1 bytes, if this machine lets one be made: of version 2, else of version 1.
make_group() {
    group=
    local root
    for root in /sys/fs/cgroup /sys/fs/cgroup/memory; do
        group=$(mktemp -d "$root/indexbuild-memory.XXXXXX" 2> /dev/null) || continue
        if [ -e "$group/memory.max" ]; then
            if echo "$1" > "$group/memory.max"; then
                [ ! -e "$group/memory.swap.max" ] || echo 0 > "$group/memory.swap.max"
                return 0
            fi
        elif [ -e "$group/memory.limit_in_bytes" ] && echo "$1" > "$group/memory.limit_in_bytes"; then
            return 0
        fi
        rmdir "$group"
    done
    group=
    return 1
}

# Processes of the group that were killed for memory.
killed() {
    local file
    for file in memory.events memory.oom_control; do
        [ ! -e "$group/$file" ] || awk '$1 == "oom_kill" { print $2 }' "$group/$file"
    done
}

# The build of build.yaml, its children within $2 bytes each, of which there are $3 at once.
run() {
    local name=$1 limit=$2 children=$3
    echo "== $name"
    if make_group $((limit * children + parent)); then
        (echo "$BASHPID" > "$group/cgroup.procs" && exec "$indexbuild" run build.yaml -o json > summary.json)
        local kills
        kills=$(killed)
        [ "${kills:-0}" -eq 0 ] || { echo "$kills processes were killed for memory" >&2; exit 1; }
        echo "in a cgroup of $(((limit * children + parent) / 1048576)) MiB, nobody was killed"
        rmdir "$group"
        group=
    else
        echo "no cgroup can be made here: only what each child tells is checked"
        "$indexbuild" run build.yaml -o json > summary.json
    fi
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
    rm -rf indexes table.parquet .indexbuild
}

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
run "$rows rows of short values" $((256 * 1024 * 1024)) 2

cat > build.yaml <<'YAML'
apiVersion: indexbuild.dev/v1alpha1
kind: IndexBuild
metadata: {name: long-values}
spec:
  source:
    parquet: {urls: [table.parquet]}
  rowId: {columns: [id]}
  indexes:
    - {name: by_id, columns: [{name: id}], include: [v]}
  output: {url: indexes}
  parallelism: 1
  executor: {resources: {requests: {cpu: "1"}, limits: {memory: 128Mi}}}
YAML
for kind in dictionary plain; do
    for size in "8192 65536" "512 1000000"; do
        read -r count bytes <<< "$size"
        "$long_values" "$kind" "$count" "$bytes" table.parquet
        run "$count values of $bytes bytes, $kind: $(stat -c %s table.parquet) bytes in the file" $((128 * 1024 * 1024)) 1
    done
done
