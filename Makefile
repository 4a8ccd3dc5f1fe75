# Each target's help stands behind its ##; `make` alone prints them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DISTRIBUTED := $(VENV)/.distributed
# Targets that are meant to take long have no budget of time.
AT_LENGTH := -p no:tallystick-time-budget
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without bytecode every process would compile anew all that it imports: a minute for the whole house.
unexport PYTHONDONTWRITEBYTECODE
export DO_NOT_TRACK := 1
export DAGSTER_DISABLE_TELEMETRY := yes
export DBT_SEND_ANONYMOUS_USAGE_STATS := false

.PHONY: help install prerequisites demo demo-kill demo-tamper up down test test-history test-poison test-cluster distributed test-distributed foreign soak-ledger soak-controls soak-standby chaos-pipeline chaos-controls check lint types imports sql format bench-ledger bench-ledger-aged bench-pipeline bench-demo lock docs contract pictures clean

help:  ## Print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

prerequisites:
	@missing=0; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Missing: Python 3.11 or newer. Install it with: apt-get install python3"; missing=1; }; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "Missing: Python's venv. Install it with: apt-get install python3-venv"; missing=1; }; \
	java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])' \
	  || { echo "Missing: Java 17 or newer. Install it with: apt-get install openjdk-17-jre-headless"; missing=1; }; \
	mvn -version >/dev/null 2>&1 \
	  || { echo "Missing: Maven. Install it with: apt-get install maven"; missing=1; }; \
	exit $$missing

install: $(INSTALLED)  ## Make the environment in .venv from the lock file

$(INSTALLED): requirements.lock requirements-installer.lock pyproject.toml $(wildcard ledger_service/*/*.p[xy][xd]) | prerequisites
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-installer.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

distributed: $(DISTRIBUTED)  ## Add Spark to the environment (half a gigabyte)

$(DISTRIBUTED): requirements-distributed.lock $(INSTALLED)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-distributed.lock
	@touch $@

demo: install  ## Take a quarter of bank traffic through every room; stays up (DEMO_EXIT=1: play the acts and stop)
	@tally demo $(if $(DEMO_EXIT),--exit)

demo-kill: install  ## Act 4: kill API, relay and Dagster in turn; figures before and after are equal
	@tally demo kill

demo-tamper: install  ## Act 5: on a copy, change one cent as a superuser; verification names the event
	@tally demo tamper

up: install  ## Start the local stack
	@tally up

down: install  ## Stop the local stack
	@tally down

check: lint types imports sql  ## Lint, format, types, import contracts, SQL lint

lint: install
	@ruff check . && ruff format --check .

types: install
	@pyright

imports: install
	@lint-imports

sql: install
	@sqlfluff lint dbt_project/models --processes 2 --nocolor --disable-progress-bar

format: install  ## Format Python and SQL
	@ruff format . && ruff check --fix . && sqlfluff fix dbt_project/models --processes 2 -q

test: install check  ## Run every check and every test
	@pytest -n 2

foreign: install  ## Check proofs with verifiers that others wrote (takes Go and its module proxy)
	@go build -C tests/integration/engine/foreign_verifier -o $(CURDIR)/build/foreign-verifier .
	@pytest -q tests/integration/engine/test_foreign_verifiers.py

test-history: install  ## A million rows; clocks, export, marts and the service's rules on hundreds of histories (minutes)
	@ROWS=1000000 EXAMPLES=$(or $(EXAMPLES),200) pytest -q $(AT_LENGTH) --timeout 3000 \
	  tests/integration/engine/test_transaction_index.py tests/integration/engine/test_as_of.py \
	  tests/integration/engine/test_leaving.py tests/integration/engine/test_service_against_reference.py \
	  tests/integration/engine/test_migrations.py tests/integration/dbt/test_random_histories.py

test-poison: install  ## Poison among 100,000 events, through Kafka into quarantine and back (EVENTS=n)
	@EVENTS=$(or $(EVENTS),100000) pytest -q $(AT_LENGTH) --timeout 1800 tests/integration/pipelines/test_poison.py

bench-ledger: install  ## Measure the ledger at its HTTP edge, proven and durable (SECONDS=3 for a short run)
	@python -m tests.bench.ledger

bench-ledger-aged: install  ## The same with 20,000,000 transfers in the journal (TRANSFERS=...)
	@python -m tests.bench.aged

bench-pipeline: install  ## From the journal to published marts, 10,000,000 entries (TRANSFERS=...)
	@python -m tests.bench.pipeline

bench-demo: install  ## Print the figures of the last demo
	@tally demo figures

KILLS ?= 200
soak-ledger: install  ## Kill every service again and again under load (KILLS=200, SEED=n); clients' own histories judge
	@python -m tests.soak.soak --kills $(KILLS) $(if $(SEED),--seed $(SEED))

soak-controls: install  ## Break durability on purpose in five ways; the soak must find each
	@python -m tests.soak.soak --controls $(if $(SEED),--seed $(SEED))

chaos-pipeline: KILLS = 100
chaos-pipeline: install  ## Kill relay, broker and pipeline again and again under load (KILLS=100, SEED=n); all stays equal
	@python -m tests.soak.chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED))

chaos-controls: install  ## Break the stream on purpose in seven ways; the soak must find each
	@python -m tests.soak.chaos --controls $(if $(SEED),--seed $(SEED))

test-cluster: install  ## Three Kafka brokers over TLS; one, then two are killed while the relay publishes (minutes)
	@pytest -q $(AT_LENGTH) --timeout 1800 tests/soak/kafka_cluster.py

test-distributed: distributed  ## The marts on DuckDB and on a Spark cluster, equal after three builds (EVENTS=n; minutes)
	@EVENTS=$(or $(EVENTS),2000) pytest -q -s $(AT_LENGTH) --timeout 3600 tests/distributed/parity.py

PROMOTIONS ?= 4
soak-standby: install  ## Kill the primary under load and promote its synchronous standby (PROMOTIONS=4, SEED=n)
	@python -m tests.soak.standby --promotions $(PROMOTIONS) $(if $(SEED),--seed $(SEED))

pictures: install  ## Take the README's pictures from the demo that is up
	@python -m tests.end_to_end.pictures

lock: install  ## Resolve the dependencies anew into the lock files
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements.lock
	@uv pip compile pyproject.toml --extra distributed --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements-distributed.lock

docs: install  ## Build the documentation into build/docs
	@NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict --site-dir build/docs

contract: install  ## Write the schemas of the events into docs/contract (RELEASE=1: and as the released ones)
	@tally contract check docs/contract/released && tally contract write docs/contract
	@$(if $(RELEASE),tally contract write docs/contract/released)

clean:  ## Remove the environment and what was built (the home with its data stays)
	@rm -rf $(VENV) build ledger_service/*/*.so
