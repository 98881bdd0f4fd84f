# The commands of the project; CI calls these and nothing else. `make help` lists them.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The distribution's own, where it will do: it is built with the optimizations that pyenv leaves
# out, and the tests take a sixth less CPU (2026-11-28).
SYSTEM := /usr/bin/python3
PYTHON ?= $(shell $(SYSTEM) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $(SYSTEM) || echo python3)
PORT ?= 8000
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV = $(shell command -v uv || echo .tools/bin/uv)

# The commands of this file never see another project's environment.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# Nor a wish not to keep what was compiled: every process would compile its thousand modules again.
unexport PYTHONDONTWRITEBYTECODE

# Databases of tests are written in memory where it has room. A killed process loses nothing there.
RAM := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4194304 { print $$6 }')
ifneq ($(RAM),)
test storms faults coverage-learning chaos: export TMPDIR := $(RAM)
endif

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): requirements.lock pyproject.toml server/pyproject.toml
	@command -v uv >/dev/null || [ -x .tools/bin/uv ] || \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv==$(UV_VERSION)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes \
		$(if $(CI),--compile-bytecode) requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . --editable server
	@touch $@

setup: $(READY) ## the virtual environment, from the lock file

run: $(READY) ## the server on an embedded database, with demo data
	@exec $(BIN)/onefold up --port $(PORT)

# For two cores: while two wait for a broker, a browser or a process, two compute.
WORKERS ?= 4
test: $(READY) ## every test but the storms; WORKERS=
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not storm"

storms: $(READY) ## short storms over Kafka and Valkey, side by side: some 50 s
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m storm tests/acceptance

learning-demo: $(READY) ## twelve scenarios, thirty days of reviews, a budget: totals checked
	@$(BIN)/python examples/learning_demo.py

trace-demo: $(READY) ## trades published past errors, stalls, a dead tracker and a killed courier
	@$(BIN)/python examples/trace_demo.py

LEARNING_TESTS := tests/unit/learning tests/integration/learning tests/faults/test_learning_faults.py
coverage-learning: $(READY) ## branch coverage of the learning domain by its own tests: 100 %
	@$(BIN)/python -m coverage run --branch --concurrency=thread,greenlet \
		--source=onefold_server.domains.learning --data-file=.coverage.learning -m pytest -q $(LEARNING_TESTS)
	@$(BIN)/python -m coverage report --data-file=.coverage.learning --show-missing --fail-under=100

faults: $(READY) ## every numbered fault of the earlier systems and its broken twin, counted
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup --count-faults tests/faults

bench-learning: $(READY) ## learning sessions a second, beside a commit per call
	@$(BIN)/python benchmarks/learning.py

check: $(READY) ## format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/lint-imports --no-cache --config server/pyproject.toml
	$(BIN)/python scripts/reference.py --check

fmt: $(READY) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## draw the reference from the code
	$(BIN)/python scripts/reference.py

lock: ## pin the newest versions that pyproject.toml allows
	$(UV) pip compile --quiet pyproject.toml server/pyproject.toml --no-emit-package onefold --universal --all-extras --group pyproject.toml:dev --generate-hashes \
		--python-version 3.11 --no-header --no-annotate --upgrade --output-file requirements.lock

vendor: ## fetch the scripts of the pages again, from the npm registry
	scripts/vendor.sh

load-real: $(READY) ## the real log of ../shared/data, twice into each database
	@$(BIN)/python scripts/load_real.py

REPS ?= 3
EVENTS ?= 5000
bench: $(READY) ## events a second, beside storage off and COPY; REPS=, EVENTS=, SAVE=1
	@$(BIN)/python -m benchmarks.run --reps $(REPS) --events $(EVENTS) $(if $(SAVE),--save)
	@$(BIN)/python -m benchmarks.classroom

MEMORY_EVENTS ?= 1000000
bench-memory: $(READY) ## memory from 10 k to 1 M events stays flat; MEMORY_EVENTS=
	@$(BIN)/python -m benchmarks.memory --events $(MEMORY_EVENTS) --database sqlite
	@$(BIN)/python -m benchmarks.memory --events $(MEMORY_EVENTS) --database postgresql

.venv-peers/.ready: benchmarks/peers/requirements.lock
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-peers
	$(UV) pip sync --quiet --python .venv-peers/bin/python --require-hashes $<
	@touch $@

.venv-arq/.ready: benchmarks/peers/arq.lock
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-arq
	$(UV) pip sync --quiet --python .venv-arq/bin/python --require-hashes $<
	@touch $@

REMEMBER ?= 1000000
bench-consume: $(READY) .venv-peers/.ready ## consuming beside the peers; REPS=, EVENTS=, REMEMBER=, KAFKA=, SAVE=1
	@$(BIN)/python -m benchmarks.versus --reps $(REPS) --events $(EVENTS) --remember $(REMEMBER) \
		$(if $(KAFKA),--kafka $(KAFKA)) $(if $(SAVE),--save)

JOBS ?= 5000
bench-trace: $(READY) .venv-peers/.ready .venv-arq/.ready ## deliveries beside the job queues; REPS=, JOBS=, SAVE=1
	@$(BIN)/python -m benchmarks.deliveries --reps $(REPS) --jobs $(JOBS) $(if $(SAVE),--save)
	@$(BIN)/python -m benchmarks.traces --postgres $(if $(SAVE),--save)

twins: $(READY) ## every mistake that a detector must catch, and the correct ones it must pass
	@$(BIN)/python -m tests.twins.table

explore: $(READY) ## our relay and consumer under deaths and schedules; DEEP=1 at night
	@$(BIN)/python -m tests.crash.deep $(if $(DEEP),--deep)

bench-testing: $(READY) ## deaths and schedules explored a second
	@$(BIN)/python -m benchmarks.testing

bench-classroom: $(READY) ## suggested authors of 1,000 essays, beside the row-by-row design
	@$(BIN)/python -m benchmarks.classroom

match-quality: $(READY) ## who wrote this: precision and recall on 10,000 hard essays
	@$(BIN)/python -m benchmarks.match_quality

kafka: ## a real Kafka on loopback, port 9092 or KAFKA_PORT (needs mvn and Java 17)
	@exec $(PYTHON) src/onefold/testing/kafka/server.py --port $(or $(KAFKA_PORT),9092)

MINUTES ?= 2
chaos: $(READY) ## workers, broker and database die while events pour in; MINUTES=, SEED=
	@$(BIN)/python -m tests.acceptance.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: help setup run test storms learning-demo trace-demo coverage-learning faults bench-learning check fmt docs lock vendor load-real bench bench-memory bench-consume bench-trace bench-classroom match-quality twins explore bench-testing kafka chaos
