"""What a sweep says to a claim: estimates against scipy and numpy, and why there is none."""

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from creditlab import records
from creditlab.analysis.claims.quantities import Quantity, estimate, measure, results_of
from creditlab.analysis.studies.claims import of_report


def accuracy(**options):
    draw = np.random.default_rng([options["seed"], ord(options["algorithm"][0])])
    return {"metrics": {"test/accuracy": 0.5 + 0.1 * (options["algorithm"] == "bp") + 0.02 * draw.standard_normal()}}


def finished(folder):
    return [run for run in records.read_sweep(folder.path) if run.finished]


def quantity_of(folder, claim):
    return estimate(results_of(finished(folder)), claim, partial(of_report, folder.path))


def values(folder, **options):
    runs = (run for run in finished(folder) if options.items() <= run.config["choices"].items())
    return np.array([run.metrics["test/accuracy"] for run in sorted(runs, key=lambda run: run.config["seed"])])


def test_a_difference_is_the_paired_t_of_scipy(folder):
    folder.cross(accuracy, 6, algorithm=["bp", "fa"])
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}], [-1, {"algorithm": "fa"}]]}
    quantity = quantity_of(folder, claim)
    other = stats.ttest_rel(values(folder, algorithm="bp"), values(folder, algorithm="fa")).confidence_interval()
    assert (quantity.low, quantity.high) == pytest.approx((other.low, other.high))
    assert quantity.seeds == 6


def test_runs_of_a_cell_are_averaged_by_seed_and_seeds_that_a_cell_lacks_are_left_out(folder):
    folder.cross(accuracy, 4, algorithm=["bp", "fa"], optimiser=["sgd", "adamw"])
    for optimiser in ("sgd", "adamw"):
        folder.add(**accuracy(seed=9, algorithm="bp"), seed=9, algorithm="bp", optimiser=optimiser)
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}], [-1, {"algorithm": "fa"}]]}
    quantity = quantity_of(folder, claim)
    assert quantity.seeds == 4
    assert quantity.value == pytest.approx(
        values(folder, algorithm="bp")[:8].mean() - values(folder, algorithm="fa").mean()
    )


def test_a_slope_is_the_mean_of_the_seeds_least_squares(folder):
    draw = np.random.default_rng(0)
    for seed in range(5):
        for depth in (1, 2, 4):
            made = {"test/accuracy": 0.6 - 0.05 * depth + 0.01 * draw.standard_normal()}
            folder.add(made, keys={"architecture.depth": depth}, seed=seed)
    claim = {"metric": "test/accuracy", "slope": {"over": "architecture.depth", "where": {"algorithm": "bp"}}}
    quantity = quantity_of(folder, claim)
    by_seed = []
    for seed in range(5):
        of_seed = [run for run in finished(folder) if run.config["seed"] == seed]
        points = [(run.config["architecture"]["depth"], run.metrics["test/accuracy"]) for run in of_seed]
        by_seed.append(np.polyfit(*zip(*points, strict=True), 1)[0])
    assert quantity.value == pytest.approx(np.mean(by_seed))
    assert quantity.high - quantity.value == pytest.approx(stats.t.ppf(0.975, 4) * stats.sem(by_seed))


def test_what_bears_no_verdict_has_a_reason(folder):
    folder.cross(accuracy, 3, algorithm=["bp"])
    folder.add({"test/accuracy": 0.1}, status="diverged", algorithm="fa")
    cells = {
        "no finished run has algorithm=es": {"contrast": [[1, {"algorithm": "es"}]]},
        "1 of 1 runs of algorithm=fa diverged": {"contrast": [[1, {"algorithm": "fa"}]]},
        "3 of 3 runs of algorithm=bp did not reach an": {"contrast": [[1, {"algorithm": "bp"}]], "learned": 0.9},
        "architecture.depth does not vary": {"slope": {"over": "architecture.depth", "where": {"algorithm": "bp"}}},
        "1 of 4 runs of any run diverged": {"table": {"table": "concordance", "row": {"raters": "algorithm"}}},
        "report was made of other runs than there are now: creditlab-analyse": {
            "table": {"table": "concordance", "row": {"algorithm": "bp"}}
        },
    }
    for problem, claim in cells.items():
        assert problem in quantity_of(folder, {"metric": "test/accuracy", **claim}).problem
    absent = {"metric": "weights/fc1/stable_rank", "contrast": [[1, {"algorithm": "bp"}]]}
    assert "stable_rank was not recorded for algorithm=bp" in quantity_of(folder, absent).problem


def test_one_run_that_has_not_learned_leaves_no_verdict(folder):
    for seed, reached in enumerate((0.9, 0.91, 0.2)):
        folder.add({"test/accuracy": reached}, seed=seed)
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}]], "learned": 0.8}
    assert "1 of 3 runs of algorithm=bp did not reach" in quantity_of(folder, claim).problem


def test_runs_of_an_earlier_setting_are_not_averaged_in(folder):
    folder.cross(accuracy, 3, algorithm=["bp"])
    folder.add({"test/accuracy": 0.1}, keys={"training.steps": 5}, seed=1)
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}]]}
    assert "unequal numbers of runs of algorithm=bp (0: 1, 1: 2, 2: 1)" in quantity_of(folder, claim).problem


def test_a_cell_of_a_table_is_read_with_its_interval(folder):
    folder.cross(accuracy, 3, algorithm=["bp"])
    (folder.path / "report").mkdir()
    records.write_json(folder.path / "report" / "analysis.json", {"runs": {"complete": 3}, "where": {}})
    rows = ["metric,term,omega_sq,lo,hi", "weights/a,algorithm,.9,.8,.95", "weights/b,algorithm,.7,.6,.8"]
    (folder.path / "report" / "anova.csv").write_text("\n".join([*rows, "test/x,algorithm,.1,0,.2"]))
    row = {"metric": "weights/*", "term": "algorithm"}
    claim = {"table": {"table": "anova", "row": row, "column": "omega_sq", "low": "lo", "high": "hi"}}
    assert quantity_of(folder, claim) == Quantity(0.7, 0.6, 0.8, 3)
    misspelt = {"table": claim["table"] | {"column": "omega_s"}}
    quantity = quantity_of(folder, misspelt)
    assert quantity.problem == "the table anova has no column 'omega_s'. Did you mean omega_sq?"
    folder.add({"test/accuracy": 0.5}, seed=3)  # since
    assert "was made of other runs than there are now" in quantity_of(folder, claim).problem


def test_late_is_the_mean_over_the_second_half_of_the_records(folder):
    path = folder.add({"test/accuracy": 0.5})
    lines = [f'{{"step":{step},"epoch":0.1,"metrics":{{"m":{step}}}}}\n' for step in (1, 2, 3, 5)]
    (path / "history.jsonl").write_text("".join([*lines, '{"step":6,"epoch":0.1,"metrics":{"test/loss":1}}\n']))
    run = records.Run(path, "complete")
    assert measure(run, "m", "late") == 4


def test_at_an_epoch_is_the_last_record_up_to_it(folder):
    path = folder.add({"test/accuracy": 0.5})
    lines = [f'{{"step":{i},"epoch":{epoch},"metrics":{{"m":{i}}}}}\n' for i, epoch in enumerate((0, 0.5, 1.0, 1.5))]
    (path / "history.jsonl").write_text("".join(lines))
    run = records.Run(path, "complete")
    assert [measure(run, "m", when) for when in (0, 1, 1.2, 9)] == [0, 2, 2, 3]
    assert math.isnan(measure(run, "m", 0.4))  # the record at initialisation is none of training
