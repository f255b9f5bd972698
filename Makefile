# `make` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
TOOLS   := $(CURDIR)/.tools
FUZZTIME ?= 10s

export CGO_ENABLED ?= 0

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: ## build bin/akidb, one static binary
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/akidb ./cmd/akidb

.PHONY: run
run: build ## build, start `akidb dev --demo`, print a search to paste
	bin/akidb dev --demo

.PHONY: tools
tools: ## build the servers that tests drive and the plugins of `make generate`, from pinned sources
	cd tools && GOBIN=$(TOOLS) go install tool
	cd tools/unsound && GOBIN=$(TOOLS)/unsound go install tool && mv $(TOOLS)/unsound/versitygw $(TOOLS)/versitygw-1.7.0 && rmdir $(TOOLS)/unsound

.PHONY: test
test: tools ## everything that decides
	go test ./...

.PHONY: test-race
test-race: tools ## the same under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./...

.PHONY: test-noasm
test-noasm: ## kernels and index in portable Go
	go test -count=1 -tags noasm ./kernels/... ./segments/ivfpq/...

.PHONY: test-arm64
test-arm64: ## kernels on emulated arm64, with and without SDOT (Debian: qemu-user-static)
	for cpu in max neoverse-n1 cortex-a53; do \
	  QEMU_CPU=$$cpu GOARCH=arm64 CGO_ENABLED=0 go test -count=1 -exec qemu-aarch64-static ./kernels/...; done

.PHONY: test-avx512
test-avx512: ## kernels on an emulated AVX-512 processor, where this one has none (Debian: bochs)
	tools/avx512/run.sh ./kernels

.PHONY: check
check: ## formatting, vet, tidy modules, the house rules
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go' ':!*/testdata/*')); test -z "$$bad" || { echo "run gofmt -w on:"; echo "$$bad"; exit 1; }
	go vet ./...
	GOARCH=arm64 go vet ./...
	go mod tidy -diff
	cd tools && go mod tidy -diff
	cd tools/unsound && go mod tidy -diff
	cd tools/buf && go mod tidy -diff
	go test ./internal/tidy

.PHONY: generate
generate: tools ## the Go code of api/akidb/v1, after judging its .proto files; builds their compiler, a minute the first time
	cd tools/buf && GOBIN=$(TOOLS) go install tool
	cd api && PATH=$(TOOLS):$$PATH buf lint && PATH=$(TOOLS):$$PATH buf generate

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

CHAOS_REPORT := $(CURDIR)/chaos-report.jsonl

.PHONY: chaos
chaos: tools ## every fault that real processes can meet, at full length: a quarter of an hour, and a table of what came of it
	@rm -f $(CHAOS_REPORT); failed=0; \
	AKIDB_CHAOS=full AKIDB_CHAOS_REPORT=$(CHAOS_REPORT) go test -count=1 -timeout 2h ./chaos || failed=1; \
	go run ./chaos/report $(CHAOS_REPORT); exit $$failed

.PHONY: soak
soak: ## simulations, crash runs, models and fuzz targets for hours
	AKIDB_SOAK=1 go test -count=1 -timeout 24h $$(grep -rl --include='*_test.go' AKIDB_SOAK . | xargs -n1 dirname | sort -u)
	$(MAKE) fuzz

.PHONY: bench
bench: ## kernels and index, one run of each
	go test -run '^$$' -bench . -benchtime 200ms ./kernels ./segments/...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin .tools $(CHAOS_REPORT)
