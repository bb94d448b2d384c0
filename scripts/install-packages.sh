#!/usr/bin/env bash
# Installs the Debian packages that the build needs, or says which are missing and how to get them.
#   install-packages.sh            what the build needs
#   install-packages.sh testbed    what test clusters need besides: their tests are skipped without it
#   install-packages.sh promtool   what tests of the chart's alerts need: they are skipped without it
#   install-packages.sh old-rocksdb  what the test needs by which an old RocksDB reads an index: it is skipped without it
#   install-packages.sh stores     what the object stores need that tests speak to: their tests are skipped without it
set -euo pipefail

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml") or newer with rustup (https://rustup.rs)." >&2
    exit 1
fi

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v mold >/dev/null || missing+=(mold)
command -v git >/dev/null || missing+=(git)
# Not libclang-cpp, which other packages bring and bindgen cannot use.
compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null || missing+=(libclang-dev)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ "${1:-}" = testbed ]; then
    missing=()
    # Its own command is linked with them.
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v mold >/dev/null || missing+=(mold)
    command -v containerd >/dev/null || missing+=(containerd)
    command -v runc >/dev/null || missing+=(runc)
    command -v nft >/dev/null || missing+=(nftables)
    command -v ip >/dev/null || missing+=(iproute2)
    # containerd's bridge plugin calls it, even where no address is masqueraded.
    command -v iptables >/dev/null || missing+=(iptables)
    command -v conntrack >/dev/null || missing+=(conntrack)
    [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
    # Images from Dockerfiles, on base images that are made here.
    command -v buildah >/dev/null || missing+=(buildah)
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    [ -s /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
fi
if [ "${1:-}" = stores ]; then
    missing=()
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
fi
if [ "${1:-}" = old-rocksdb ]; then
    missing=()
    command -v ldb >/dev/null && command -v sst_dump >/dev/null || missing+=(rocksdb-tools)
fi
if [ "${1:-}" = promtool ]; then
    missing=()
    command -v promtool >/dev/null || missing+=(prometheus)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "These Debian packages, or what your system calls them, are missing: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "These packages are missing: ${missing[*]}" >&2
    echo "Install them and run the command again:  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
