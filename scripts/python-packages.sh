#!/usr/bin/env bash
# The Python packages that tests and benchmarks compare with: DuckDB, and a RocksDB of another
# version. They live in a virtual environment in the cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${INDEXBUILD_CACHE:-$HOME/.cache/indexbuild}/python"
stamp="$folder/.requirements"
cmp -s scripts/requirements.txt "$stamp" && exit 0
echo "installing DuckDB and rocksdict into $folder"
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check -r scripts/requirements.txt
cp scripts/requirements.txt "$stamp"
