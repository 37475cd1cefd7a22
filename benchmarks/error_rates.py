"""How often a test of what is not there says that it is, where that takes too long for the test suite: the fingerprint.

    python -m benchmarks.error_rates [--draws 1000]

Sweeps of four algorithms and three seeds, every metric noise that runs of one seed share in part; p of the fingerprint
by each classifier. Accuracy has few values, so p is at or below its level.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from analysis import fingerprint
from benchmarks.measure import load, show

LEVELS = (0.05, 0.1, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description="False positives of the fingerprint.")
    parser.add_argument("--draws", type=int, default=1000)
    draws, cores = parser.parse_args().draws, load()
    fingerprint.DRAWS = 99
    generator = np.random.default_rng(0)
    algorithm, seed = np.indices((4, 3)).reshape(2, -1)
    about = pd.DataFrame({"algorithm": algorithm.astype(str), "seed": seed}).assign(status="complete")
    about["run"] = about["algorithm"] + "-" + about["seed"].astype(str)
    names = [f"w/{i}" for i in range(5)]
    found = []
    for _ in range(draws):
        values = generator.normal(size=(12, 5)) + generator.normal(size=(3, 5))[seed]
        runs = pd.concat([about, pd.DataFrame(values, columns=names)], axis=1)
        found.append(fingerprint.fingerprint(runs, ["algorithm"], names).table.set_index("classifier")["p"])
    p = pd.DataFrame(found)
    rows = [[name, *(f"{(p[name] <= level).mean():.3f}" for level in LEVELS)] for name in p]
    show(f"share of {draws} sweeps without an effect ({cores})", ["classifier", *(f"p ≤ {x}" for x in LEVELS)], rows)


if __name__ == "__main__":
    main()
