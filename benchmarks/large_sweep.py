"""What a sweep of thousands of finished runs costs: planning it again, its status, and its analysis.

    python -m benchmarks.large_sweep --runs 1000 20000 100000

One real run is made per rule and optimiser. The others are copies of these folders with another seed and learning
rate: the identities and digests are right, and the metrics are those of the real run and noise. One in a hundred is
missing. Then each of these commands is given in a process of its own:

- the sweep's command with `hydra/launcher=slurm hydra.launcher.dry_run=true`, which checks every config, reads every
  record and prepares what is to be done as any launcher does, but submits nothing;
- `creditlab-status`;
- `creditlab-analyse --only anova`, twice: the second time most is taken from the cache.

Seconds and memory include the start of Python. Two more rows show what one run costs: reading its record with all
digests, and looking for changes in the user's own code.

Goals, at 10,000 runs: planning ≤ 10 s and ≤ 1 GiB, status ≤ 3 s; linear to 100,000.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, call, console, load, show
from creditlab import records
from creditlab.files import sealed
from creditlab.sources import code_of

RULES, OPTIMISERS, RATES = ("bp", "fa", "dfa", "es", "ff"), ("adamw", "muon"), (0.001, 0.003, 0.01, 0.03, 0.1)
CELLS = len(RULES) * len(OPTIMISERS) * len(RATES)
SMALL = ["training.steps=10", "training.evaluations=2", "metrics.samples=64", "architecture.widths=[32]", "device=cpu"]
FACTORS = [f"algorithm={','.join(RULES)}", f"optimiser={','.join(OPTIMISERS)}"]
RULE = "from creditlab.algorithms.bp import Backpropagation\n\n\nclass Mine(Backpropagation):\n    pass\n"


def real_runs(folder: Path) -> list[records.Run]:
    """One run per rule and optimiser."""
    folder.mkdir()
    done, _ = call(["-m", "creditlab", "-m", "sweep=cells", *FACTORS, *SMALL], folder)
    if done.returncode:
        raise SystemExit(done.stderr)
    return records.read_sweep(folder / "multirun" / "cells")


def make_sweep(sweep: Path, templates: list[records.Run], runs: int) -> None:
    """A sweep of `runs` runs, of which each hundredth is missing."""
    rng, entries = random.Random(0), []
    seeds = range(runs // CELLS)
    for number, (template, rate, seed) in enumerate(itertools.product(templates, RATES, seeds), 1):
        config: dict = copy.deepcopy(template.config or {})
        config["optimiser"]["lr"], config["seed"], config["sweep"] = rate, seed, sweep.name
        name, identity = records.folder_name(config), records.identity(config)
        levels = {group: config["choices"][group] for group in ("algorithm", "optimiser")}
        levels |= {"optimiser.lr": rate, "seed": seed}
        entries.append({"name": name, "identity": identity, "levels": levels})
        if number % 100:
            copy_run(template, sweep / name, config, identity, rng)
    factors = {"algorithm": RULES, "optimiser": OPTIMISERS, "optimiser.lr": RATES, "seed": seeds}
    plan = {"schema": records.SCHEMA, "factors": {name: list(levels) for name, levels in factors.items()}}
    records.write_json(sweep / "sweep.json", {**plan, "runs": entries})


def copy_run(template: records.Run, folder: Path, config: dict, identity: str, rng: random.Random) -> None:
    """A finished run of `config` in `folder`, made from `template`."""
    shutil.copytree(template.folder, folder)
    metrics = {name: value and value * (1 + rng.gauss(0, 0.05)) for name, value in template.summary["metrics"].items()}
    changed = {"run.json": {"config": config}, "summary.json": {"metrics": metrics}}
    for name, content in changed.items():
        record = json.loads((folder / name).read_text())
        del record["sha256"]  # of the content as it was
        (folder / name).write_bytes(sealed({**record, "identity": identity, **content}))


def measured(arguments: list[str], folder: Path, expected: str) -> list[str]:
    """Seconds of wall and processor time, and MiB at most, of a command that prints `expected`."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with open(folder / "output", "w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=output, stderr=output,
        )  # fmt: skip
        _, _, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        output.seek(0)
        text = output.read()
        assert expected in text, text
    return [f"{seconds:.1f}", f"{used.ru_utime + used.ru_stime:.1f}", f"{used.ru_maxrss / 1024:.0f}"]


def commands(sweep: Path, runs: int) -> dict[str, list[str]]:
    """Seconds and memory of each command on the sweep, by its name."""
    folder, finished = sweep.parents[1], sum(1 for _ in records.run_folders(sweep))
    keys = ["hydra/launcher=slurm", "hydra.launcher.dry_run=true", f"sweep={sweep.name}", *SMALL]
    factors = [*FACTORS, f"optimiser.lr={','.join(map(str, RATES))}", f"seed=range({runs // CELLS})"]
    analyse = ["-m", "creditlab.analysis", str(sweep), "--only", "anova"]
    to_do = f"{runs - finished} {'run' if runs - finished == 1 else 'runs'} to do, {finished} finished before"
    return {
        "plan it again": measured(["-m", "creditlab", "-m", *keys, *factors], folder, to_do),
        "creditlab-status": measured(["-m", "creditlab.sweep.status", str(sweep)], folder, f"{finished} complete"),
        "creditlab-analyse --only anova": measured(analyse, folder, "anova"),
        "the same again": measured(analyse, folder, "anova"),
    }


def costs(sweep: Path) -> dict[str, list[str]]:
    """Seconds of wall and processor time to read all runs, and to look at the code of each, by what is done."""
    folders = list(records.run_folders(sweep))
    read = {"records.read_run, all digests": timed(lambda: [records.read_run(folder) for folder in folders])}
    (sweep.parent / "large_sweep_rule.py").write_text(RULE)
    sys.path.insert(0, str(sweep.parent))
    configs = [dict(records.read_run(folder).config or {}) for folder in folders]
    configs = [{**config, "algorithm": {"_target_": "large_sweep_rule.Mine"}} for config in configs]
    code = timed(lambda: [check_code(config) for config in configs])
    sys.path.remove(str(sweep.parent))
    return read | {"sources.code_of, a rule of one's own": code}


def check_code(config: Mapping[str, Any]) -> None:
    assert list(code_of(config)) == ["large_sweep_rule"]


def timed(work: Callable[[], object]) -> list[str]:
    wall, processor = time.perf_counter(), time.process_time()
    with records.without_garbage_collection():
        work()
    return [f"{time.perf_counter() - wall:.1f}", f"{time.process_time() - processor:.1f}", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 20_000], help=f"multiples of {2 * CELLS}")
    chosen = parser.parse_args()
    if odd := [runs for runs in chosen.runs if runs % (2 * CELLS) or runs <= 0]:
        parser.error(f"--runs {odd[0]} is not a multiple of {2 * CELLS}")
    console.print(f"[bold]A large sweep[/]; {load()}")
    with tempfile.TemporaryDirectory() as name:
        templates = real_runs(Path(name) / "cells")
        for runs in chosen.runs:
            sweep = Path(name) / str(runs) / "multirun" / "many"
            make_sweep(sweep, templates, runs)
            rows = {**commands(sweep, runs), **costs(sweep)}
            table = [[what, *cells, f"{1000 * float(cells[1]) / runs:.2f}"] for what, cells in rows.items()]
            columns = ["", "wall, s", "processor, s", "MiB at most", "processor, ms per run"]
            show(f"{runs:,} runs, less one in a hundred", columns, table)
            shutil.rmtree(sweep)


if __name__ == "__main__":
    main()
