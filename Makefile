# Two commands matter: `make demo` runs the main job, `make test` passes all tests. Each works on a
# fresh machine with nothing else typed: it installs what it needs, or says what is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What outlives the clone: RocksDB's compiled C++, the Python packages that tests compare with, the stores that they speak to.
export INDEXBUILD_CACHE ?= $(HOME)/.cache/indexbuild
export ROCKSDB_LIB_DIR = $(shell scripts/rocksdb-archive.sh --where)
export ROCKSDB_STATIC = 1
export INDEXBUILD_PYTHON = $(INDEXBUILD_CACHE)/python/bin/python
export INDEXBUILD_STORES = $(INDEXBUILD_CACHE)/stores/node_modules/.bin
export INDEXBUILD_TOOLS = $(shell scripts/tools.sh --where)

CARGO := cargo
PROFILE := --release
TARGET := $(or $(CARGO_TARGET_DIR),target)
INDEXBUILD := $(TARGET)/release/indexbuild

.PHONY: help demo demo-cluster test test-only test-long memory bench testbed testbed-starts tools build fmt lint docs doctest debug generated scenarios recorded check deny promtool image packages rocksdb python stores old-rocksdb clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: build ## build two indexes over a million rows, cut one process off on the way, prove every row
	@scripts/demo.sh $(INDEXBUILD)

demo-cluster: build tools ## the same on a real 3-node cluster of this machine: a node is cut off on the way (needs root)
	@$(CARGO) build $(PROFILE) --locked --quiet --package indexbuild-testbed
	@scripts/demo-cluster.sh $(TARGET)/release/testbed $(INDEXBUILD)

# What runs beside the tests, at the lowest priority, one after the other: cargo's lock lets no two compile at once.
# The last one tells how long `make check` takes when everything is compiled, and runs the lifecycle's debug build.
BESIDE := promtool lint docs doctest check

test: fmt rocksdb python ## everything that CI runs
	@$(MAKE) --no-print-directory stores || echo "tests that need s3rver and Azurite will be skipped"
	@$(MAKE) --no-print-directory old-rocksdb || echo "the test that needs an old RocksDB will be skipped"
	@$(MAKE) --no-print-directory tools || echo "tests that need the testbed will be skipped"
	@python3 scripts/test_run_tests.py --quiet
	@scripts/run-tests.py $(foreach what,$(BESIDE),--beside "$(what)=make --no-print-directory $(what)") \
	    -- $(PROFILE) --workspace --locked

ONLY ?= *
test-only: rocksdb python ## the tests that ONLY='*pattern*' matches, each `program test`
	@scripts/run-tests.py --only "$(ONLY)" -- $(PROFILE) --workspace --locked

test-long: build tools python ## what takes longer: 50 million rows; every write swept; 200 builds at once; 2000 definitions; a million SST files
	@$(CARGO) build $(PROFILE) --locked --quiet --workspace --example long_values
	@scripts/memory.sh $(INDEXBUILD) $(TARGET)/release/examples/long_values 50000000
	INDEXBUILD_SWEEP=full INDEXBUILD_SCALE=200 INDEXBUILD_DEFINITIONS=2000 $(CARGO) test $(PROFILE) --workspace --locked --no-fail-fast \
	    --test without_nodes --test scale --test tables -- --nocapture
	INDEXBUILD_SST_SETS=1000000 $(CARGO) test $(PROFILE) --workspace --locked --lib -- rocksdb_finds_in_many_random_files --nocapture

memory: build ## 10 million rows within 256 MiB, long values, pages and many row groups within little more
	@$(CARGO) build $(PROFILE) --locked --quiet --workspace --example long_values
	@scripts/memory.sh $(INDEXBUILD) $(TARGET)/release/examples/long_values 10000000

bench: build python ## side by side with DuckDB and with plain RocksDB, as ratios
	@$(CARGO) build $(PROFILE) --locked --example plain_rocksdb
	@$(INDEXBUILD_PYTHON) bench/bench.py --indexbuild $(INDEXBUILD) --plain-rocksdb $(TARGET)/release/examples/plain_rocksdb

IMAGE ?= ghcr.io/indexbuild/indexbuild:0.1.0

# RUN goes through the environment: it may hold quotes of any kind.
NODES ?= 3
CLOCKS ?= short
export RUN
testbed: ## a shell with kubectl on a real 3-node cluster of this machine; RUN="…" runs one command
	@scripts/install-packages.sh testbed
	@$(CARGO) build $(PROFILE) --locked --quiet --package indexbuild-testbed & scripts/tools.sh cluster && wait $$!
	@$(TARGET)/release/testbed --nodes $(NODES) --clocks $(CLOCKS) $(if $(RUN),-- bash -c "$$RUN")

TIMES ?= 20
testbed-starts: ## starts 20 test clusters one after the other, and tells how long each took
	@scripts/install-packages.sh testbed
	@scripts/tools.sh cluster
	@$(CARGO) build $(PROFILE) --locked --quiet --package indexbuild-testbed
	@$(TARGET)/release/testbed --nodes $(NODES) --starts $(TIMES)

tools: ## etcd, Kubernetes, Helm, KWOK and others for test clusters, built once per machine
	@scripts/install-packages.sh testbed || [ "$$(id -u)" -ne 0 ] || exit 1
	@scripts/tools.sh

