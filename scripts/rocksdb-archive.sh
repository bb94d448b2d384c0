#!/usr/bin/env bash
# Compiles RocksDB's C++ once per machine, into the cache folder, keyed by what decides its content.
# Every cargo command then links that archive (ROCKSDB_LIB_DIR): the C++ takes 11 minutes on two
# cores, and cargo alone would compile it again whenever a dependency's features change.
#   --where   print the folder of the archive, build nothing
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(awk '/^name = "librocksdb-sys"$/ {getline; gsub(/.*= "|"/, ""); print}' Cargo.lock)
# What RocksDB is compiled with: the compressions that it can read.
features=$(sed -nE 's/^(librocksdb-sys|rocksdb) = .*features = (\[.*\]).*/\2/p' Cargo.toml)
key=$(printf '%s\n' "$version" "$features" "$(uname -m)" "$(c++ -dumpfullversion 2>/dev/null || true)" "${CXXFLAGS:-}" | sha256sum | cut -c1-12)
folder="${INDEXBUILD_CACHE:-$HOME/.cache/indexbuild}/rocksdb-$version-$key"
if [ "${1:-}" = --where ]; then
    echo "$folder"
    exit 0
fi
[ -f "$folder/librocksdb.a" ] && exit 0

echo "compiling RocksDB (librocksdb-sys $version) once for this machine: about 11 minutes on two cores"
mkdir -p "$folder"
work="$folder/build"
# The log is folded into one line each half minute: a compile of 340 files with nothing to say.
( unset ROCKSDB_LIB_DIR ROCKSDB_STATIC
  CARGO_TARGET_DIR="$work" cargo build --release --locked -p librocksdb-sys >"$folder/build.log" 2>&1 ) &
builder=$!
while kill -0 "$builder" 2>/dev/null; do
    sleep 1
    tick=$(( ${tick:-0} + 1 ))
    [ $(( tick % 30 )) -eq 0 ] && echo "  $(find "$work" -name '*.o' -path '*librocksdb-sys*' 2>/dev/null | wc -l) of about 345 files"
done
if ! wait "$builder"; then
    tail -n 40 "$folder/build.log" >&2
    echo "RocksDB did not compile; the whole log is $folder/build.log" >&2
    exit 1
fi
archive=$(find "$work" -name librocksdb.a -path '*/out/*' -print -quit)
[ -n "$archive" ] || { echo "no librocksdb.a under $work" >&2; exit 1; }
cp "$archive" "$folder/.librocksdb.a.part"
mv "$folder/.librocksdb.a.part" "$folder/librocksdb.a"
rm -rf "$work"
