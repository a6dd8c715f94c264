# Holdfast's build. It needs Go and a C compiler (for the race detector), and
# brings the rest itself, built from source: etcd from e2e/etcd, the linter from
# tools. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# What to test, and how. All of them can be given on the command line.
PKG      ?= ./...
RUN      ?= .
COUNT    ?= 10
# One package's tests in all. The slowest wait for real leases.
TIMEOUT  ?= 10m
# Most tests wait for etcd rather than compute, so more of them than cores.
PARALLEL ?= 4
FUZZTIME ?= 5m
TESTFLAGS ?=

# What e2e adds: a real kube-apiserver and kubectl, of the version in
# e2e/kubernetes/go.mod. They take minutes to build, so make clean leaves them.
KUBERNETES         := .cache/kubernetes
KUBERNETES_VERSION := $(shell awk '$$1 == "k8s.io/kubernetes" {print $$2; exit}' e2e/kubernetes/go.mod)
KUBERNETES_MINOR   := $(word 2,$(subst ., ,$(KUBERNETES_VERSION)))
E2E_TIMEOUT  ?= 25m
E2E_PARALLEL ?= 3

# A chaos run: how long faults go on, over all seeds; the first seed, 0 for a new
# one; and what else go test is told, such as -chaos.etcd=../../bin/etcd-3.5.
CHAOS_TIME  ?= 10m
CHAOS_SEED  ?= 0
CHAOS_FLAGS ?=
CHAOS_LIMIT ?= 3h

# A soak: for how long it churns, at how many calls a second, and the seed of its
# faults; 0 takes a new one.
SOAK_TIME ?= 30m
SOAK_RATE ?= 100
SOAK_SEED ?= 0

# What a benchmark is told besides, such as --endpoints of an etcd of yours.
BENCH_FLAGS ?=
BENCH_DATE  := $(shell date -u +%Y-%m-%d-%H%M)

ETCD_FILES := $(shell find e2e/etcd -name '*.go' -o -name 'go.mod' -o -name 'go.sum' 2>/dev/null)
# The older minor versions of etcd that Holdfast supports: of each the oldest
# safe release, in e2e/etcd-VERSION/go.mod. What e2e/etcd builds is the newest.
VERSIONS   ?= 3.5 3.6
MODULES    := . e2e e2e/etcd e2e/etcd-3.5 e2e/etcd-3.6 e2e/crds e2e/kubernetes tools
# Those whose tidying does not take half of Kubernetes' own tests along.
TIDY       := . e2e e2e/etcd e2e/etcd-3.5 e2e/etcd-3.6 tools

.PHONY: help
help: ## Print this list
	@echo "Holdfast $(VERSION). Targets:"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Variables: PKG=$(PKG) RUN=$(RUN) COUNT=$(COUNT) TIMEOUT=$(TIMEOUT) PARALLEL=$(PARALLEL) FUZZTIME=$(FUZZTIME) TESTFLAGS=$(TESTFLAGS)"

.PHONY: build
build: ## Build bin/holdfast and bin/holdfast-bench
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/ ./cmd/... # static: the image has nothing else
	@echo "built bin/holdfast and bin/holdfast-bench $(VERSION)"

IMAGE    ?= holdfast:$(subst +,-,$(VERSION))
BUILDER  ?= $(shell command -v buildah || command -v podman || command -v docker)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
CREATED  ?= $(shell git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)

