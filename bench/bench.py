"""Side by side, in one run, round-robin: this tool, DuckDB, RocksDB puts by its own options and by those for bulk loading.

Every contender reads the same Parquet file and leaves its output flushed to disk. A ratio is the
result; absolute times hold for the machine of the moment only.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = 2

BUILD = """\
apiVersion: indexbuild.dev/v1alpha1
kind: IndexBuild
metadata: {{name: bench}}
spec:
  source:
    parquet: {{urls: [{table}]}}
  rowId: {{columns: [id]}}
  indexes:
    - {{name: by_{column}, columns: [{{name: {column}}}]}}
  output: {{url: {output}, compression: Lz4}}
  parallelism: 1
  executor: {{resources: {{requests: {{cpu: "{threads}"}}, limits: {{memory: 512Mi}}}}}}
"""

DUCKDB = """
import duckdb, os, sys
table, column, out, threads = sys.argv[1:5]
connection = duckdb.connect(config={"threads": int(threads)})
connection.execute("SET preserve_insertion_order = true")
connection.execute(f"COPY (SELECT {column}, id FROM read_parquet('{table}') ORDER BY {column}, id) TO '{out}' (FORMAT parquet)")
handle = os.open(out, os.O_RDONLY)
os.fsync(handle)
"""


def run(command, **options):
    started = time.monotonic()
    outcome = subprocess.run(command, capture_output=True, text=True, **options)
    wall = time.monotonic() - started
    if outcome.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{outcome.stdout}\n{outcome.stderr}")
    return wall, outcome.stdout


def ours(args, table, column, folder):
    build = folder / "build.yaml"
    build.write_text(BUILD.format(table=table, column=column, output=folder / "indexes", threads=THREADS))
    wall, out = run([args.indexbuild, "run", build, "--state", folder / "state", "-o", "json", "--quiet"])
    return wall, json.loads(out)


def duckdb(args, table, column, folder):
    wall, _ = run([sys.executable, "-c", DUCKDB, table, column, folder / "out.parquet", str(THREADS)])
    return wall, None


def rocksdb(options):
    def once(args, table, column, folder):
        wall, _ = run([args.plain_rocksdb, options, table, column, folder / "db"])
        return wall, None

    return once


CONTENDERS = {"indexbuild": ours, "duckdb": duckdb, "plain rocksdb": rocksdb("plain"), "bulk rocksdb": rocksdb("bulk")}


def measure(args, name, table, column, rows):
    walls = {contender: [] for contender in CONTENDERS}
    summary = None
    for repetition in range(args.repetitions):
        for contender, once in CONTENDERS.items():
            folder = Path(tempfile.mkdtemp(prefix="indexbuild-bench-", dir=args.folder))
            try:
                wall, details = once(args, table, column, folder)
            finally:
                shutil.rmtree(folder)
            walls[contender].append(wall)
            summary = details or summary
            print(f"  {name}, round {repetition + 1}: {contender} {wall:.2f} s", file=sys.stderr)
    mine = statistics.median(walls["indexbuild"])
    print(f"\n{name}: {rows:,} rows, {THREADS} threads, median of {args.repetitions}")
    print(f"  {'':14} {'M rows/s':>9} {'seconds (min..max)':>24} {'indexbuild is':>15}")
    for contender, times in walls.items():
        median = statistics.median(times)
        ratio = "" if contender == "indexbuild" else f"{median / mine:.2f} x"
        print(f"  {contender:14} {rows / median / 1e6:9.2f} {median:10.2f} ({min(times):.2f}..{max(times):.2f}) {ratio:>15}")
    where_time_went(summary)
    return {other: statistics.median(times) / mine for other, times in walls.items() if other != "indexbuild"}


def where_time_went(summary):
    steps = {}
    for stage in summary.get("stages", []):
        for step, nanoseconds in stage.get("nsPerRow", {}).items():
            steps[f"{stage['stage'].lower()}/{step}"] = nanoseconds
    total = sum(steps.values()) or 1
    print("  where the time went (thread time, ns per row):")
    for step, nanoseconds in sorted(steps.items(), key=lambda item: -item[1])[:10]:
        if nanoseconds >= 0.5:
            print(f"    {step:22} {nanoseconds:8.1f}  {100 * nanoseconds / total:4.0f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--indexbuild", required=True)
    parser.add_argument("--plain-rocksdb", required=True)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--integer-rows", type=int, default=10_000_000)
    parser.add_argument("--string-rows", type=int, default=3_000_000)
    parser.add_argument("--folder", default=None, help="where the tables and outputs go; a temporary folder by default")
    args = parser.parse_args()
    args.indexbuild, args.plain_rocksdb = os.path.abspath(args.indexbuild), os.path.abspath(args.plain_rocksdb)
    with tempfile.TemporaryDirectory(prefix="indexbuild-bench-", dir=args.folder) as folder:
        args.folder = folder
        results = {}
        for name, column, rows in [("integer", "k", args.integer_rows), ("string", "c", args.string_rows)]:
            table = Path(folder) / f"{name}.parquet"
            run([args.indexbuild, "sample", "--rows", str(rows), "--columns", f"id,{column}", "--out", table])
            results[name] = measure(args, name, table, column, rows)
    print("\nratios (above 1: indexbuild is faster):", json.dumps({k: {o: round(r, 2) for o, r in v.items()} for k, v in results.items()}))


if __name__ == "__main__":
    main()
