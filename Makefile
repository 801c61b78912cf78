# People and CI run the same verbs. Each makes .venv from the lock if it is missing or older than the lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test check bench format lock clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

run: $(READY) ## the whole life of a model on the embedded digits (or the data at hand)
	@$(BIN)/darkroom run $(ARGS)

test: $(READY) ## the test suite
	@$(BIN)/python -m pytest $(ARGS)

check: $(READY) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY) ## the benchmarks, each beside its peer (hours); int8, one_gpu and own_photos say themselves what they need
	@for script in $$(grep -l __main__ benchmarks/*.py | grep -v -e int8 -e one_gpu -e own_photos); do \
		echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; done; \
		test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

format: $(READY) ## write the format that `check` asks for
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## resolve pyproject.toml anew into requirements.lock (needs uv)
	@$(PYTHON) infra/lock.py

clean: ## remove the environment; data, models and settings stay
	rm -rf $(VENV)

$(READY): requirements.lock pyproject.toml
	@echo "darkroom: making $(VENV) from requirements.lock (about 3 minutes, 7 GB) ..."
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
		sys.exit(None if v in ((3, 11), (3, 12)) else f"Python {v[0]}.{v[1]} is not supported; run make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "darkroom: $(VENV) is ready"
