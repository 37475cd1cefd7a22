"""Levels compared over data sets: Demšar's worked example, scipy, and what too few data sets leave unsaid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.datasets import datasets
from creditlab.analysis.model.questions import verdicts
from creditlab.analysis.names import AnalysisError

# Table 6 of Demšar (2006): AUC of C4.5 with and without tuning of m and of cf, on 14 data sets.
AUC = {
    "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
    "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
    "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
    "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
}


def sweep_of(values: dict[str, list[float]], seeds: int = 3) -> Sweep:
    """A sweep whose means over seeds are `values` (by algorithm, of each data set), under two optimisers."""
    rows = [
        (a, f"set{i}", o, s, value + 0.001 * (s - (seeds - 1) / 2) + 0.01 * (o == "muon"), "complete")
        for a, of_sets in values.items()
        for i, value in enumerate(of_sets)
        for o in ("sgd", "muon")
        for s in range(seeds)
    ]
    names = ["algorithm", "dataset", "optimiser", "seed", "test/auc", "status"]
    return Sweep.of(pd.DataFrame(rows, columns=names), ["algorithm", "dataset", "optimiser"], ["test/auc"])


def test_demsars_example():
    rows = datasets(fit(sweep_of(AUC)), random="dataset").frame.query("factor == 'algorithm'")
    assert set(rows["n_datasets"]) == {14}
    friedman = stats.friedmanchisquare(*AUC.values())
    assert rows["statistic"].iloc[0] == pytest.approx(friedman.statistic, rel=1e-9)
    assert rows["p_levels"].iloc[0] == pytest.approx(friedman.pvalue, rel=1e-9)
    ranks = {
        **dict(zip(rows["level_a"], rows["rank_a"], strict=True)),
        **dict(zip(rows["level_b"], rows["rank_b"], strict=True)),
    }
    # He ranks the greatest first and prints 3.143, 2.000, 2.893, 1.964.
    assert [5 - ranks[name] for name in AUC] == pytest.approx([3.143, 2.0, 2.893, 1.964], abs=6e-4)
    # His critical difference at .10 is 1.12, at .05 it is 2.569 √(4·5/(6·14)) = 1.25.
    gaps = (rows["rank_a"] - rows["rank_b"]).abs()
    assert ((rows["p"] <= 0.10) == (gaps >= 1.12)).all()
    assert ((rows["p"] <= 0.05) == (gaps >= 1.25)).all()
    theirs = [stats.studentized_range.sf(np.sqrt(2) * gap / np.sqrt(20 / 84), 4, np.inf) for gap in gaps]
    assert rows["p"].tolist() == pytest.approx(theirs, abs=1e-5)
    first = rows.iloc[0]
    gap = np.array(AUC["C4.5"]) - np.array(AUC[first["level_b"]])
    assert first[["difference", "lowest", "highest"]].tolist() == pytest.approx([gap.mean(), gap.min(), gap.max()])


def test_two_levels_are_compared_by_wilcoxon():
    rows = datasets(fit(sweep_of(AUC)), random="dataset").frame.query("factor == 'optimiser'")
    assert rows["test"].tolist() == ["Wilcoxon"]
    two = {name: AUC[name] for name in ("C4.5", "C4.5+m+cf")}
    row = datasets(fit(sweep_of(two)), random="dataset").frame.query("factor == 'algorithm'").iloc[0]
    theirs = stats.wilcoxon(*(np.round(each, 6) for each in two.values()))
    assert row["p"] == row["p_levels"] == pytest.approx(theirs.pvalue, rel=0.05)


def test_below_six_data_sets_nothing_is_said_of_others():
    table = datasets(fit(sweep_of({name: values[:5] for name, values in AUC.items()})), random="dataset")
    assert table.frame[["p", "p_levels", "statistic"]].isna().all(axis=None)
    assert table.frame["difference"].notna().all()
    assert table.notes == ["5 levels of dataset: estimates that say nothing of others (at least 6 are needed)"]


def test_data_sets_are_fixed_unless_the_user_says_otherwise():
    fixed = fit(sweep_of(AUC))
    assert datasets(fixed).frame.empty
    assert datasets(fixed).notes == []
    assert not any("over" in asked for asked in verdicts(fixed)["question"])
    sampled = fit(replace(sweep_of(AUC), random="dataset"))
    rows = datasets(sampled).frame
    tests = verdicts(sampled).set_index("question")["p_adjusted"]
    assert tests["algorithm over dataset"] == rows.query("factor == 'algorithm'")["p_levels_adjusted"].iloc[0]
    with pytest.raises(AnalysisError, match="'data' is no factor of this sweep"):
        datasets(fixed, random="data")


def test_a_data_set_without_some_cell_takes_no_part():
    sweep = sweep_of(AUC)
    lost = (
        (sweep.runs["dataset"] == "set3") & (sweep.runs["algorithm"] == "C4.5+m") & (sweep.runs["optimiser"] == "sgd")
    )
    table = datasets(fit(replace(sweep, runs=sweep.runs[~lost])), random="dataset").frame
    assert set(table["n_datasets"]) == {13}
