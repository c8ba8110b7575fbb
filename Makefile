# Everything a person does with this repository. `make` alone lists it.
PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(shell cd protos && find gyre -name '*.proto' | sort)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}'

.PHONY: setup
setup: .venv/.installed .venv-triton/.installed ## Install everything that is needed (about 7 GB)

.venv/.installed: requirements/dev.txt requirements/data.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 13) else "Gyre needs Python 3.11 or 3.12, this is " + sys.version.split()[0] + ". Name another one: make setup PYTHON=python3.12")'
	@echo "Installing Gyre's environment into .venv (the first time this downloads about 3 GB)"
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/uv.txt; }
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes --no-deps -r requirements/data.txt
	@$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	@touch $@

# Triton's Python backend needs numpy 1, everything else numpy 2: it gets an environment of its own.
.venv-triton/.installed: requirements/triton.txt .venv/.installed
	@echo "Installing Triton's environment into .venv-triton"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-triton
	@$(BIN)/uv pip install --python .venv-triton/bin/python --require-hashes --no-deps -r requirements/triton.txt
	@touch $@

.PHONY: run
run: setup ## Start the whole stack on this machine and play the loop once round
	@$(BIN)/gyre up
	@$(BIN)/gyre demo

.PHONY: test
test: setup ## Everything that checks Gyre
	@$(BIN)/pytest tests

.PHONY: chaos
chaos: setup ## Every part fails, alone and with each other, under traffic: what recovers when
	@GYRE_CHAOS=all $(BIN)/pytest tests/chaos

.PHONY: check
check: setup ## Format, lint, types, imports between parts, protos, schemas
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/buf lint
	@$(BIN)/gyre schemas check

.PHONY: protos
protos: setup ## Generate gyre/api and buf/validate from protos/
	@rm -rf gyre/api buf && mkdir -p gyre/api buf
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	    --python_out=. --mypy_out=quiet:. --grpc_python_out=. --mypy_grpc_out=quiet:. $(PROTOS)
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	    --python_out=. --mypy_out=quiet:. buf/validate/validate.proto

.PHONY: requirements
requirements: setup ## Pin every extra anew from pyproject.toml, and list the licences of what is pinned
	@$(BIN)/python requirements/compile.py
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python requirements/licences.py

.PHONY: clean
clean: ## Stop the stack and remove its state and the environments
	@test ! -x $(BIN)/gyre || $(BIN)/gyre down
	@rm -rf .state .venv .venv-*
