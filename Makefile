# `make` lists what can be made.

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATIC  := CGO_ENABLED=0 $(GO) build -trimpath
CARRIED := engine/gvisor/embedded
# Sandboxes need root. Go itself does not: what it builds runs as root.
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
EXEC    := $(if $(SUDO),-exec '$(SUDO)')

.PHONY: help build run test lint generate bench compat clean programs

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

build: programs ## build bin/cube-api, one file with everything in it
	$(STATIC) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/cube-api ./cmd/cube-api

# What the server carries: the sandboxes' kernel and the agent inside them.
programs:
	$(STATIC) -ldflags '-s -w' -o $(CARRIED)/runsc ./cmd/runsc
	$(STATIC) -tags osusergo -ldflags '-s -w' -o $(CARRIED)/envd ./cmd/envd

run: build ## build and start the server on 127.0.0.1:3000
	$(SUDO) bin/cube-api

test: build ## run every test, those with the real SDKs and sandboxes too
	./e2e/install
	$(GO) test $(EXEC) -race -p 1 -timeout 45m ./...

lint: ## look for what the tests do not find
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod golangci-lint run

generate: ## write the generated code anew
	$(GO) generate ./...

bench: build ## measure, with percentiles, and draw (see bench/README.md)
	$(GO) run $(EXEC) ./bench -o docs/bench/results.json
	cd bench/plot && $(GO) run . ../../docs/bench/results.json ../../docs/bench
	$(GO) test -run '^$$' -bench . ./network/gate

compat: build ## run E2B's own suites: E2B=, INFRA= and INTERPRETER= name bare clones of their repositories, ROOTFS= a root file system for images
	$(GO) run $(EXEC) ./compat -e2b "$(E2B)" -infra "$(INFRA)" -interpreter "$(INTERPRETER)" -rootfs "$(ROOTFS)" -write

clean: ## remove what was built
	rm -rf bin $(CARRIED)/runsc $(CARRIED)/envd
