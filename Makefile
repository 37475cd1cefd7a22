# make demo   fresh machine → environment → a real sweep on digits → tables
# make test   fresh machine → environment → the whole test suite

PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install demo test cluster reproduce smoke lint types docs clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv (torch is large: this takes a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/creditlab -m +experiment=demo sweep=demo 'algorithm=bp,fa,es,ff' 'optimiser=adamw,muon' 'seed=range(3)'
	$(BIN)/creditlab-analyse multirun/demo

test: install
	$(BIN)/pytest -n auto

cluster: install
	tests/cluster/up.sh
	$(BIN)/pytest tests/cluster tests/sweep/test_every_launcher.py; status=$$?; tests/cluster/down.sh; exit $$status

reproduce: install # STUDY=rank_collapse or what_how, BUDGET=smoke, small or full, DATA=folder of the image data
	$(BIN)/python -m benchmarks.reproduce $(STUDY) --budget $(or $(BUDGET),smoke) $(if $(DATA),--root $(DATA))

smoke: install # every experiment of both studies for a few steps, which needs no data
	$(BIN)/python -m benchmarks.reproduce what_how --budget smoke
	$(BIN)/python -m benchmarks.reproduce rank_collapse --budget smoke

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/generate_tables.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