.PHONY: image
image: build ## Build the image $(IMAGE) with buildah, podman or docker (IMAGE, BUILDER)
	@test -n "$(BUILDER)" || { echo "an image needs buildah, podman or docker: found none"; exit 1; }
	@rm -rf dist && mkdir -p dist && cp bin/holdfast dist/
	$(BUILDER) build -f deploy/Dockerfile -t $(IMAGE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg CREATED=$(CREATED) dist
	@echo "built $(IMAGE)"

.PHONY: demo
demo: build ## Build, and show the whole of it on this machine in under a minute
	@bin/holdfast demo

.PHONY: test
test: etcd need-cc ## Unit and integration tests on a real etcd, with the race detector (PKG, RUN, TESTFLAGS)
	$(GO) test -race -timeout $(TIMEOUT) -parallel $(PARALLEL) -run '$(RUN)' $(TESTFLAGS) $(PKG)

.PHONY: versions
versions: etcd-versions need-cc ## The tests of state on each older etcd that is supported, at once (VERSIONS, RUN, TESTFLAGS)
	@$(MAKE) -j -Otarget $(VERSIONS:%=test-etcd-%)

# What runs is bin/etcd-VERSION, whatever that is: make test-etcd-3.5.
test-etcd-%: bin/etcd-%
	@echo "the tests of state on etcd $*"
	HOLDFAST_TEST_ETCD=bin/etcd-$* $(GO) test -race -timeout $(TIMEOUT) -parallel $(PARALLEL) -count=1 -run '$(RUN)' $(TESTFLAGS) ./state ./state/statetest

.PHONY: e2e
e2e: build etcd etcd-gofail kubernetes ## Scenarios with a real kube-apiserver and the built binary (RUN, TESTFLAGS)
	cd e2e && $(GO) test -timeout $(E2E_TIMEOUT) -parallel $(E2E_PARALLEL) -count=1 -run '$(RUN)' $(TESTFLAGS) ./...

.PHONY: chaos
chaos: chaos-bin ## Random faults by a seed, and proofs that nothing went wrong (CHAOS_TIME, CHAOS_SEED, CHAOS_ETCD)
	cd e2e && $(GO) test -race -tags failpoints -timeout $(CHAOS_LIMIT) -count=1 -run '^TestChaos$$' -v $(TESTFLAGS) ./chaos -args \
	  -chaos.time=$(CHAOS_TIME) -chaos.seed=$(CHAOS_SEED) $(CHAOS_FLAGS)

.PHONY: chaos-versions
chaos-versions: chaos-bin etcd-versions ## A chaos run of CHAOS_TIME on each older etcd that is supported
	@for v in $(VERSIONS); do echo "chaos on etcd $$v"; \
	  $(MAKE) chaos CHAOS_FLAGS="-chaos.run=$(CHAOS_TIME) -chaos.etcd=$(CURDIR)/bin/etcd-$$v -chaos.etcdutl=$(CURDIR)/bin/etcdutl-$$v"; done

.PHONY: planted
planted: chaos-bin ## Plant faults in Holdfast and see that the chaos run finds each (RUN, CHAOS_FLAGS)
	$(GO) test -race -tags failpoints -count=1 -run 'TestClock|TestPlant|TestReach|TestNow' ./failpoint ./reconcile
	cd e2e && $(GO) test -race -tags failpoints -timeout $(E2E_TIMEOUT) -count=1 -run '^TestPlanted$(if $(filter-out .,$(RUN)),$$/$(RUN))' -v $(TESTFLAGS) ./chaos -args $(CHAOS_FLAGS)

# The controllers of a chaos run: with the race detector, and points to be held at.
.PHONY: chaos-bin
chaos-bin: etcd etcd-gofail need-cc
	@$(GO) build -race -tags failpoints -trimpath -o bin/holdfast-failpoints ./cmd/holdfast

# What is measured is the binary as it ships. The drivers are built with the tag,
# as is everything that shares a package with the chaos run.
.PHONY: soak
soak: build etcd ## Churn at a fixed rate with faults: does anything grow? (SOAK_TIME=30m, SOAK_RATE=100, SOAK_SEED)
	cd e2e && $(GO) test -tags failpoints -timeout 0 -count=1 -v -run '^TestSoak(_FindsLeaks)?$$' ./chaos \
	  -soak.time $(SOAK_TIME) -soak.rate $(SOAK_RATE) -soak.seed $(SOAK_SEED)

.PHONY: bench
bench: build ## Measure Holdfast beside a plain etcd client, in under 10 minutes: a table, and a page with plots (BENCH_FLAGS)
	@bin/holdfast-bench run --size normal -o .cache/bench $(BENCH_FLAGS)
	@echo && echo "a page with plots: .cache/bench/result.html"

# With the API server that e2e has built, where it has: its figures are missing
# otherwise. A figure that no workload gives is a fault.
.PHONY: bench-smoke
bench-smoke: build ## Every workload of the benchmark once, in under 3 minutes
	@rm -rf .cache/bench/smoke
	@with=; api=$(KUBERNETES)/kube-apiserver; \
	if [ -x $$api ]; then (cd e2e && $(GO) build -o ../bin/with-apiserver ./apiserver/with); with="bin/with-apiserver $$api"; fi; \
	KUBECONFIG=; $$with bash -c 'bin/holdfast-bench run --size smoke --seed 1 -o .cache/bench/smoke $${KUBECONFIG:+--kubeconfig $$KUBECONFIG} $(BENCH_FLAGS)'; \
	for figure in $$(sed -nE 's/^\t"([a-z0-9_]+)": +\{"(ratio|s|B|ms|count)".*/\1/p' bench/goals.go); do \
	  if [ -z "$$with" ]; then case $$figure in attach_vs_volumeattachment|orphan_*) continue;; esac; fi; \
	  grep -qE "^    \"$$figure\": -?[0-9]" .cache/bench/smoke/result.json || { echo "bench-smoke: the summary has no $$figure"; exit 1; }; \
	done; echo "the summary is whole"

