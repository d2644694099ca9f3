# CareForAll. `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help run test lint soak fuzz bench services
FUZZ_SECONDS ?= 60

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: services ## Run the whole system; settings by environment, see README.md
	cargo run --package careforall -- up

test: services ## Run all tests, over a real Postgres and Redis of their own
	cargo test --workspace --all-targets --no-fail-fast
	cargo test --workspace --doc --no-fail-fast

lint: ## Check format, lints, documentation and shell scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	@if command -v shellcheck > /dev/null; then shellcheck scripts/*.sh .ci/run; fi

soak: services ## Run the fault tests at full length; SOAK_SEED=N repeats a run
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

# Installs Postgres and Redis where they are missing; silent when all is there.
services:
	@scripts/install-services.sh
