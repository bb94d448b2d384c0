#!/usr/bin/env bash
# The main job on a real cluster of this machine: three nodes with local volumes, a table in an object store, a build of
# four slots, and one node cut off from everything on the way, for longer than the build's patience. It ends by itself.
#   demo-cluster.sh TESTBED INDEXBUILD      starts the cluster, and itself within it
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
if [ "${1:-}" != --inside ]; then
    testbed=$(realpath "$1") indexbuild=$(realpath "$2")
    exec "$testbed" --nodes 3 --clocks short -- bash "$here/scripts/demo-cluster.sh" --inside "$indexbuild"
fi
indexbuild=$2
folder=$(mktemp -d -t indexbuild-demo.XXXXXX)
children=()
cleanup() {
    [ ${#children[@]} -eq 0 ] || kill "${children[@]}" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$*"; }
# until WHAT SECONDS COMMAND…: until the command succeeds
until_true() {
    local what=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then
            echo "error: waited in vain until $what" >&2
            kubectl get ib,ed,pods,pvc -o wide >&2 || true
            [ ! -f "$folder/operator.log" ] || tail -n 20 "$folder/operator.log" >&2
            exit 1
        fi
        sleep 0.3
    done
}

say "A cluster of three nodes, each with local volumes; the program as an image on each"
kubectl get nodes -o wide
testbed volumes 4
testbed image testbed.local/indexbuild:1 "$indexbuild"

say "A table of 400,000 rows in the object store"
lake=$(testbed bucket lake)
testbed bucket indexes >/dev/null
mkdir -p "$lake/orders"
"$indexbuild" sample --rows 400000 --files 8 --out "$lake/orders/part.parquet"

if command -v helm >/dev/null; then
    say "The operator: helm install"
    helm install indexbuild "$here/charts/indexbuild" --namespace indexbuild-system --create-namespace --wait --timeout 2m \
        --set image.repository=testbed.local/indexbuild --set-string image.tag=1 --set image.pullPolicy=Never --set replicas=1
else
    say "The operator: a process beside the API server, as this machine has no helm"
    kubectl apply --server-side -f "$here/crds" >/dev/null
    "$indexbuild" --log-format=json operator --executor-image testbed.local/indexbuild:1 \
        --executor-image-pull-policy Never --bind 127.0.0.1:8080 --lease-namespace default >"$folder/operator.log" 2>&1 &
    children+=($!)
fi
kubectl wait --for=condition=Established crd/indexbuilds.indexbuild.dev crd/enginedirectories.indexbuild.dev --timeout=30s

say "A build of four slots: kubectl apply -f build.yaml"
kubectl create secret generic store \
    --from-literal=AWS_ACCESS_KEY_ID="$AWS_ACCESS_KEY_ID" --from-literal=AWS_SECRET_ACCESS_KEY="$AWS_SECRET_ACCESS_KEY"
cat > "$folder/build.yaml" <<YAML
apiVersion: indexbuild.dev/v1alpha1
kind: IndexBuild
metadata: {name: orders}
spec:
  source:
    parquet:
      urls: ["s3://lake/orders/*.parquet"]
      endpoint: $AWS_ENDPOINT_URL
      region: us-east-1
      credentials: {secretName: store}
  rowId: {columns: [id]}
  indexes:
    - {name: by_k, columns: [{name: k}]}
  output:
    url: s3://indexes/shop
    endpoint: $AWS_ENDPOINT_URL
    region: us-east-1
    credentials: {secretName: store}
  parallelism: 4
  volume: {storageClassName: local, size: 1Gi}
  disruption: {replaceAfter: 15s, orphanAfter: 5m}
  rowsPerSecond: 8000                 # slow enough to watch
  executor: {resources: {limits: {memory: 256Mi}}}
YAML
kubectl apply -f "$folder/build.yaml"
"$indexbuild" timeline orders --follow --out "$folder/timeline.txt" 2>"$folder/timeline.log" &
timeline=$!
children+=($timeline)
kubectl get ib -w &
children+=($!)
kubectl get ed -w &
children+=($!)

# The node of an executor at work, and not the operator's own: that would be another story.
operator_node=$(kubectl get pods -n indexbuild-system -l app.kubernetes.io/component=operator -o jsonpath='{.items[0].spec.nodeName}' 2>/dev/null || true)
victim() {
    kubectl get ed -o jsonpath='{range .items[?(@.status.state=="Working")]}{.spec.slot} {.spec.grant.nodeName} {.spec.work.kind}{"\n"}{end}' |
        awk -v operator="$operator_node" '$2 != operator && $3 == "Encode" { print $2; exit }'
}
begun() { node=$(victim) && [ -n "$node" ]; }
until_true "an executor encodes" 90 begun
sleep 4
say "Cut off: $node, from the API server, the object store and the other nodes, for 40 s; the build's patience is 15 s"
testbed cut "$node"
sleep 25
say "What an engineer on call sees meanwhile"
kubectl get ed -o wide
kubectl get ib orders -o jsonpath='{range .status.conditions[?(@.status=="True")]}{.type}: {.reason}: {.message}{"\n"}{end}'
sleep 15
say "In contact again: $node"
testbed heal "$node"

kubectl wait --for=condition=Finished ib/orders --timeout=240s >/dev/null
until_true "the timeline is written" 60 test -s "$folder/timeline.txt"
kill "${children[@]}" 2>/dev/null || true
children=()
say "The build"
kubectl get ib orders -o wide
kubectl get ib orders -o jsonpath='{range .status.conditions[*]}{.type}={.status} {end}{"\n"}'
kubectl wait --for=condition=Complete ib/orders --timeout=1s

say "Who owned which directory, when, on which node and volume, and why that changed"
cat "$folder/timeline.txt"

say "The index, checked against the table"
sed -e '/credentials:/d' "$folder/build.yaml" > "$folder/local.yaml"
"$indexbuild" verify s3://indexes/shop/default/orders --source "$folder/local.yaml" --endpoint "$AWS_ENDPOINT_URL" --region us-east-1 --allow-http
