# make run     watch a simulated plant being monitored and attacked (first time: installs into .venv)
# make test    all tests, in two processes (installs torch and some Debian programs that the tests talk to)
# make check   format, lint, types, layers, generated docs
# make bench   benchmarks, into benchmarks/results/
# make bench-detection  detectors on the recordings in EDGE_AGENT_DATA, three seeds, into benchmarks/results/
# make docs    render the generated pages again
# make venv    everything for development, into .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := pyproject.toml constraints.txt
TORCH := torch==2.13.0
GOOSEBIT := .cache/goosebit
ARGS ?=

.DELETE_ON_ERROR:
.PHONY: help run test check bench bench-detection docs venv clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.for-run
	$(BIN)/edge-agent demo $(ARGS)

test: $(VENV)/.for-development $(GOOSEBIT)/.installed
	@.ci/system-packages test
	PATH="$$PATH:/usr/sbin" $(if $(ARGS),$(BIN)/python -m pytest $(ARGS),.ci/run-tests)

check: $(VENV)/.for-development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m edge_agent.cli.docs --check

bench: $(VENV)/.for-development
	@.ci/system-packages test
	PATH="$$PATH:/usr/sbin" $(BIN)/python -m benchmarks $(ARGS)

bench-detection: $(VENV)/.for-development
	$(BIN)/edge-agent evaluate --set labelled --set faults --seeds 3 --recipe hybrid --cache .cache/evaluation \
		--json benchmarks/results/recordings.json --plots benchmarks/results/recordings $(ARGS)

docs: $(VENV)/.for-development
	$(BIN)/python -m edge_agent.cli.docs

venv: $(VENV)/.for-development

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Each stamp says that .venv fits pyproject.toml and constraints.txt as they are now.

$(BIN)/python:
	@PYTHON="$(PYTHON)" .ci/system-packages run
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.for-run: $(REQUIREMENTS) | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

# An update server that a test talks to, with its own versions of everything. Without it that test is skipped.
$(GOOSEBIT)/.installed:
	@$(PYTHON) -m venv $(GOOSEBIT)
	@$(GOOSEBIT)/bin/python -m pip --disable-pip-version-check install --quiet goosebit==0.2.12 && touch $@ || \
		echo "gooseBit could not be installed: its test is skipped" >&2

# torch first and by itself, so that nothing else has a say in which build of it is taken.
$(VENV)/.for-development: $(REQUIREMENTS) | $(BIN)/python
	$(PIP) install --quiet '$(TORCH)'
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@ $(VENV)/.for-run
