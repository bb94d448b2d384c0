#!/usr/bin/env bash
# The object stores from npm that tests speak to: s3rver (S3) and Azurite (Azure Blob Storage). They live in the cache
# folder, in the versions of scripts/stores/package-lock.json.
set -euo pipefail
cd "$(dirname "$0")/stores"
folder="${INDEXBUILD_CACHE:-$HOME/.cache/indexbuild}/stores"
stamp="$folder/.lock"
cmp -s package-lock.json "$stamp" && exit 0
echo "installing s3rver and Azurite into $folder"
rm -rf "$folder"
mkdir -p "$folder"
cp package.json package-lock.json "$folder/"
npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
cp package-lock.json "$stamp"
