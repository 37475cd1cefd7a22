"""How often the analysis says that something is there where nothing is, and how often intervals hold what they should.

    python -m benchmarks.error_rates [--draws 1000] [--only model report fingerprint]

*model*: two factors of three levels each, seeds whose effects vary from level to level (standard deviation 0.7 of the
residual's for the first factor, 0.3 for the second), and no effect. One design a row: complete, a tenth of the runs
missing, one level with seeds of its own, one seed shared by accident, spread that differs by level, and accuracies on
the logit scale. The share of metrics in which p of the first factor and of the interaction is at most .05; the same for
a test against one pooled residual, which the analysis does not use; and the share of 95 % intervals of a difference
that hold 0.

*report*: whole sweeps without an effect, of 20, 40 and 200 correlated metrics, through the sentences: the share of
reports in which any sentence claims anything.

*fingerprint*: four algorithms and three seeds, every metric noise that runs of one seed share in part; p by each
classifier. Accuracy has few values, so p is at or below its level.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from scipy import special, stats

from benchmarks.measure import load, show
from creditlab.analysis.agreement import fingerprint
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.design import build
from creditlab.analysis.model.fits import Fit, fit
from creditlab.analysis.report.conclusions import Conclusion, conclusions

LEVELS = (0.05, 0.1, 0.2)
SEEDS = (3, 5, 10)
FACTORS = ["algorithm", "optimiser"]
DESIGNS = (
    "complete",
    "complete, no seed:algorithm",
    "10 % missing",
    "10 % missing, no seed:algorithm",
    "a level with its own seeds",
    "one seed shared",
    "spread .3 .6 1.8",
    "accuracy of 360, logit",
)
AT_ONCE = 50  # metrics that miss the same runs
SAMPLES = 360


def sweeps_of(
    design: str, seeds: int, draws: int, generator: np.random.Generator
) -> Iterator[tuple[pd.DataFrame, str]]:
    """Frames whose metrics m0, m1, … are `draws` sweeps without an effect, and the kind of scale."""
    for start in range(0, draws, AT_ONCE if "missing" in design else draws):
        count = min(AT_ONCE, draws - start) if "missing" in design else draws
        a, b, s = np.indices((3, 3, seeds)).reshape(3, -1)
        if design == "a level with its own seeds":
            s = s + seeds * (a == 2)
        elif design == "one seed shared":
            s = np.where(s == 0, 0, s + seeds * a)
        by_a, by_b = (0.0 if "no seed" in design else 0.7), (0.0 if "no seed" in design else 0.3)
        spread = np.array([0.3, 0.6, 1.8] if "spread" in design else [1.0, 1.0, 1.0])[a, None]

        def effect(*codes: np.ndarray, count: int = count) -> np.ndarray:
            """A normal effect of each combination of `codes`, (runs, count)."""
            member = np.unique(np.stack(codes), axis=1, return_inverse=True)[1].ravel()
            return generator.normal(size=(int(member.max()) + 1, count))[member]

        values = effect(s) + by_a * effect(s, a) + by_b * effect(s, b) + spread * generator.normal(size=(len(a), count))
        scale = "identity"
        if "logit" in design:
            values, scale = generator.binomial(SAMPLES, special.expit(3 + 0.5 * values)) / SAMPLES, "logit"
        runs = pd.DataFrame(values, columns=[f"m{i}" for i in range(count)])
        runs = runs.assign(algorithm=a, optimiser=b, seed=s, status="complete")
        if "missing" in design:
            runs = runs[generator.random(len(runs)) >= 0.1]
        yield runs, scale


def pooled(fit: Fit) -> np.ndarray:
    """p of the first factor against one residual, with the seed as a block: what the analysis does not do."""
    design = build(fit.runs, FACTORS)
    seeds = np.eye(design.n_seeds)[design.seeds]
    left = []
    for terms in (design.terms, design.terms[1:]):
        x = np.hstack([seeds, *(design.columns(term) for term in terms)])
        q, r = np.linalg.qr(x)
        q = q[:, np.abs(r.diagonal()) > 1e-9]
        left.append((((fit.values - q @ (q.T @ fit.values)) ** 2).sum(axis=0), q.shape[1]))
    (whole, used), (without, fewer) = left
    df, rest = used - fewer, len(fit.values) - used
    return stats.f.sf((without - whole) / max(df, 1) / (whole / rest), df, rest) if df else np.full(len(whole), np.nan)


def of_model(draws: int, cores: str) -> None:
    generator, rows = np.random.default_rng(0), []
    for design, seeds in product(DESIGNS, SEEDS):
        wrong: dict[str, list[np.ndarray]] = {"main": [], "interaction": [], "pooled": [], "held": []}
        for runs, scale in sweeps_of(design, seeds, draws, generator):
            names = [name for name in runs if name.startswith("m")]
            (one,) = fit(Sweep.of(runs, FACTORS, names), scales={"*": scale})  # type: ignore[dict-item]
            none = np.full(len(names), np.nan)  # a cell that lost all its runs has no interaction
            terms = (("algorithm",), ("algorithm", "optimiser"))
            main, interaction = (one.tests[term].p if term in one.tests else none for term in terms)
            weights = [one.design.level_weights(("algorithm",), (i,)) for i in range(2)]
            pair = one.solved.estimate(weights[0] - weights[1])
            held = np.abs(pair.value) <= stats.t.isf(0.025, pair.df) * pair.error
            counted = (main <= 0.05, interaction <= 0.05, pooled(one) <= 0.05, held)
            for key, each in zip(wrong, counted, strict=True):
                wrong[key].append(each)
        rows.append([design, str(seeds), *(f"{100 * np.concatenate(each).mean():.1f}" for each in wrong.values())])
    columns = [
        "design",
        "seeds",
        "algorithm",
        "algorithm:optimiser",
        "algorithm, pooled residual",
        "intervals that hold",
    ]
    show(f"per cent of {draws} metrics without an effect ({cores})", columns, rows)


def null_report(metrics: int, seeds: int, by_algorithm: float, generator: np.random.Generator) -> list[Conclusion]:
    """The sentences of a sweep without an effect: accuracy, and `metrics` that share four hidden causes."""
    a, b, s = np.indices((3, 2, seeds)).reshape(3, -1)

    def correlated(groups: np.ndarray) -> np.ndarray:
        number = int(groups.max()) + 1
        shared = generator.normal(size=(number, 4)) @ generator.normal(size=(4, metrics)) / 2
        return ((shared + generator.normal(size=(number, metrics))) / np.sqrt(2))[groups]

    values = correlated(np.arange(len(a))) + correlated(s) + by_algorithm * correlated(s * 3 + a)
    names = ["test/accuracy", "test/loss", *(f"weights/layer{i}/rank" for i in range(metrics - 2))]
    runs = pd.DataFrame(values, columns=names)
    runs["test/accuracy"] = generator.binomial(SAMPLES, special.expit(3 + 0.5 * values[:, 0])) / SAMPLES
    runs["test/loss"] = np.exp(0.3 * values[:, 1])
    runs = runs.assign(algorithm=np.array(["bp", "fa", "ff"])[a], optimiser=np.array(["sgd", "muon"])[b], seed=s)
    sweep = Sweep.of(runs.assign(status="complete", run=[f"r{i}" for i in range(len(a))]), FACTORS, names)
    fits = fit(sweep)
    tables = {name: make(fits) for name, make in statistics().items() if name not in SLOW}
    return conclusions(tables, sweep)


SLOW = (
    "fingerprint_confusion",
    "rdms",
    "trajectories",
    "similarity_pairs",
    "concordance_pairs",
)  # nothing is claimed of them


def of_report(draws: int, cores: str) -> None:
    generator, rows = np.random.default_rng(0), []
    fingerprint.DRAWS = 99
    for metrics, by_algorithm in product((20, 40, 200), (0.0, 0.7, 2.0)):
        shares = []
        for seeds in SEEDS:
            claims = [
                any(one.claim for one in null_report(metrics, seeds, by_algorithm, generator)) for _ in range(draws)
            ]
            shares.append(f"{100 * np.mean(claims):.1f}")
        rows.append([str(metrics), f"{by_algorithm:g}", *shares])
    columns = ["metrics", "sd of seed:algorithm", *(f"{seeds} seeds" for seeds in SEEDS)]
    show(f"per cent of {draws} reports without an effect in which a sentence claims anything ({cores})", columns, rows)


def of_fingerprint(draws: int, cores: str) -> None:
    fingerprint.DRAWS = 99
    generator = np.random.default_rng(0)
    algorithm, seed = np.indices((4, 3)).reshape(2, -1)
    about = pd.DataFrame({"algorithm": algorithm.astype(str), "seed": seed}).assign(status="complete")
    about["run"] = about["algorithm"] + "-" + about["seed"].astype(str)
    names = [f"w/{i}" for i in range(5)]
    rows_of_p = []
    for _ in range(draws):
        values = generator.normal(size=(12, 5)) + generator.normal(size=(3, 5))[seed]
        runs = pd.concat([about, pd.DataFrame(values, columns=names)], axis=1)
        rows_of_p.append(
            fingerprint.fingerprint(Sweep.of(runs, ["algorithm"], names)).frame.set_index("classifier")["p"]
        )
    p = pd.DataFrame(rows_of_p)
    rows = [[name, *(f"{(p[name] <= level).mean():.3f}" for level in LEVELS)] for name in p]
    show(f"share of {draws} sweeps without an effect ({cores})", ["classifier", *(f"p ≤ {x}" for x in LEVELS)], rows)


MEASURES = {"model": of_model, "report": of_report, "fingerprint": of_fingerprint}


def main() -> None:
    parser = argparse.ArgumentParser(description="False positives and coverage.")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    options, cores = parser.parse_args(), load()
    for name, measure in MEASURES.items():
        if name in options.only:
            measure(options.draws, cores)


if __name__ == "__main__":
    main()
