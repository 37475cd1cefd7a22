"""Verdicts on claims: the rule, the intervals against scipy, what is still needed, when each was stated."""

import hashlib
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab import records
from creditlab.analysis import fit, load
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.claims.quantities import Quantity
from creditlab.analysis.claims.verdicts import COLUMNS, judged, recorded_claims, seeds_needed, verdict
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import AnalysisError
from creditlab.records.claims import parse_claims

CLAIM = """
- claim: {name}
  metric: {metric}
  {kind}
  {bound}
"""


def claims(kind="difference: {algorithm: [bp, fa]}", bound="holds: {above: 0}", metric="test/accuracy", name="more"):
    return parse_claims(CLAIM.format(kind=kind, bound=bound, metric=metric, name=name), "mine.yaml")


def frame(seeds=6, gap=0.1, noise=0.02) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = [
        (
            a,
            o,
            s,
            0.5 + gap * (a == "bp") + noise * draw.standard_normal(),
            1 + 0.5 * (a == "fa") + noise * draw.random(),
        )
        for a in ("bp", "fa")
        for o in (0.1, 0.2, 0.4)
        for s in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["algorithm", "lr", "seed", "test/accuracy", "test/loss"])


def sweep_of(runs: pd.DataFrame) -> Sweep:
    return Sweep.of(runs, ["algorithm", "lr"], ["test/accuracy", "test/loss"])


def row(runs: pd.DataFrame, *arguments, **keys) -> dict:
    sweep = sweep_of(runs)
    table = judged(sweep, claims(*arguments, **keys), lambda name: statistics()[name](fit(sweep)).frame)
    assert list(table.frame) == list(COLUMNS)
    (one,) = table.frame.to_dict("records")
    return one


def by_seed(runs: pd.DataFrame, metric: str, **levels) -> np.ndarray:
    for key, level in levels.items():
        runs = runs[runs[key] == level]
    return runs.groupby("seed")[metric].mean().to_numpy()


def test_a_difference_is_that_of_each_seed_averaged_over_the_other_factors():
    runs = frame()
    one = row(runs)
    a, b = (by_seed(runs, "test/accuracy", algorithm=level) for level in ("bp", "fa"))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert [one["estimate"], one["ci_low"], one["ci_high"]] == pytest.approx([(a - b).mean(), *interval])
    assert (one["verdict"], one["n_seeds"], one["level"], one["stated"]) == ("holds", 6, 0.95, "not recorded")
    at = row(runs, "difference: {algorithm: [bp, fa]}\n  where: {lr: 2e-1}")
    a, b = (by_seed(runs, "test/accuracy", algorithm=level, lr=0.2) for level in ("bp", "fa"))
    assert at["estimate"] == pytest.approx((a - b).mean())
    assert row(runs, bound="holds: {below: 0}")["verdict"] == "does not hold"


def test_an_equivalence_is_two_one_sided_tests():
    runs = frame(gap=0.004)
    a, b = (by_seed(runs, "test/accuracy", algorithm=level) for level in ("fa", "bp"))
    for margin in (0.001, 0.01, 0.02, 0.05):
        one = row(runs, "equivalence: {algorithm: [fa, bp]}", f"margin: {margin}")
        lower, upper = (stats.ttest_1samp(a - b, at, alternative=side).pvalue for at, side in
                        ((-margin, "greater"), (margin, "less")))  # fmt: skip
        assert (one["verdict"] == "holds") == (max(lower, upper) < 0.05)
        assert one["level"] == 0.9
    assert one["why"] == "equivalent within 0.05"
    assert row(frame(), "equivalence: {algorithm: [fa, bp]}", "margin: 0.03")["why"] == "differ by more than 0.03"
    open_one = row(frame(noise=0.2), "equivalence: {algorithm: [fa, bp]}", "margin: 0.05")
    assert (open_one["verdict"], open_one["why"]) == (
        "undecided",
        "neither equivalent within 0.05 nor shown to differ by more",
    )


