"""How often tests of what is not there say that it is, and how often intervals hold what they should.

    python -m benchmarks.error_rates [--draws 1000] [--only block fingerprint]

*block*: sweeps of three or four algorithms, two optimisers, and seeds that all cells share and that matter; every
metric noise, its standard deviation by algorithm equal or not, normal or exponential. The tests of the algorithm, and
the share of sweeps in which intervals of its pairs hold 0. Aligned ranks (Wobbrock et al. 2011, CHI) stand here alone:
this is why the analysis does without them.

*fingerprint*: four algorithms and three seeds, every metric noise that runs of one seed share in part; p by each
classifier. Accuracy has few values, so p is at or below its level.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.measure import load, show
from creditlab.analysis.agreement import fingerprint
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.posthoc import posthoc
from creditlab.analysis.effects.robust import freedman_lane, repeated_measures
from creditlab.analysis.model.fits import Fit, decompose, fit

LEVELS = (0.05, 0.1, 0.2)
SPREADS = {"1 1 1 1": False, "0.3 1 3 1": False, "4 1 1 1": False, "1 1 1 1 skewed": True, "0.3 1 3 1 skewed": True}
TERM = ("algorithm",)


def f_test(fit: Fit, sums: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """p of the F test of the algorithm, one per metric."""
    df, left = fit.design.df(TERM), fit.design.residual_df
    return stats.f.sf(sums[fit.design.terms.index(TERM)] / df / ((residuals**2).sum(axis=0) / left), df, left)


def aligned_ranks(fit: Fit) -> np.ndarray:
    """p of the F test on the ranks of the residuals with the algorithm's effect added."""
    level = fit.design.codes[:, fit.design.axes.index(*TERM)]
    effect = np.stack([fit.values[level == i].mean(axis=0) for i in range(level.max() + 1)])[level]
    ranks = stats.rankdata(fit.residuals + effect - fit.values.mean(axis=0), axis=0)
    return f_test(fit, *decompose(ranks, fit.design, "II"))


def block(draws: int, cores: str) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for levels, (words, skewed), seeds in product((3, 4), SPREADS.items(), (3, 5, 10)):
        algorithm, optimiser, seed = np.indices((levels, 2, seeds)).reshape(3, -1)
        noise = (
            generator.exponential(size=(len(seed), draws)) - 1 if skewed else generator.normal(size=(len(seed), draws))
        )
        values = noise * np.array([float(word) for word in words.split()[:4]])[algorithm, None]
        values += generator.normal(size=(seeds, draws))[seed] + optimiser[:, None]
        names = [f"m{i}" for i in range(draws)]
        runs = pd.DataFrame(values, columns=names).assign(algorithm=algorithm, optimiser=optimiser, seed=seed)
        fits = fit(Sweep.of(runs.assign(status="complete"), ["algorithm", "optimiser"], names))
        (model,) = fits
        p = {"F": f_test(model, model.sums, model.residuals), "aligned": aligned_ranks(model)}
        for key, tables in (("repeated", repeated_measures(model)), ("permutation", freedman_lane(model))):
            p[key] = next(table["p"].to_numpy() for table in tables if table["term"].iloc[0] == TERM[0])
        pairs = posthoc(fits).frame.query("factor == 'algorithm'")
        inside = ((pairs["ci_low"] <= 0) & (pairs["ci_high"] >= 0)).groupby([pairs["method"], pairs["metric"]])
        every, each = inside.all().groupby(level=0).mean(), inside.mean().groupby(level=0).mean()
        wrong = [f"{(p[key] < 0.05).mean():.3f}" for key in ("F", "repeated", "permutation", "aligned")]
        held = [f"{share:.3f}" for share in (every["Tukey"], every["paired, all"], each["paired"])]
        rows.append([f"{levels} × 2", words, str(seeds), *wrong, *held])
    columns = ["cells", "spread", "seeds", "F: p < .05", "repeated measures", "permutation", "aligned ranks"]
    columns += ["all pairs: Tukey", "paired, all", "a pair: paired"]
    show(f"paired by seed: shares of {draws} sweeps without an effect ({cores})", columns, rows)


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


def main() -> None:
    parser = argparse.ArgumentParser(description="False positives and coverage.")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=["block", "fingerprint"], default=["block", "fingerprint"])
    options, cores = parser.parse_args(), load()
    for name, measure in (("block", block), ("fingerprint", of_fingerprint)):
        if name in options.only:
            measure(options.draws, cores)


if __name__ == "__main__":
    main()
