#!/usr/bin/env bash
# The commands that test clusters run (etcd, Kubernetes, an S3-speaking store), and those that tests ask (Helm,
# kubeconform, KWOK, kstatus, a CSI driver and its attacher). Each is built once per machine from its Go module, pinned by go.mod and go.sum below
# tests/tools/, into a folder of the cache whose name is made of what goes into it.
#   tools.sh             builds what is missing
#   tools.sh cluster     builds what a cluster itself needs, if it is missing
#   tools.sh --where     prints the folder that will hold the commands, and builds nothing
# Binaries of the wanted version in INDEXBUILD_TOOLS_DIR are taken instead of built.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${INDEXBUILD_CACHE:-$HOME/.cache/indexbuild}"

key=$( { cat tests/tools/*/* scripts/tools.sh; uname -m; } | sha256sum | cut -c1-12)
bin="$cache/tools-$key"
if [ "${1:-}" = --where ]; then
    echo "$bin"
    exit 0
fi

# The version that a module's go.mod requires.
version_of() {
    sed -nE "s|^(require )?[[:space:]]*$2 (v[^ ]+).*|\2|p" "tests/tools/$1/go.mod" | head -n 1
}
kubernetes=$(version_of kubernetes k8s.io/kubernetes)
etcd=$(version_of etcd go.etcd.io/etcd/server/v3)
versitygw=$(version_of versitygw github.com/versity/versitygw)
helm=$(version_of helm helm.sh/helm/v4)
kubeconform=$(version_of kubeconform github.com/yannh/kubeconform)
kwok=$(version_of kwok sigs.k8s.io/kwok)
attacher=$(version_of csi github.com/kubernetes-csi/external-attacher/v4)
minor=${kubernetes#v1.}
minor=${minor%%.*}
component=k8s.io/component-base/version

mkdir -p "$bin"
# Two who build at once would do everything twice: the second waits, and finds it done.
if command -v flock >/dev/null; then
    exec 9>"$cache/tools.lock"
    flock 9
fi

# Each module's commands are kept beside the others', under a key of their own: a change of one module builds
# that one. The folder above holds links.
store_of() {
    local key
    key=$( { cat "tests/tools/$1"/*; uname -m; } | sha256sum | cut -c1-12)
    echo "$cache/tools/$1-$key"
}

# A binary of the system, if it says that it has the wanted version.
of_the_system() {
    local name=$1 version=$2 found="${INDEXBUILD_TOOLS_DIR:-}/$1"
    # Our own commands are nowhere else.
    [ "$version" != ours ] || return 1
    [ -n "${INDEXBUILD_TOOLS_DIR:-}" ] && [ -x "$found" ] || return 1
    local says
    says=$("$found" --version 2>/dev/null || "$found" version --client 2>/dev/null || "$found" version 2>/dev/null || "$found" -v 2>/dev/null || true)
    if grep -qF -- "${version#v}" <<<"$says"; then
        cp "$found" "$bin/.$name.part" && mv "$bin/.$name.part" "$bin/$name"
        echo "$name $version: taken from $INDEXBUILD_TOOLS_DIR"
        return 0
    fi
    echo "$name in $INDEXBUILD_TOOLS_DIR is not $version: it is built" >&2
    return 1
}

# Half of the free memory, for as many compilers as there are cores, and 3 GiB at most: none needs more.
share_of_memory() {
    awk -v cores="$(nproc)" '/^MemAvailable/ { share = int($2 / 1024 / 2 / cores); print (share < 3072 ? share : 3072) "MiB" }' /proc/meminfo
}

# build MODULE VERSION LDFLAGS NAME=PACKAGE…
build() {
    local module=$1 version=$2 ldflags=$3 pair store missing=()
    shift 3
    store=$(store_of "$module")
    mkdir -p "$store"
    for pair in "$@"; do
        local kept="$store/${pair%%=*}"
        [ -x "$bin/${pair%%=*}" ] || of_the_system "${pair%%=*}" "$version" || { [ -x "$kept" ] && ln -f "$kept" "$bin/"; } || missing+=("$pair")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if ! command -v go >/dev/null; then
        echo "go is missing: install Go $(sed -n 's/^go //p' "tests/tools/$module/go.mod") or newer (https://go.dev/dl), or name a folder with ${missing[*]%%=*} $version in INDEXBUILD_TOOLS_DIR." >&2
        exit 1
    fi
    # In one call, so that one command is linked, which takes one core, while another is compiled. Each is named after
    # the last part of its package, but for what is asked for alone.
    local started=$SECONDS part="$store/.part" packages=("${missing[@]#*=}")
    printf '%s %s: building … ' "${missing[*]%%=*}" "$version"
    rm -rf "$part" && mkdir -p "$part"
    [ ${#missing[@]} -gt 1 ] && local out="$part/" || local out="$part/${missing[0]%%=*}"
    # The compiler is a process of its own for each package, and lives too short for its garbage to matter: without
    # collections a build takes some 40 % less CPU time. The limit, a share of this machine's memory, keeps the largest ones,
    # and their linking, within bounds. Debug information would be made for each package only to be left out at the end.
    (cd "tests/tools/$module" && GOGC="${GOGC:-off}" GOMEMLIMIT="${GOMEMLIMIT:-$(share_of_memory)}" CGO_ENABLED=0 \
        go build -mod=readonly -trimpath -gcflags=all=-dwarf=false -ldflags "-s -w $ldflags" -o "$out" "${packages[@]}")
    for pair in "${missing[@]}"; do
        mv "$part/${pair%%=*}" "$store/"
        ln -f "$store/${pair%%=*}" "$bin/"
    done
    rmdir "$part"
    echo "$((SECONDS - started)) s"
}

build etcd "$etcd" "" etcd=go.etcd.io/etcd/server/v3
build versitygw "$versitygw" "-X main.Version=$versitygw" versitygw=github.com/versity/versitygw/cmd/versitygw
build kubernetes "$kubernetes" "-X $component.gitVersion=$kubernetes -X $component.gitMajor=1 -X $component.gitMinor=$minor" \
    kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver \
    kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager \
    kube-scheduler=k8s.io/kubernetes/cmd/kube-scheduler \
    kubectl=k8s.io/kubernetes/cmd/kubectl \
    kubelet=k8s.io/kubernetes/cmd/kubelet
build workload ours "" workload=.
[ "${1:-}" != cluster ] || exit 0
build csi "$attacher" "-X main.version=$attacher" \
    csi-attacher=github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher
build csi ours "" csi-folder=.
build helm "$helm" "-X helm.sh/helm/v4/internal/version.version=$helm" helm=helm.sh/helm/v4/cmd/helm
build kubeconform "$kubeconform" "-X main.version=$kubeconform" kubeconform=github.com/yannh/kubeconform/cmd/kubeconform
build kwok "$kwok" "-X sigs.k8s.io/kwok/pkg/consts.Version=${kwok#v}" kwok=sigs.k8s.io/kwok/cmd/kwok
build kstatus ours "" kstatus=.
