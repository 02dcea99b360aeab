# `make demo` shows the product, `make test` proves it. Both install or name whatever else they need.

.DEFAULT_GOAL := help
.PHONY: help demo demo-acme build release test check bench soak different fuzz deny deps clean crds image image-size
SHELL := /bin/bash

TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Play a cluster with examples/cloud-cargo; Ctrl-C ends it (DIR=... for another folder)
	@.ci/deps build
	@cargo run --locked -p sluice-gateway --bin sluice -- demo $(or $(DIR),examples/cloud-cargo)

demo-acme: ## A CA and a gateway that gets its certificates from it; Ctrl-C ends it
	@examples/acme/run

build: ## A release binary: target/release/sluice
	@.ci/deps build
	cargo build --locked --release -p sluice-gateway

release: ## The binary to give to people: built twice, the second time with what the first has learnt: target/shipped/sluice
	@.ci/deps build
	@.ci/release

test: check ## Format, lints, unit tests and stories
	@.ci/deps peers
	cargo build --locked -p sluice-gateway
	@export SLUICE_BIN="$(abspath $(TARGET))/debug/sluice"; \
	 for path in $(TARGET)/peers/*.path; do \
	 name="$$(basename "$$path" .path)"; \
	 if [ -s "$$path" ]; then export "SLUICE_TEST_$${name^^}=$$(cat "$$path")"; fi; \
	 done; \
	 if cargo nextest --version >/dev/null 2>&1; \
	 then set -x; cargo nextest run --locked --workspace --no-fail-fast; \
	 else set -x; cargo test --locked --workspace --no-fail-fast; fi

check: ## Format and lints, as CI wants them
	@.ci/deps build
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then $(MAKE) --no-print-directory deny; fi

soak: build ## Everything at once while everything changes, for TIME seconds (60), beside 10,000 slow clients at the end
	SLUICE_BIN="$(abspath $(TARGET))/release/sluice" SLUICE_SOAK=$(or $(TIME),60) \
	  cargo test --locked -p sluice-tests --test stories -- --ignored --nocapture soak::

different: build ## A million requests of which no two are alike: how many series, how much memory
	SLUICE_BIN="$(abspath $(TARGET))/release/sluice" \
	  cargo test --locked -p sluice-tests --test stories -- --ignored --nocapture different::

deny: ## Licences, advisories and banned crates (needs cargo-deny)
	cargo deny --locked check

bench: ## Route lookup with 1, 100 and 10,000 hosts and prefixes
	@.ci/deps build
	cargo bench --locked -p sluice-routing

FUZZ_TARGETS := heads chunks hpack frames proxy_headers tls_stream

# rustls 0.23 asserts in debug builds that no alert follows a close_notify, and sends one when a record is damaged then; a
# release sends it and goes on. So TLS is looked at as released.
fuzz: ## Arbitrary bytes for the codecs and for TLS (TIME=... seconds for each target; needs nightly and cargo-fuzz)
	@cargo fuzz --version >/dev/null 2>&1 || { echo 'cargo-fuzz is missing: cargo install cargo-fuzz' >&2; exit 1; }
	@cargo +nightly --version >/dev/null 2>&1 || \
	 { echo 'nightly Rust is missing: rustup toolchain install nightly' >&2; exit 1; }
	@cd tests/fuzz && for target in $(FUZZ_TARGETS); do \
	 flags=; [ "$$target" != tls_stream ] || flags=-O; \
	 (set -x; cargo +nightly fuzz run $$flags $$target -- -max_total_time=$(or $(TIME),60) -timeout=10 -rss_limit_mb=1024) \
	 || exit 1; \
	 done

crds: ## Write charts/sluice-base/crds anew, after a change in routing/src/api
	@.ci/deps build
	@mkdir -p $(TARGET)
	cargo run --locked -q -p sluice-gateway --bin sluice -- crds > $(TARGET)/crds.yaml
	@# Ours are a file of their own, for clusters that have Istio's already.
	awk 'function end() { printf "%s", text > ("charts/sluice-base/crds/" file ".yaml"); text = "" } \
		/^---$$/ && text { end() } { text = text $$0 "\n" } \
		/^  group: / { file = $$2 ~ /istio\.io$$/ ? "istio" : $$2 ~ /^acme/ ? "acme" : "policy" } END { end() }' $(TARGET)/crds.yaml
	rm $(TARGET)/crds.yaml

image: ## The container images sluice and sluice-init, with docker, podman or buildah (IMAGE=... for another name)
	@.ci/image build $(IMAGE)

image-size: ## How large the image is, without a container engine
	@.ci/deps build
	@.ci/image size

deps: ## Only install or name what is missing
	@.ci/deps build
	@.ci/deps peers

clean: ## Remove everything that was built
	cargo clean
