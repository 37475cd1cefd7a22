"""What a sweep of thousands costs beside its runs: planning it when nearly all are finished, and telling its status.

    python -m benchmarks.sweep_planning --runs 1000 10000 100000

Does one real run and writes its record again for each run of a sweep over five rules, two optimisers and many seeds,
all but one in a hundred. Then gives the sweep's command with `hydra/launcher=slurm hydra.launcher.dry_run=true`, which
plans, checks every config, reads every record and builds what is to be done as any launcher does, and submits nothing;
and `creditlab-status`. Each in a process of its own, whose time and memory are shown; the start of Python is in them,
as is the import of torch, which building needs.

Goals, at 10,000: planning ≤ 10 s and ≤ 1 GiB, status ≤ 3 s; linear to 100,000.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import ROOT, call, console, load, plan, show
from creditlab import records

RULES, OPTIMISERS = ("bp", "fa", "dfa", "es", "ff"), ("adamw", "muon")
COMBINATIONS = len(RULES) * len(OPTIMISERS)
SMALL = ["training.steps=10", "device=cpu"]


def template(folder: Path) -> Path:
    """The folder of a real run."""
    folder.mkdir()
    done, _ = call(["-m", "creditlab", *SMALL, f"hydra.run.dir={folder}"], folder)
    if done.returncode:
        raise SystemExit(done.stderr)
    (run,) = records.read_sweep(folder)
    return run.folder


def write_records(sweep: Path, like: Path, runs: int) -> None:
    """Records of `runs` runs, less every hundredth."""
    record, summary = (json.loads((like / name).read_text()) for name in ("run.json", "summary.json"))
    for content in (record, summary):
        del content["sha256"]  # of the content as it was
    entries, number = [], 0
    for rule in RULES:
        for optimiser in OPTIMISERS:
            config = plan(sweep, f"algorithm={rule}", f"optimiser={optimiser}", *SMALL).config
            for seed in range(runs // COMBINATIONS):
                config = config | {"seed": seed}
                name, number = records.folder_name(config), number + 1
                identity, levels = name.rpartition("-")[2], {"algorithm": rule, "optimiser": optimiser, "seed": seed}
                entries.append({"name": name, "identity": identity, "levels": levels})
                if number % 100 == 0:
                    continue
                if number % 10_000 == 1:  # a file may have so many names and no more
                    like = shutil.copytree(like, like.with_name(str(number)))
                folder = sweep / name
                folder.mkdir(parents=True)
                (folder / "run.json").write_text(records.to_json(record | {"config": config, "identity": identity}))
                (folder / "summary.json").write_text(records.to_json(summary | {"identity": identity}))
                for file in ("history.jsonl", *records.KEPT):
                    os.link(like / file, folder / file)
    factors = {"algorithm": list(RULES), "optimiser": list(OPTIMISERS), "seed": list(range(runs // COMBINATIONS))}
    records.write_json(sweep / "sweep.json", {"schema": records.SCHEMA, "factors": factors, "runs": entries})


def measured(arguments: list[str], folder: Path, expected: str) -> list[str]:
    """Seconds by the wall, of the processor, and MiB at most, of a command that prints `expected`."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with open(folder / "output", "w+") as output:
        began = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": path}
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=output, stderr=output
        )
        _, _, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        output.seek(0)
        text = output.read()
        assert expected in text, text
    return [f"{seconds:.1f}", f"{used.ru_utime + used.ru_stime:.1f}", f"{used.ru_maxrss / 1024:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, nargs="+", default=[1000, 10_000], help=f"multiples of {100 * COMBINATIONS}"
    )
    chosen = parser.parse_args()
    console.print(f"[bold]Planning and status[/]; {load()}")
    rows = []
    for runs in chosen.runs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_records(folder / "multirun" / "many", template(folder / "one"), runs)
            began = time.perf_counter()
            finished = sum(1 for _ in records.run_folders(folder / "multirun" / "many"))
            scan = time.perf_counter() - began
            factors = [f"algorithm={','.join(RULES)}", f"optimiser={','.join(OPTIMISERS)}"]
            keys = ["hydra/launcher=slurm", "hydra.launcher.dry_run=true", "sweep=many", *factors, *SMALL]
            command = ["-m", "creditlab", "-m", *keys, f"seed=range({runs // COMBINATIONS})"]
            planned = measured(command, folder, f"{runs // 100} runs to do, {finished} finished before")
            status = measured(["-m", "creditlab.sweep.status", "multirun/many"], folder, f"{finished} complete")
            rows.append([f"{runs:,}", *planned, *status, f"{scan:.2f}"])
    columns = ["runs", "plan, s", "processor", "MiB", "status, s", "processor", "MiB", "finding the folders, s"]
    show("Of a sweep that is nearly done", columns, rows)


if __name__ == "__main__":
    main()
