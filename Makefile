# CareForAll. `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help run check test lint soak fuzz bench style services
FUZZ_SECONDS ?= 60

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: services ## Run the whole system; settings by environment: docs/operations.md
	cargo run --package careforall -- up

check: style ## Check format, clippy and unit tests, without servers: before each commit
	cargo test --workspace --lib --bins --test golden --test schemas -- --skip embedded::

# The programs that the tests start are built before them, with the same features, so no test waits for a compiler.
test: ## Run all tests, over a real Postgres and Redis of their own
	@scripts/install-services.sh --test soffice
	cargo build -p careforall -p replay-tool -p careforall-tests --bins --test it
	cargo test --workspace --no-fail-fast

# `--examples` selects none; it asks for the features of tests, which clippy has compiled already.
lint: style ## Check format, clippy, documentation and shell scripts
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items \
		--lib --bin replay --bin bench --examples
	@if command -v shellcheck > /dev/null; then shellcheck scripts/*.sh .ci/run; fi

soak: services ## Run the fault tests at full length; SOAK_SEED=N repeats a run
	PROOF_HISTORIES=100000 cargo test --package domain --test proof
	cargo run --package careforall-tests --bin soak

fuzz: ## Fuzz what reads webhooks, FUZZ_SECONDS (60) each; needs cargo-fuzz
	@for target in sandbox_message stripe_event signatures; do \
		mkdir -p fuzz/corpus/$$target; \
		cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -dict=fuzz/json.dict -max_len=65536 || exit 1; \
	done

bench: services ## Measure, on an otherwise idle machine; needs wrk
	scripts/install-services.sh --test wrk
	cargo build --release --package replay-tool
	cargo run --release --package bench

style:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# Installs Postgres and Redis where they are missing; silent when all is there.
services:
	@scripts/install-services.sh
