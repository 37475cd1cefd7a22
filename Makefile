# make demo   fresh machine → environment → a real sweep on digits → tables
# make test   fresh machine → environment → the whole test suite

PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install demo test cluster reproduce smoke benchmarks lint types docs clean

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

benchmarks: install # each once, at a tiny size, to show that it runs; those that need images only with CREDITLAB_DATA
	$(BIN)/python -m benchmarks.analysis_speed --runs 200 --metrics 3 --items 200
	$(BIN)/python -m benchmarks.attention --rounds 1
	$(BIN)/python -m benchmarks.command_line --calls 1
	$(BIN)/python -m benchmarks.error_rates --draws 1
	$(BIN)/python -m benchmarks.es_rank --population 4 --rates 0.1 --seeds 1 --steps 20 --targets 0.1
	$(BIN)/python -m benchmarks.step_time --rounds 1 --networks convnet
	$(BIN)/python -m benchmarks.kill_storm --kills 3 --seeds 1
	$(BIN)/python -m benchmarks.large_sweep --runs 200
	$(BIN)/creditlab -m +experiment=instruments/geometry sweep=tiny_geometry dataset=digits algorithm=bp,fa training.epochs=null training.steps=10 training.evaluations=2 metrics.points=2 metrics.samples=64 metrics.trajectory.length=3
	$(BIN)/python -m benchmarks.phenomena geometry multirun/tiny_geometry
	$(BIN)/python -m benchmarks.phenomena signals multirun/tiny_geometry
	$(BIN)/python -m benchmarks.sweep_speed --runs 6 --steps 20 --rounds 1
	$(BIN)/python -m benchmarks.together --rounds 1 --steps 10 --seeds 2 --kinds tiny --rules bp
	$(BIN)/python -m benchmarks.training_speed --rounds 1 --steps 20 --usual-steps 20
ifdef CREDITLAB_DATA
	$(BIN)/python -m benchmarks.instruments --root $(CREDITLAB_DATA) --networks MLP --options light --repeats 1
	$(BIN)/python -m benchmarks.accuracy --root $(CREDITLAB_DATA) --only bp --sweep tiny_accuracy --set training.epochs=0.05
endif

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
