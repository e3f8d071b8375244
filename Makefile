# make demo | test | chaos | faces | promises | check | bench | lighthouse | lock | clean
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=
# What Python compiles is kept: tests start hundreds of processes, each of which would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test chaos faces fuzz promises check bench lighthouse lock clean debian

help:
	@echo "make demo    everything on a bare machine; prints the one address to open, Ctrl-C ends it (ARGS='--port 8090')"
	@echo "make test    installs what the tests need, then runs them all (ARGS='-k journal')"
	@echo "make chaos   fifty kills of the running gateway and one at every step; make test does some"
	@echo "make faces   every page, and the stories in a browser in both languages and themes; make test tells each in one"
	@echo "make fuzz    schemathesis asks every operation of the API as each role, fifty times (EXAMPLES=500)"
	@echo "make promises  2,000 owners over 180 played days: nobody at night, at the wheel, too often, without consent (ARGS='--owners 200')"
	@echo "make check   ruff, mypy strict, import-linter"
	@echo "make bench   the benchmarks, as JSON lines and a table"
	@echo "make lighthouse  what Lighthouse says of three pages and what a first load weighs (needs npm)"
	@echo "make lock    resolves requirements*.lock anew from pyproject.toml"
	@echo "make clean   removes the environment and what the tools left"

# A stamp is older than what it stands for only when that has changed; a second run installs nothing.
.venv/run.stamp: pyproject.toml requirements.lock requirements-build.lock tools/install.sh
	@tools/install.sh run && touch $@

.venv/dev.stamp: pyproject.toml requirements-dev.lock requirements-build.lock tools/install.sh
	@tools/install.sh dev && touch $@ .venv/run.stamp

# exec: Ctrl-C reaches the demo itself, and nothing is left between it and the terminal.
demo: .venv/run.stamp
	@exec $(BIN)/touchpoint demo $(ARGS)

debian: .venv/dev.stamp
	@tools/debian.sh
	@tools/ddi_client.sh

test: .venv/dev.stamp debian
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

# Seconds of the clock, so that every run chooses other moments; a run that failed says its seed.
chaos: .venv/dev.stamp debian
	TOUCHPOINT_TEST_KILLS=$${KILLS:-50} TOUCHPOINT_TEST_CRASHES=0 TOUCHPOINT_TEST_SEED=$${SEED:-$$(date +%s)} \
		$(BIN)/python -m pytest tests/chaos $(ARGS)

faces: .venv/dev.stamp debian
	TOUCHPOINT_TEST_FACES=all $(BIN)/python -m pytest tests/e2e -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# As chaos: another seed every time, said where something is found.
fuzz: .venv/dev.stamp
	TOUCHPOINT_TEST_FUZZ=$${EXAMPLES:-50} TOUCHPOINT_TEST_SEED=$${SEED:-$$(date +%s)} \
		$(BIN)/python -m pytest tests/integration/test_api_schemathesis.py -n auto --timeout 3600 $(ARGS)

promises: .venv/dev.stamp
	@$(BIN)/python tools/promises.py $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lighthouse: .venv/dev.stamp debian
	@tools/lighthouse/install.sh
	$(BIN)/python tools/bench.py lighthouse

bench: .venv/dev.stamp debian
	$(BIN)/python tools/bench.py $(ARGS)

# Names, versions and hashes only: whoever installs brings the registry. Runtime first, the others follow its versions.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate
lock: .venv/dev.stamp
	$(LOCK) --upgrade -o requirements.lock pyproject.toml
	$(LOCK) --upgrade -c requirements.lock --group dev -o requirements-dev.lock pyproject.toml
	$(LOCK) --upgrade -c requirements-dev.lock --group build -o requirements-build.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .bench dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