def test_a_ratio_is_geometric_and_a_cell_is_a_mean():
    runs = frame()
    a, b = (by_seed(runs, "test/loss", algorithm=level) for level in ("fa", "bp"))
    logs = np.log(a / b)
    ends = stats.t.interval(0.95, 5, logs.mean(), stats.sem(logs))
    one = row(runs, "ratio: {algorithm: [fa, bp]}", "holds: {above: 1.2}", "test/loss")
    assert [one["estimate"], one["ci_low"], one["ci_high"]] == pytest.approx(np.exp([logs.mean(), *ends]))
    cell = row(runs, "cell: {algorithm: fa, lr: 0.4}", "holds: {above: 0.3}")
    assert cell["estimate"] == pytest.approx(by_seed(runs, "test/accuracy", algorithm="fa", lr=0.4).mean())
    negative = runs.assign(**{"test/loss": -runs["test/loss"]})
    assert "bears no ratio" in row(negative, "ratio: {algorithm: [fa, bp]}", "holds: {above: 1}", "test/loss")["why"]


def test_a_slope_is_over_numbers():
    runs = frame()
    runs["test/accuracy"] -= runs["lr"]
    one = row(runs, "slope: {over: lr}", "holds: {below: -0.5}")
    slopes = [np.polyfit(of["lr"], of["test/accuracy"], 1)[0] for _, of in runs.groupby("seed")]
    assert one["estimate"] == pytest.approx(np.mean(slopes))
    assert "is no number" in row(runs, "slope: {over: algorithm}")["why"]


def test_a_cell_of_a_table_is_that_of_the_analysis():
    runs = frame()
    kind = "table: {table: levels, row: {metric: test/loss, factor: algorithm, level: fa}, column: mean}"
    one = row(runs, kind, metric="test/loss")
    losses = runs.loc[runs["algorithm"] == "fa", "test/loss"]
    assert one["estimate"] == pytest.approx(np.exp(np.log(losses).mean()))
    assert (one["verdict"], one["why"]) == ("undecided", "there is no interval")


def test_so_many_seeds_decide_it_and_one_fewer_does_not():
    (claim,) = claims(bound="holds: {above: 0.02}").claims
    values = np.array([0.06, 0.01, 0.05, 0.02])

    def quantity(seeds: int) -> Quantity:
        half = stats.t.ppf(0.975, seeds - 1) * values.std(ddof=1) / math.sqrt(seeds)
        return Quantity(values.mean(), values.mean() - half, values.mean() + half, seeds)

    needed = seeds_needed(quantity(4), claim)
    assert verdict(quantity(4), {"above": 0.02})[0] == "undecided"
    assert verdict(quantity(needed), {"above": 0.02})[0] == "holds"
    assert verdict(quantity(needed - 1), {"above": 0.02})[0] == "undecided"
    assert seeds_needed(Quantity(0.02, 0.01, 0.03, 4), claim) is None  # it lies at the bound
    assert seeds_needed(quantity(1), claim) is None


def test_one_seed_is_too_few():
    one = row(frame(seeds=1))
    assert (one["verdict"], one["why"]) == ("undecided", "1 seed, fewer than 2")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metric": "test/acuracy"}, "no run has a metric 'test/acuracy'. Did you mean test/accuracy? There are: "),
        ({"kind": "difference: {algoritm: [bp, fa]}"}, "no run has a key 'algoritm'. Did you mean algorithm?"),
        ({"kind": "difference: {algorithm: [bp, af]}"}, "no run has algorithm=af. Did you mean fa? There are: bp, fa."),
        ({"kind": "equivalence: {algorithm: [bp, fa]}", "bound": "margin: 2"},
         "margin=2: test/accuracy is a share between 0 and 1, so give 0.02 for two points of a percentage."),
        ({"bound": "holds: {above: 5}"}, "holds={'above': 5}: test/accuracy is a share between 0 and 1"),
        ({"kind": "cell: {algorithm: bp}", "bound": "holds: {above: 95}"}, "holds={'above': 95}: test/accuracy is a"),
        ({"kind": "table: {table: anov, row: {}, column: p}"}, "there is no table 'anov'. Did you mean anova?"),
    ],
)  # fmt: skip
def test_claims_about_what_is_not_there_or_in_another_unit(keys, message):
    sweep = sweep_of(frame())
    with pytest.raises(AnalysisError) as refused:
        judged(sweep, claims(**keys), lambda _: pd.DataFrame())
    assert str(refused.value).startswith("mine.yaml: claim 1 (more): ")
    assert message in str(refused.value)
    (one,) = judged(sweep, claims(**keys), lambda _: pd.DataFrame(), strict=False).frame.to_dict("records")
    assert one["verdict"] == "undecided"
    assert message.rstrip(".") in one["why"]


