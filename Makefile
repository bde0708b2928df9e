# Windrose: two commands matter, `make run` and `make test`. `make help` lists the rest.

GO      ?= go
BIN     := bin
TOOLS   := $(BIN)/tools
PKGS    := ./...

GOLANGCI_VERSION    := v2.12.2
GOVULNCHECK_VERSION := v1.9.0
GOLANGCI            := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)

# How many inputs each fuzz target gets (or how long it runs, as 30s); how long a soak is, how many checks a property gets in it and how often a script is
# repeated; where the conformance suites are.
FUZZ        ?= 30000x
FUZZFLOOR   ?= 80
SOAKTIME    ?= 10m
SOAKCHECKS  ?= 20000
SOAKCOUNT   ?= 20
CONFORMANCE ?= ../shared/conformance

# On CI a test that lacks a peer or a right fails instead of being skipped (CONTRIBUTING.md, "Peers").
ifeq ($(CI),true)
export WINDROSE_REQUIRE_PEERS ?= 1
endif
export WINDROSE_CONFORMANCE := $(abspath $(CONFORMANCE))

TEST_STEPS := peers fmt-check vet portable lint unit variants fuzz fuzz-cover e2e conformance

.DEFAULT_GOAL := help
.PHONY: help run build test peers fmt fmt-check vet portable lint unit variants guard fuzz fuzz-cover soak e2e conformance bench cover vuln generate clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

run: build ## build Windrose and start it with the development defaults
	$(BIN)/windrose dev

build: ## build bin/windrose
	$(GO) build -trimpath -o $(BIN)/windrose ./cmd/windrose

test: ## everything: peers, gofmt, vet, portable build, lint, unit, guard, fuzz slices, e2e, conformance
	@start=$$(date +%s); \
	for step in $(TEST_STEPS); do \
	  printf '== %s (at %ss)\n' "$$step" "$$(($$(date +%s) - start))"; \
	  $(MAKE) --no-print-directory "$$step" || { printf '== %s: NOT OK (at %ss)\n' "$$step" "$$(($$(date +%s) - start))"; exit 1; }; \
	done; \
	printf '== all steps ok (%ss)\n' "$$(($$(date +%s) - start))"

peers: ## fetch the Go modules, check (as root on Debian: install) the peers that the tests talk to
	$(GO) mod download
	@e2e/peers.sh

fmt: ## format the tree
	gofmt -s -w $$(find . -name '*.go' -not -path './$(BIN)/*')

fmt-check:
	@out=$$(gofmt -s -l $$(find . -name '*.go' -not -path './$(BIN)/*')); \
	if [ -n "$$out" ]; then printf 'not formatted (make fmt):\n%s\n' "$$out"; exit 1; fi

vet: ## go vet
	$(GO) vet $(PKGS)

portable: ## build and vet what runs without epoll
	GOOS=darwin $(GO) build $(PKGS)
	GOOS=darwin $(GO) vet $(PKGS)

lint: $(GOLANGCI) ## golangci-lint; its cache is this tree's own: one that trees share has paths of trees that are gone
	GOLANGCI_LINT_CACHE=$(abspath $(BIN)/lint-cache) $(GOLANGCI) run $(PKGS)

$(GOLANGCI):
	@mkdir -p $(TOOLS)
	GOBIN=$(abspath $(TOOLS)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(TOOLS)/golangci-lint $@

unit: ## unit tests and guard, with the race detector
	$(GO) test -race -shuffle=on -timeout 10m $$($(GO) list $(PKGS) | grep -v '/e2e$$')

variants: ## the other builds: turns of the loops timed, and loops without epoll
	$(GO) test -tags loopdebug -timeout 5m ./internal/loop/
	$(GO) test -tags portable -timeout 5m ./internal/loop/ ./internal/app/ ./internal/cli/

guard: ## only the repository tests
	$(GO) test -count=1 ./guard/

fuzz: ## every fuzz target with FUZZ inputs
	@e2e/fuzz.sh $(FUZZ)

fuzz-cover: ## what the fuzz targets of codec and machine reach with their seeds alone; fails below FUZZFLOOR percent
	@mkdir -p $(BIN)
	@$(GO) test -count=1 -run '^Fuzz' -coverprofile=$(BIN)/fuzz-cover.txt -coverpkg=./internal/protocol/... ./internal/protocol/...
	@grep -vE '/(bridge|client|conn|server|spec)[a-z_]*\.go:' $(BIN)/fuzz-cover.txt > $(BIN)/fuzz-cover-machines.txt
	@$(GO) tool cover -func=$(BIN)/fuzz-cover-machines.txt | awk -v floor=$(FUZZFLOOR) '/^total:/ { print "codecs and machines by fuzz seeds alone: " $$3; if ($$3 + 0 < floor) { print "below " floor " %"; exit 1 } }'

soak: ## the long runs: fuzz targets for SOAKTIME each, properties with SOAKCHECKS, scripts SOAKCOUNT times
	@e2e/fuzz.sh $(SOAKTIME)
	$(GO) test -race -count=1 -timeout 6h -run 'Property' $$($(GO) list -f '{{.ImportPath}} {{.TestImports}}' $(PKGS) | awk '/pgregory.net.rapid/ {print $$1}') -rapid.checks=$(SOAKCHECKS)
	WINDROSE_SOAK=$(SOAKTIME) $(GO) test -race -count=1 -timeout 6h -run 'Soak' $(PKGS)
	$(GO) test -count=$(SOAKCOUNT) -timeout 6h -run 'TestScripts/(never_stuck|takeover|sessions|bridge)$$' ./e2e/

e2e: ## black box scripts against the real binary (RUN=regexp picks some)
	$(GO) test -race -count=1 -timeout 15m -skip '^TestConformance' $(if $(RUN),-run '$(RUN)') ./e2e/

conformance: ## raw packet vectors of a suite that nobody here wrote, with a floor that may only rise
	$(GO) test -count=1 -timeout 10m -v -run '^TestConformance' ./e2e/

bench: ## micro benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem -timeout 30m $(PKGS)

cover: ## coverage of the unit tests: bin/cover.html and a line per package
	@mkdir -p $(BIN)
	$(GO) test -coverprofile=$(BIN)/cover.txt -coverpkg=./internal/... $$($(GO) list $(PKGS) | grep -v -e '/e2e$$' -e '/guard$$')
	$(GO) tool cover -html=$(BIN)/cover.txt -o $(BIN)/cover.html
	$(GO) tool cover -func=$(BIN)/cover.txt | tail -n 1

vuln: ## known vulnerabilities in what is built (asks the Go vulnerability database)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) $(PKGS)

generate: ## run every go:generate
	$(GO) generate $(PKGS)

clean: ## remove what was built
	rm -rf $(BIN)