build: rocksdb ## the binary
	$(CARGO) build $(PROFILE) --workspace --locked

# Here nothing is compiled that `make test` compiles otherwise: cargo picks the features of dependencies by all packages that
# are asked for, and with the root among them they are the whole workspace's. (With the three alone, 80 are compiled again.) The
# root has no library, and tests are asked for by name: of it nothing is compiled.
CHECKED := lifecycle api index
CHECKED_TESTS := $(foreach crate,$(CHECKED),$(notdir $(basename $(wildcard crates/$(crate)/tests/*.rs))))
# A program of the root's of such a name would run too, on a cluster it may be.
AMBIGUOUS := $(filter $(notdir $(basename $(wildcard tests/*.rs))),$(CHECKED_TESTS))
# Of the 50 s of CPU that these tests take, one takes 20: `make test` runs it.
SLOW := each_field_at_each_of_its_edges
STARTED := $(shell date +%s)
check: fmt rocksdb deny ## what to run while you work: rustfmt, clippy, tests of lifecycle, api and index; a minute when warm
	@$(if $(AMBIGUOUS),echo "tests/ has programs of the same name: $(AMBIGUOUS)" >&2; exit 1)
	@scripts/unused-dependencies.py
	$(CARGO) clippy $(PROFILE) --workspace --lib --locked -- -D warnings
	$(CARGO) test $(PROFILE) --locked --no-fail-fast --package indexbuild $(CHECKED:%=--package indexbuild-%) \
	    --lib $(CHECKED_TESTS:%=--test %) -- --quiet --skip $(SLOW)
	@$(MAKE) --no-print-directory debug
	@echo "make check took $$(($$(date +%s) - $(STARTED))) s"

deny: ## licences, banned crates and sources of the dependencies, where cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check bans licenses sources; \
	    else echo "cargo-deny is not installed: licences and sources of dependencies are not checked"; fi

promtool: ## test the chart's alerts: when each fires, and when not (Debian's package prometheus has promtool)
	@scripts/install-packages.sh promtool || [ "$$(id -u)" -ne 0 ] || exit 1
	@scripts/promtool.sh

fmt: packages
	$(CARGO) fmt --all --check

lint: fmt rocksdb ## rustfmt's and clippy's opinion, and dependencies that nobody uses
	@scripts/unused-dependencies.py
	$(CARGO) clippy $(PROFILE) --workspace --all-targets --locked -- -D warnings

# For people who work on it: private items are in it, so that links to them are no mistake.
docs: rocksdb ## the API documentation
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc $(PROFILE) --workspace --no-deps --locked --document-private-items

debug: ## the lifecycle's tests with the assertions that a release leaves out
	CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=1 $(CARGO) test --locked --package indexbuild-lifecycle

doctest: rocksdb
	$(CARGO) test $(PROFILE) --workspace --locked --doc

# The tests that say that a file is stale; with INDEXBUILD_UPDATE they write it.
GENERATING := the_definitions_in_crds the_reference_in_docs the_metrics_in_docs the_proofs_in_docs the_schema_in_the_docs
generated: rocksdb scenarios ## make anew what is generated: crds/, the chart's copies, deploy/, docs/ (tests/gitops: make recorded)
	@for test in $(GENERATING); do \
	    grep -rqF "fn $$test" crates || { echo "GENERATING in the Makefile names a test that is gone: $$test" >&2; exit 1; }; done
	INDEXBUILD_UPDATE=1 $(CARGO) test $(PROFILE) --workspace --locked --test builds --test reference -- $(GENERATING)
	INDEXBUILD_UPDATE=1 $(CARGO) test $(PROFILE) --package indexbuild --package indexbuild-index --locked --lib -- $(GENERATING)
	@$(MAKE) --no-print-directory tools
	scripts/manifests.sh > deploy/.indexbuild.yaml && mv deploy/.indexbuild.yaml deploy/indexbuild.yaml
	@git status --short -- crds charts deploy docs

scenarios: rocksdb ## record the decisions in crates/lifecycle/tests/scenarios anew; then read what has changed in the stories
	INDEXBUILD_UPDATE=1 $(CARGO) test $(PROFILE) --workspace --locked --test scenarios
	@git diff --stat -- crates/lifecycle/tests/scenarios

recorded: rocksdb tools ## record tests/gitops anew, from real builds in every stage on a cluster of this machine (needs root)
	scripts/record-gitops.sh

image: ## the container image, with docker or buildah
	@if command -v docker >/dev/null; then docker build --tag $(IMAGE) .; else buildah build --layers --tag $(IMAGE) .; fi

packages:
	@scripts/install-packages.sh

rocksdb: packages
	@scripts/rocksdb-archive.sh

python: packages
	@scripts/python-packages.sh

stores: ## s3rver and Azurite, object stores that tests speak to, from npm
	@scripts/install-packages.sh stores
	@scripts/store-packages.sh

old-rocksdb: ## Debian's tools of an old RocksDB, which a test has read the files
	@scripts/install-packages.sh old-rocksdb

clean: ## remove what was built in this clone; the cache folder stays
	$(CARGO) clean
	rm -rf .indexbuild
