"""How long the analysis takes on a large sweep: collecting its runs, its statistics, all of it with the report.

    python -m benchmarks.analysis_speed [--runs 10000] [--metrics 200]
    python -m benchmarks.analysis_speed --growth 1000 10000 100000 --metrics 20    # whether time grows as the runs do

The runs are made up: four factors and a seed, each run's metrics its factors' effects and noise, some runs missing.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import ROOT, call, load, now, show
from creditlab import records
from creditlab.analysis.agreement.concordance import compare_raters
from creditlab.analysis.agreement.kendall import kendall_w
from creditlab.analysis.data.cache import NAME as CACHE
from creditlab.analysis.data.collect import collect
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.anova import tests
from creditlab.analysis.effects.posthoc import pairs
from creditlab.analysis.model.fits import Fits, fit

LEVELS = {"algorithm": 8, "optimiser": 5, "dataset": 4, "architecture": 3}


def names(count: int) -> list[str]:
    return ["test/accuracy", "test/loss", *(f"weights/block{i}/stable_rank" for i in range(count - 2))]


def frame(runs: int, metrics: int, generator: np.random.Generator, whole: bool = False) -> pd.DataFrame:
    """A complete crossing of about `runs` runs, of which one in fifty is missing unless it is to be `whole`. Factors
    have two levels if `runs` are too few for more.
    """
    levels = list(LEVELS.values()) if runs >= 2 * np.prod(list(LEVELS.values())) else [2] * len(LEVELS)
    codes = np.array(list(product(*map(range, levels), range(max(2, runs // int(np.prod(levels)))))))
    values = generator.normal(size=(len(codes), metrics))
    for axis in range(codes.shape[1]):
        values += generator.normal(size=(codes[:, axis].max() + 1, metrics))[codes[:, axis]]
    made = pd.DataFrame({name: [f"{name}{i}" for i in codes[:, axis]] for axis, name in enumerate(LEVELS)})
    made = made.assign(seed=codes[:, -1], status="complete")
    made = pd.concat([made, pd.DataFrame(values, columns=names(metrics))], axis=1)
    if whole:
        return made
    return made.drop(index=generator.choice(len(made), len(made) // 50, replace=False)).reset_index(drop=True)


def write(folder: Path, runs: pd.DataFrame, metrics: list[str]) -> None:
    """The records of `runs`, without the syncing that the real writer does."""
    base = {"training": {"steps": 400, "batch_size": 128}, "metrics": {"points": 4}, "device": "cpu"}
    for row in runs.to_dict("records"):
        choices = {group: row[group] for group in LEVELS}
        config: dict = {**copy.deepcopy(base), "choices": {**choices, "metrics": "light"}, "seed": row["seed"]}
        config |= {group: {"_target_": f"x.{name}", "lr": 0.1, "decay": 0.0} for group, name in choices.items()}
        place = folder / records.folder_name(config)
        place.mkdir()
        head = {"schema": records.SCHEMA, "identity": records.identity(config)}
        (place / "run.json").write_text(records.to_json({**head, "config": config}))
        lines = [json.dumps({"step": s, "epoch": s / 10, "metrics": {"test/accuracy": 0.5}}) for s in range(10)]
        (place / "history.jsonl").write_text("\n".join(lines) + "\n")
        values = {name: row[name] for name in metrics} | {f"{name}@init": 0.5 for name in metrics}
        tail = {"status": "complete", "steps": 400, "metrics": values, "history_sha256": None}
        tail["history_sha256"] = records.digest(place / "history.jsonl")
        (place / "summary.json").write_text(records.to_json({**head, **tail}))


def timed(what: Callable[[], object], rounds: int = 3) -> list[str]:
    """Least seconds of wall time and of this process's processor time."""
    taken = []
    for _ in range(rounds):
        began = now()
        what()
        taken.append(now() - began)
    return [f"{min(t.wall for t in taken):.2f}", f"{min(t.cpu for t in taken):.2f}"]


def report(folder: Path) -> tuple[list[str], float]:
    """Seconds of wall and processor time of `creditlab-analyse`, from cold, and the GiB at its peak."""
    (folder / CACHE).unlink(missing_ok=True)
    done, seconds = call(["-m", "creditlab.analysis", str(folder)], ROOT)
    assert done.returncode == 0, done.stderr
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # the greatest of all children
    return [f"{seconds.wall:.1f}", f"{seconds.cpu:.1f}"], peak


