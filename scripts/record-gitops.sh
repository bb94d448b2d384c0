#!/usr/bin/env bash
# Records the objects in tests/gitops anew: the test of the kubectl plugin runs real builds through every stage on the
# testbed, and writes the first object that it saw in each. Needs what the testbed needs: root, and `make tools`.
set -euo pipefail
cd "$(dirname "$0")/.."
export INDEXBUILD_RECORD=1
export INDEXBUILD_TOOLS=${INDEXBUILD_TOOLS:-$(scripts/tools.sh --where)}
export ROCKSDB_LIB_DIR=${ROCKSDB_LIB_DIR:-$(scripts/rocksdb-archive.sh --where)} ROCKSDB_STATIC=1
# All of the workspace is asked for, so that what `make test` compiled serves here: cargo picks features by what is asked for.
cargo test --release --locked --workspace --test clusters plugin::
