#!/usr/bin/env bash
# Builds whose processes must stay within their memory limit, as the tool measures the peak of each child, and as a cgroup
# counts it with the page cache, where one can be made.
#   memory.sh INDEXBUILD LONG_VALUES ROWS
# - an index on an integer and one on a 120-character string over many rows, each process within 256 MiB;
# - one that includes texts of 64 KB and of 1 MB, of a dictionary and plain, and texts of 16 MB among short ones, within 128 MiB;
# - one over 24 columns, each with a dictionary, and one over 10,000 row groups of one row, within 128 MiB;
# - one that includes a column whose texts are one page of 100 MB, within 256 MiB;
# - one that includes texts of 24 MB among short ones: refused within 128 MiB, without taking more, and done within the limit
#   that the refusal names.
# LONG_VALUES is the program that writes such tables (crates/source/examples/long_values.rs).
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

# The build of build.yaml, its children within $1 bytes each, of which there are $2 at once. Who is killed for memory fails all.
bounded() {
    local limit=$1 children=$2 outcome=0
    if make_group $((limit * children + parent)); then
        (echo "$BASHPID" > "$group/cgroup.procs" && exec "$indexbuild" run build.yaml -o json > summary.json) || outcome=$?
        local kills
        kills=$(killed)
        rmdir "$group"
        group=
        # Nothing that a caller expects, as a refusal is.
        [ "${kills:-0}" -eq 0 ] || { echo "$kills processes were killed for memory" | tee killed >&2; return 1; }
        echo "in a cgroup of $(((limit * children + parent) / 1048576)) MiB, nobody was killed"
    else
        echo "no cgroup can be made here: only what each child tells is checked"
        "$indexbuild" run build.yaml -o json > summary.json || outcome=$?
    fi
    return "$outcome"
}

run() {
    local name=$1 limit=$2 children=$3
    echo "== $name"
    bounded "$limit" "$children" || exit
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

# build.yaml over table.parquet: an index that includes the columns $1, within $2 MiB.
including() {
    cat > build.yaml <<YAML
apiVersion: indexbuild.dev/v1alpha1
kind: IndexBuild
metadata: {name: long-values}
spec:
  source:
    parquet: {urls: [table.parquet]}
  rowId: {columns: [id]}
  indexes:
    - {name: by_id, columns: [{name: id}], include: [$1]}
  output: {url: indexes}
  parallelism: 1
  executor: {resources: {requests: {cpu: "1"}, limits: {memory: ${2}Mi}}}
YAML
}

including v 128
for kind in dictionary plain; do
    for size in "8192 65536" "512 1000000"; do
        read -r count bytes <<< "$size"
        "$long_values" "$kind" "$count" "$bytes" table.parquet
        run "$count values of $bytes bytes, $kind: $(stat -c %s table.parquet) bytes in the file" $((128 * 1024 * 1024)) 1
    done
done

including "$(printf 'v%s,' {0..22})v23" 128
"$long_values" columns 100000 1000 table.parquet
run "24 columns, each with a dictionary of 200 KB: $(stat -c %s table.parquet) bytes in the file" $((128 * 1024 * 1024)) 1

including v 128
"$long_values" groups 10000 1000 table.parquet
run "10000 row groups of one row: $(stat -c %s table.parquet) bytes in the file" $((128 * 1024 * 1024)) 1

including v 256
"$long_values" page 100000 1000 table.parquet
run "one page of 100 MB: $(stat -c %s table.parquet) bytes in the file" $((256 * 1024 * 1024)) 1

including v 128
"$long_values" rare 2048 16000000 table.parquet
run "texts of 16 MB among short ones: $(stat -c %s table.parquet) bytes in the file" $((128 * 1024 * 1024)) 1

"$long_values" rare 2048 24000000 table.parquet
including v 128
echo "== texts of 24 MB among short ones, within 128 MiB"
refusal=$(! bounded $((128 * 1024 * 1024)) 1 2>&1)
limit=$(grep -o 'limits.memory of [0-9]*Mi suffices' <<< "$refusal $(cat summary.json)" | grep -o '[0-9]*' | sort -n | tail -1)
[ ! -e killed ] || exit 1
[ -n "$limit" ] || { echo "no limit that suffices is named: $refusal $(cat summary.json)" >&2; exit 1; }
rm -rf indexes .indexbuild
including v "$limit"
run "texts of 24 MB among short ones, within the $limit MiB that were named" $((limit * 1024 * 1024)) 1