def growth(counts: Sequence[int], metrics: list[str], cores: str) -> None:
    rows = []
    for count in sorted(counts):
        with tempfile.TemporaryDirectory() as place:
            runs = frame(count, len(metrics), np.random.default_rng(0))
            write(Path(place), runs, metrics)
            cold = timed(lambda place=Path(place): collect(place), 1)  # type: ignore[misc]
            taken, peak = report(Path(place))
            rows.append([str(len(runs)), *cold, *taken, f"{1000 * float(taken[1]) / len(runs):.2f}", f"{peak:.2f}"])
    columns = ["runs", "collecting: wall s", "processor s", "report: wall s", "processor s", "ms per run", "peak GiB"]
    show(f"growth, {len(metrics)} metrics ({cores})", columns, rows)


def beside_statsmodels(generator: np.random.Generator) -> list[list[str]]:
    """One metric of 3 × 3 levels and 10 seeds, a tenth missing: REML here and by statsmodels, which gives no degrees of
    freedom."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    a, b, s = np.indices((3, 3, 10)).reshape(3, -1)
    y = generator.normal(size=len(a)) + generator.normal(size=10)[s] + generator.normal(size=30)[3 * s + a]
    runs = pd.DataFrame({"a": a, "b": b, "seed": s, "y": y, "status": "complete"})
    runs = runs.drop(index=generator.choice(len(runs), 9, replace=False)).assign(everything=1)
    variances = {"seed": "0 + C(seed)", "a": "0 + C(seed):C(a)", "b": "0 + C(seed):C(b)"}

    def theirs() -> None:
        MixedLM.from_formula("y ~ C(a) * C(b)", runs, groups="everything", vc_formula=variances).fit()

    def ours() -> None:
        tests(fit(Sweep.of(runs, ["a", "b"], ["y"])))

    small = "REML of one metric and 81 runs"
    return [[small, *timed(ours), ""], [f"{small}, statsmodels", *timed(theirs, 1), ""]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds that the analysis takes on a large sweep.")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--metrics", type=int, default=200)
    parser.add_argument("--items", type=int, default=10_000, help="that 40 raters rate")
    parser.add_argument("--growth", type=int, nargs="+", default=[], metavar="RUNS")
    options = parser.parse_args()
    if options.growth:
        return growth(options.growth, names(options.metrics), load())
    generator = np.random.default_rng(0)
    runs, metrics = frame(options.runs, options.metrics, generator), names(options.metrics)
    cores = load()

    whole = frame(options.runs, options.metrics, generator, whole=True)

    def tested(table: pd.DataFrame) -> Fits:
        fits = fit(Sweep.of(table, list(LEVELS), metrics))
        tests(fits)
        return fits

    fits = tested(whole)
    rows = [
        ["F tests of a complete design", *timed(lambda: tested(whole), 1), "5"],
        ["all pairs of levels, of the same fits", *timed(lambda: pairs(fits), 1), ""],
        ["F tests where runs are missing (REML)", *timed(lambda: tested(runs), 1), "60"],
    ]
    rows += beside_statsmodels(generator)
    scores = generator.normal(size=options.items) + generator.normal(size=(40, options.items))
    index = pd.MultiIndex.from_product([range(40), ["0"]])
    rows += [
        [f"W, {options.items:,} items × 40 raters", *timed(lambda: kendall_w(scores)), "1"],
        [
            "with interval, pairs of tests and permutations",
            *timed(lambda: compare_raters(pd.DataFrame(scores, index)), 1),
            "",
        ],
    ]
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), runs, metrics)
        rows.append([f"collecting {len(runs)} runs, cold", *timed(lambda: collect(Path(place)), 1), "5"])
        rows.append(["again, from the cache", *timed(lambda: collect(Path(place))), ""])
        taken, peak = report(Path(place))
        rows.append([f"all tables and the report, cold ({peak:.2f} GiB; goal 2)", *taken, "60"])
    title = f"{len(runs)} runs × {len(metrics)} metrics ({cores})"
    show(title, ["what", "wall, least s", "processor, least s", "goal, at most"], rows)


if __name__ == "__main__":
    main()