def test_a_percentage_is_a_unit_of_its_own():
    runs = frame()
    runs["test/accuracy"] *= 100
    assert row(runs, "equivalence: {algorithm: [bp, fa]}", "margin: 15")["verdict"] == "holds"
    assert row(runs, "cell: {algorithm: bp}", "holds: {above: 50}")["verdict"] == "holds"


# In a sweep ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(folder):
    draw = np.random.default_rng(0)

    def outcome(**options):
        return {
            "metrics": {"test/accuracy": 0.5 + 0.2 * (options["algorithm"] == "bp") + 0.01 * draw.standard_normal()}
        }

    return folder.cross(outcome, 4, algorithm=["bp", "fa"], optimiser=["sgd", "adamw"])


def record(path, stated, **changes):
    content = {"file": "mine.yaml", "sha256": hashlib.sha256(stated.encode()).hexdigest(), "text": stated} | changes
    runs = [{"name": p.name, "levels": {}} for p in records.run_folders(path)]
    plan = {"schema": records.SCHEMA, "factors": {}, "runs": runs, "claims": content}
    records.write_json(path / "sweep.json", plan)


def verdicts_of(path, of) -> pd.DataFrame:
    return judged(load(path), of, lambda _: pd.DataFrame()).frame


def test_when_a_claim_was_stated(sweep):
    same, changed = claims(), claims(bound="holds: {above: 0.1}")
    assert verdicts_of(sweep.path, same)["stated"][0] == "afterwards"  # there is no plan
    record(sweep.path, same.text)
    assert recorded_claims(sweep.path).claims == same.claims
    assert verdicts_of(sweep.path, same)["stated"][0] == "before the runs"
    assert verdicts_of(sweep.path, changed)["stated"][0] == "changed since"
    assert verdicts_of(sweep.path, claims(name="other"))["stated"][0] == "afterwards"
    for changes in ({"sha256": "0"}, {"text": "- ["}, {"text": 3}):  # a record that was changed
        record(sweep.path, same.text, **changes)
        assert recorded_claims(sweep.path) is None
        assert verdicts_of(sweep.path, same)["stated"][0] == "afterwards"


def test_a_claim_waits_for_the_runs_that_were_planned(sweep):
    assert verdicts_of(sweep.path, claims())["verdict"][0] == "holds"
    sweep.add(algorithm="fa", optimiser="sgd", seed=9, status="failed")
    one = verdicts_of(sweep.path, claims()).iloc[0]
    assert (one["verdict"], one["why"]) == (
        "undecided",
        "runs that it needs were planned and are not finished (1 at most)",
    )
    adamw = claims("difference: {algorithm: [bp, fa]}\n  where: {optimiser: adamw}")
    assert verdicts_of(sweep.path, adamw)["verdict"][0] == "holds"
    sweep.add({"test/accuracy": 0.1}, algorithm="fa", optimiser="adamw", seed=8, status="diverged")
    assert "1 of 5 runs of optimiser=adamw, algorithm=fa diverged" in verdicts_of(sweep.path, adamw)["why"][0]