.PHONY: bench-full
bench-full: build kubernetes ## The figures of docs/performance.md, in some twenty minutes, into bench/results/
	@cd e2e && $(GO) build -o ../bin/with-apiserver ./apiserver/with
	@into=.cache/bench/full; failed=; rm -rf $$into; \
	bin/with-apiserver $(KUBERNETES)/kube-apiserver bash -c "bin/holdfast-bench run --size full -o $$into --kubeconfig \$$KUBECONFIG $(BENCH_FLAGS)" || failed=1; \
	name=bench/results/$(BENCH_DATE)-$$(git rev-parse --short HEAD); mkdir -p bench/results; \
	for kind in json txt html; do cp $$into/result.$$kind $$name.$$kind || exit 1; done; \
	echo "wrote $$name.json, .txt and .html"; test -z "$$failed"

.PHONY: lint
lint: bin/golangci-lint ## Formatting, vet, linters, import direction, and the modules' checksums
	@echo "lint: golangci-lint run"
	@GOFLAGS="$${GOFLAGS:-} -trimpath" bin/golangci-lint run ./... # -trimpath: shares the build's cache
	@echo "lint: gofmt of the other modules"
	@files=$$(gofmt -l e2e tools 2>/dev/null); test -z "$$files" || { echo "not gofmt'd: $$files"; exit 1; }
	@echo "lint: golangci-lint run in e2e"
	@cd e2e && GOFLAGS="$${GOFLAGS:-} -trimpath" ../bin/golangci-lint run ./...
	@for m in $(MODULES); do echo "lint: go mod verify in $$m"; (cd $$m && $(GO) mod verify); done
	@for m in $(TIDY); do echo "lint: go mod tidy in $$m"; (cd $$m && $(GO) mod tidy -diff); done

# Not part of lint: it asks vuln.go.dev, which is not to be reached from everywhere.
.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what is built, in the database of vuln.go.dev
	@mkdir -p bin
	@cd tools && $(GO) build -trimpath -o ../bin/ golang.org/x/vuln/cmd/govulncheck
	@for m in . e2e; do echo "vulncheck: govulncheck in $$m"; (cd $$m && $(CURDIR)/bin/govulncheck ./...); done

.PHONY: fmt
fmt: bin/golangci-lint ## Format every Go file
	@bin/golangci-lint fmt ./... && gofmt -w e2e && echo "formatted"

.PHONY: etcd
etcd: bin/etcd ## Build etcd, etcdctl and etcdutl into bin/ for tests and for trying things

# One rule makes all three; bin/etcd stands for them.
bin/etcd: $(ETCD_FILES)
	@echo "building etcd, etcdctl and etcdutl into bin/"
	@mkdir -p bin
	@cd e2e/etcd && $(GO) build -trimpath -o ../../bin/ ./...
	@touch bin/etcd
	@bin/etcd --version | sed -n 1p

# The same etcd with its failpoints enabled: each member's can be set over HTTP.
# The server's source is copied, gofail rewrites the copy, and a go.mod beside
# it, not the repository's, puts the copy in place of the module.
GOFAIL := .cache/etcd-gofail

.PHONY: etcd-gofail
etcd-gofail: bin/etcd-gofail ## Build bin/etcd-gofail, for faults inside of etcd (a minute the first time)

