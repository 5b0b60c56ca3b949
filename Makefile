# Everything a newcomer needs: `make demo` and `make test`. Needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # jobs are fresh processes: without compiled modules each would start seconds later
INSTALL := $(if $(shell command -v uv),uv pip install --compile-bytecode --python $(BIN)/python,$(BIN)/python -m pip --disable-pip-version-check install --progress-bar off)

.PHONY: demo test test-long check bench soak storm calibrate mutants install install-test lock clean

demo: install            ## build the newspaper, simulate readers, write the report, keep serving (ARGS="--exit" stops)
	$(BIN)/presslab demo $(ARGS)

test: install-test       ## the fast suite
	$(BIN)/python -m pytest -n 2 --dist loadscope $(ARGS)

test-long: install-test  ## whole journeys and real logs
	$(BIN)/python -m pytest -n 2 --dist loadscope -m long $(ARGS)

check: install-test      ## lint, types, layers, doctests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest --doctest-modules -n 2 -p no:randomly --ignore=experiments/migrations experiments heuristics recsys analysis web fixtures

bench: install-test      ## ratios to peers and to the machine's limits (ARGS=PYTHON of an environment with growthbook)
	$(BIN)/python -m tests.benchmarks $(ARGS)
	$(BIN)/python -m tests.benchmarks.serving
	$(BIN)/python -m tests.benchmarks.arms

soak: install-test       ## an hour of load: memory flat, nothing lost (ARGS=minutes)
	$(BIN)/python -m tests.benchmarks.soak $(ARGS)

storm: install-test      ## an hour of load with faults at random: kills, failing and full disks, power cuts (root; ARGS="minutes seed")
	$(BIN)/python -m tests.faults.storm $(ARGS)

calibrate: install-test  ## simulation gates of the statistics (slow)
	$(BIN)/presslab calibrate --requests $(ARGS)
	$(BIN)/python -m pytest -m slow tests/test_truth.py

mutants: install-test    ## change the statistics in small ways and count what no test notices (half an hour; docs/mutation.md)
	rm -rf build/mutants/tree && mkdir -p build/mutants/tree
	cp -r analysis experiments fixtures heuristics recsys tests web pyproject.toml build/mutants/tree
	$(INSTALL) --target build/mutants/tools mutmut==3.8.1
	cd build/mutants/tree && export PYTHONPATH=../tools && \
	  nice ../../../$(BIN)/python -m mutmut run --max-children 1 && ../../../$(BIN)/python -m mutmut results

install: .venv/.run
install-test: .venv/.test

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: requirements.lock pyproject.toml .venv/bin/python
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.test: tests/requirements.lock pyproject.toml .venv/bin/python
	$(INSTALL) --require-hashes -r tests/requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ .venv/.run

lock:                    ## after a change of dependencies; needs uv
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --extra build pyproject.toml -o requirements.lock
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --extra build --extra test -c requirements.lock pyproject.toml -o tests/requirements.lock

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
