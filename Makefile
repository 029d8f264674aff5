# The main job is `make demo`, the tests are `make test`. Everything else is a part of them.
# CLUSTER=current REGISTRY=… uses the current context's cluster and pushes the images there.
CACHE := $(or $(MILLRACE_CACHE),$(HOME)/.cache/millrace)
export MILLRACE_CACHE := $(CACHE)
# Clones share what was compiled; each group has a folder of its own, so that no build waits for another's lock.
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: registry demo test generate verify bench images image-server-cuda prerequisites binaries cli local install cluster-up cluster-down

demo: install
	@python3 dev/demo

test:
	@python3 dev/test

# From programs to a running operator: each step does nothing when nothing changed.
install: registry cluster-up binaries images
	@dev/install

# Before minutes of building.
registry:
ifeq ($(CLUSTER),current)
ifndef REGISTRY
	$(error CLUSTER=current needs REGISTRY, a registry that the cluster pulls from: REGISTRY=registry.example.com/team)
endif
	@echo "the cluster of the context $$(kubectl config current-context), images in $(REGISTRY)"
endif

binaries:
	@dev/binaries

# kubectl-millrace, into target/release.
cli:
	@dev/binaries cli
	@echo "$(CURDIR)/target/release/kubectl-millrace"

# kubectl-millrace, and what its `run --local` takes for the stock stages.
local:
	@dev/local

images: registry prerequisites binaries
	@dev/images/load

# The model server with ONNX Runtime's build for CUDA: 2 GB to download. Nothing else builds it.
image-server-cuda: registry prerequisites
	@dev/binaries ops server
	@dev/images/load server-cuda

# Packages of the system that building images takes.
prerequisites:
	@dev/cluster/prerequisites

cluster-up:
ifneq ($(CLUSTER),current)
	@dev/cluster/cluster up
endif

cluster-down:
	@dev/cluster/cluster down

# CRDs, chart RBAC, catalog and API reference from code.
generate:
	@dev/generate

# Formatting, lints, dependency policy, a pure core, and generated files that are up to date.
verify:
	@dev/verify

bench:
	@python3 bench/run.py