bin/etcd-gofail: $(ETCD_FILES)
	@echo "building etcd with its failpoints into bin/etcd-gofail"
	@rm -rf $(GOFAIL) && mkdir -p bin $(GOFAIL)
	@cd e2e/etcd && $(GO) mod download go.etcd.io/etcd/server/v3
	@cp -r "$$(cd e2e/etcd && $(GO) list -m -f '{{.Dir}}' go.etcd.io/etcd/server/v3)" $(GOFAIL)/server && chmod -R u+w $(GOFAIL)/server
	@cd e2e/etcd && $(GO) tool gofail enable $$(grep -rl --include='*.go' --exclude='*_test.go' '// gofail:' ../../$(GOFAIL)/server | xargs -n1 dirname | sort -u)
	@cp e2e/etcd/go.mod e2e/etcd/go.sum $(GOFAIL)/
	@$(GO) mod edit -replace "go.etcd.io/etcd/server/v3=$(CURDIR)/$(GOFAIL)/server" $(GOFAIL)/go.mod
	@cd e2e/etcd && $(GO) build -modfile=$(CURDIR)/$(GOFAIL)/go.mod -trimpath -o ../../bin/etcd-gofail ./etcd
	@bin/etcd-gofail --version | sed -n 1p

.PHONY: etcd-versions
etcd-versions: $(VERSIONS:%=bin/etcd-%) ## Build older versions of etcd and etcdutl, as bin/etcd-VERSION

# One rule makes both; etcd stands for them.
bin/etcd-%: e2e/etcd-%/go.mod e2e/etcd-%/go.sum
	@echo "building etcd and etcdutl $* into bin/"
	@mkdir -p bin
	@cd e2e/etcd-$* && $(GO) build -trimpath -o ../../bin/etcdutl-$* go.etcd.io/etcd/etcdutl/v3
	@cd e2e/etcd-$* && $(GO) build -trimpath -o ../../$@ go.etcd.io/etcd/server/v3
	@touch $@
	@$@ --version | sed -n 1p

.PHONY: kubernetes
kubernetes: $(KUBERNETES)/kube-apiserver ## Build kube-apiserver and kubectl into .cache/kubernetes for e2e

# One rule makes both; kube-apiserver stands for them.
$(KUBERNETES)/kube-apiserver: e2e/kubernetes/go.mod e2e/kubernetes/go.sum
	@echo "building kube-apiserver and kubectl $(KUBERNETES_VERSION) into $(KUBERNETES)/ (some 6 minutes the first time)"
	@mkdir -p $(KUBERNETES)
	@cd e2e/kubernetes && $(GO) build -trimpath -o ../../$(KUBERNETES)/ \
	  -ldflags "-s -w $(foreach v,gitVersion=$(KUBERNETES_VERSION) gitMajor=1 gitMinor=$(KUBERNETES_MINOR),-X k8s.io/component-base/version.$(v))" \
	  k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
	@touch $@
	@$@ --version

bin/golangci-lint: tools/go.mod tools/go.sum
	@echo "building golangci-lint into bin/ (about a minute the first time)"
	@mkdir -p bin
	@cd tools && $(GO) build -trimpath -ldflags '-s -w' -o ../bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: deflake
deflake: etcd need-cc ## Run tests COUNT times in random order (PKG=./state RUN=TestName COUNT=50)
	$(GO) test -race -timeout 60m -parallel $(PARALLEL) -count=$(COUNT) -shuffle=on -failfast -run '$(RUN)' $(TESTFLAGS) $(PKG)

.PHONY: fuzz
fuzz: need-cc ## Fuzz every fuzz target for FUZZTIME each (RUN picks some by name)
	@targets=$$(grep -roE --include='*_test.go' --exclude-dir=e2e '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func / /' || true); \
	test -n "$$targets" || { echo "no fuzz targets"; exit 0; }; \
	while read -r file name; do \
	  [[ "$$name" =~ $(RUN) ]] || continue; \
	  echo "fuzz: $$name in $$(dirname $$file) for $(FUZZTIME)"; \
	  $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname $$file)"; \
	done <<<"$$targets"

.PHONY: cover
cover: etcd ## Test coverage over all packages, into coverage.out
	@$(GO) test -timeout $(TIMEOUT) -parallel $(PARALLEL) -coverprofile=coverage.out -coverpkg=./... $(PKG)
	@$(GO) tool cover -func=coverage.out | tail -1

.PHONY: tidy
tidy: ## go mod tidy in every module
	@for m in $(TIDY); do echo "tidy: $$m"; (cd $$m && $(GO) mod tidy); done

.PHONY: clean
clean: ## Remove what was built
	@rm -rf bin dist coverage.* && echo "removed bin/, dist/ and coverage files; kube-apiserver stays in .cache/"

.PHONY: need-cc
need-cc:
	@command -v "$$($(GO) env CC)" >/dev/null || { echo "the race detector needs a C compiler: $$($(GO) env CC) not found"; exit 1; }
