# The commands of the project; CI calls these and nothing else. `make help` lists them.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
PORT ?= 8000
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV = $(shell command -v uv || echo .tools/bin/uv)

# The commands of this file never see another project's environment.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): requirements.lock pyproject.toml
	@command -v uv >/dev/null || [ -x .tools/bin/uv ] || \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv==$(UV_VERSION)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(READY) ## the virtual environment, from the lock file

run: $(READY) ## the server on an embedded database, with demo data
	@exec $(BIN)/onefold up --port $(PORT)

test: $(READY) ## every test
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(READY) ## format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(READY) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## pin the newest versions that pyproject.toml allows
	$(UV) pip compile --quiet pyproject.toml --universal --all-extras --group dev --generate-hashes \
		--python-version 3.11 --no-header --no-annotate --upgrade --output-file requirements.lock

kafka: ## a real Kafka on loopback, port 9092 or KAFKA_PORT (needs mvn and Java 17)
	@exec $(PYTHON) scripts/kafka/server.py --port $(or $(KAFKA_PORT),9092)

.PHONY: help setup run test check fmt lock kafka
