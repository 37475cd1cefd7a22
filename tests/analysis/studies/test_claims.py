"""Claims held to sweeps: the estimates against scipy and numpy, the verdicts by their rule, the files of claims."""

import math

import numpy as np
import pytest
import yaml
from scipy import stats

from creditlab import records
from creditlab.__main__ import CONF
from creditlab.analysis.names import AnalysisError
from creditlab.analysis.studies.claims import CLAIMS, Quantity, claims, estimate, main, measure, reproduction, verdict

STUDIES = sorted(path.stem for path in CLAIMS.glob("*.yaml"))


def accuracy(**options):
    draw = np.random.default_rng([options["seed"], ord(options["algorithm"][0])])
    return {"metrics": {"test/accuracy": 0.5 + 0.1 * (options["algorithm"] == "bp") + 0.02 * draw.standard_normal()}}


def finished(folder):
    return [run for run in records.read_sweep(folder.path) if run.finished]


def values(folder, **options):
    runs = (run for run in finished(folder) if options.items() <= run.config["choices"].items())
    return np.array([run.metrics["test/accuracy"] for run in sorted(runs, key=lambda run: run.config["seed"])])


def test_a_difference_is_the_paired_t_of_scipy(folder):
    folder.cross(accuracy, 6, algorithm=["bp", "fa"])
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}], [-1, {"algorithm": "fa"}]]}
    found = estimate(folder.path, finished(folder), claim)
    other = stats.ttest_rel(values(folder, algorithm="bp"), values(folder, algorithm="fa")).confidence_interval()
    assert (found.low, found.high) == pytest.approx((other.low, other.high))
    assert found.seeds == 6


def test_runs_of_a_cell_are_averaged_by_seed_and_seeds_that_a_cell_lacks_are_left_out(folder):
    folder.cross(accuracy, 4, algorithm=["bp", "fa"], optimiser=["sgd", "adamw"])
    for optimiser in ("sgd", "adamw"):
        folder.add(**accuracy(seed=9, algorithm="bp"), seed=9, algorithm="bp", optimiser=optimiser)
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}], [-1, {"algorithm": "fa"}]]}
    found = estimate(folder.path, finished(folder), claim)
    assert found.seeds == 4
    assert found.value == pytest.approx(
        values(folder, algorithm="bp")[:8].mean() - values(folder, algorithm="fa").mean()
    )


def test_a_slope_is_the_mean_of_the_seeds_least_squares(folder):
    draw = np.random.default_rng(0)
    for seed in range(5):
        for depth in (1, 2, 4):
            made = {"test/accuracy": 0.6 - 0.05 * depth + 0.01 * draw.standard_normal()}
            folder.add(made, keys={"architecture.depth": depth}, seed=seed)
    claim = {"metric": "test/accuracy", "slope": {"over": "architecture.depth", "where": {"algorithm": "bp"}}}
    found = estimate(folder.path, finished(folder), claim)
    by_seed = []
    for seed in range(5):
        own = [run for run in finished(folder) if run.config["seed"] == seed]
        points = [(run.config["architecture"]["depth"], run.metrics["test/accuracy"]) for run in own]
        by_seed.append(np.polyfit(*zip(*points, strict=True), 1)[0])
    assert found.value == pytest.approx(np.mean(by_seed))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 4) * stats.sem(by_seed))


@pytest.mark.parametrize(
    ("low", "high", "seeds", "holds", "told"),
    [
        (0.1, 0.3, 5, {"above": 0}, "reproduced"),
        (-0.3, -0.1, 5, {"above": 0}, "not reproduced"),
        (-0.1, 0.3, 5, {"above": 0}, "not comparable"),
        (0.1, 0.3, 2, {"above": 0}, "not comparable"),
        (0.05, 0.1, 3, {"above": 0.04, "below": 0.14}, "reproduced"),
        (0.05, 0.2, 3, {"above": 0.04, "below": 0.14}, "not comparable"),
        (0.15, 0.2, 3, {"above": 0.04, "below": 0.14}, "not reproduced"),
        (0.01, 0.03, 3, {"above": 0.04, "below": 0.14}, "not reproduced"),
        (0.0, 0.3, 5, {"above": 0}, "not comparable"),  # the ends of the range are no part of it
        (-0.3, 0.0, 5, {"above": 0}, "not reproduced"),
        (0.0, 0.0, 5, {"above": 0}, "not reproduced"),
        (-0.1, 0.3, 5, {"above": 0.04, "below": 0.14}, "not comparable"),
    ],
)
def test_the_rule(low, high, seeds, holds, told):
    assert verdict(Quantity((low + high) / 2, low, high, seeds), holds)[0] == told
    assert verdict(Quantity(low, seeds=5), holds) == ("not comparable", "there is no interval")
    assert verdict(Quantity(low, low, seeds=5), holds) == ("not comparable", "there is no interval")
    assert verdict(Quantity(problem="no run"), holds) == ("not comparable", "no run")


def test_what_bears_no_verdict_is_told(folder):
    folder.cross(accuracy, 3, algorithm=["bp"])
    folder.add({"test/accuracy": 0.1}, status="diverged", algorithm="fa")
    cells = {
        "no finished run has algorithm=es": {"contrast": [[1, {"algorithm": "es"}]]},
        "1 of 1 runs of algorithm=fa diverged": {"contrast": [[1, {"algorithm": "fa"}]]},
        "3 of 3 runs of algorithm=bp did not reach an": {"contrast": [[1, {"algorithm": "bp"}]], "learned": 0.9},
        "architecture.depth does not vary": {"slope": {"over": "architecture.depth", "where": {"algorithm": "bp"}}},
        "1 of 4 runs of any run diverged": {"table": {"table": "concordance", "row": {"raters": "algorithm"}}},
        "report was not made of the runs that are": {"table": {"table": "concordance", "row": {"algorithm": "bp"}}},
    }
    for problem, claim in cells.items():
        assert problem in estimate(folder.path, finished(folder), {"metric": "test/accuracy", **claim}).problem
    absent = {"metric": "weights/fc1/stable_rank", "contrast": [[1, {"algorithm": "bp"}]]}
    assert "stable_rank is not there" in estimate(folder.path, finished(folder), absent).problem


def test_one_run_that_has_not_learned_leaves_no_verdict(folder):
    for seed, reached in enumerate((0.9, 0.91, 0.2)):
        folder.add({"test/accuracy": reached}, seed=seed)
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}]], "learned": 0.8}
    assert "1 of 3 runs of algorithm=bp did not reach" in estimate(folder.path, finished(folder), claim).problem


def test_runs_of_an_earlier_setting_are_not_averaged_in(folder):
    folder.cross(accuracy, 3, algorithm=["bp"])
    folder.add({"test/accuracy": 0.1}, keys={"training.steps": 5}, seed=1)
    claim = {"metric": "test/accuracy", "contrast": [[1, {"algorithm": "bp"}]]}
    assert (
        "unequal numbers of runs of algorithm=bp (0: 1, 1: 2, 2: 1)"
        in estimate(folder.path, finished(folder), claim).problem
    )


def test_a_run_that_is_planned_or_begun_and_not_finished_leaves_no_verdict(folder, tmp_path, monkeypatch):
    """Depths 1 and 2 are finished; of 3, one was begun and the others are only planned."""
    study = [
        {"experiment": "e", "figure": "1", "claim": algorithm, "theirs": "", "metric": "test/accuracy", "holds": {}}
        | {"slope": {"over": "architecture.depth", "where": {"algorithm": algorithm}}}
        for algorithm in ("bp", "fa")
    ]
    study += [{**study[0], "contrast": [[1, {"algorithm": "bp", "architecture.depth": 1}]]}]
    del study[2]["slope"]
    monkeypatch.setattr("creditlab.analysis.studies.claims.claims", lambda _: study)
    folder.path = folder.path.rename(tmp_path / "e-full")
    for algorithm in ("bp", "fa"):
        for depth in (1, 2):
            for seed in range(3):
                keys = {"architecture.depth": depth}
                folder.add({"test/accuracy": 0.1 * depth}, keys=keys, seed=seed, algorithm=algorithm)
    assert reproduction("s", tmp_path, "full")["verdict"].tolist() == ["reproduced"] * 3
    begun = folder.add({}, status="unfinished", keys={"architecture.depth": 3}, algorithm="bp")
    planned = [{"name": begun.name}, *({"name": f"{seed}", "levels": {"architecture.depth": 3}} for seed in (1, 2))]
    for entry in planned[1:]:
        entry["levels"]["algorithm"] = "bp"
    records.write_json(folder.path / "sweep.json", {"schema": records.SCHEMA, "factors": {}, "runs": planned})
    table = reproduction("s", tmp_path, "full")
    assert table["verdict"].tolist() == ["not comparable", "reproduced", "reproduced"]
    assert table["why"][0] == "runs that it needs were planned and are not finished (3 at most)"


def test_a_cell_of_a_table_is_read_with_its_interval(folder):
    folder.cross(accuracy, 3, algorithm=["bp"])
    (folder.path / "report").mkdir()
    records.write_json(folder.path / "report" / "analysis.json", {"runs": {"complete": 3}, "where": {}})
    rows = ["metric,term,eta_sq,lo,hi", "weights/a,algorithm,.9,.8,.95", "weights/b,algorithm,.7,.6,.8"]
    (folder.path / "report" / "anova.csv").write_text("\n".join([*rows, "test/x,algorithm,.1,0,.2"]))
    row = {"metric": "weights/*", "term": "algorithm"}
    claim = {"table": {"table": "anova", "row": row, "column": "eta_sq", "low": "lo", "high": "hi"}}
    assert estimate(folder.path, finished(folder), claim) == Quantity(0.7, 0.6, 0.8, 3)
    misspelt = {"table": claim["table"] | {"column": "eta_s"}}
    found = estimate(folder.path, finished(folder), misspelt)
    assert found.problem == "anova.csv has no column 'eta_s'. Did you mean eta_sq?"
    folder.add({"test/accuracy": 0.5}, seed=3)  # since
    assert "was not made of the runs that are there" in estimate(folder.path, finished(folder), claim).problem


def test_late_is_the_mean_over_the_second_half_of_the_looks(folder):
    path = folder.add({"test/accuracy": 0.5})
    lines = [f'{{"step":{step},"epoch":0.1,"metrics":{{"m":{step}}}}}\n' for step in (1, 2, 3, 5)]
    (path / "history.jsonl").write_text("".join([*lines, '{"step":6,"epoch":0.1,"metrics":{"test/loss":1}}\n']))
    run = records.Run(path, "complete")
    assert measure(run, "m", "late") == 4


def test_at_an_epoch_is_the_last_look_up_to_it(folder):
    path = folder.add({"test/accuracy": 0.5})
    lines = [f'{{"step":{i},"epoch":{epoch},"metrics":{{"m":{i}}}}}\n' for i, epoch in enumerate((0, 0.5, 1.0, 1.5))]
    (path / "history.jsonl").write_text("".join(lines))
    run = records.Run(path, "complete")
    assert [measure(run, "m", when) for when in (0, 1, 1.2, 9)] == [0, 2, 2, 3]
    assert math.isnan(measure(run, "m", 0.4))  # the look at initialisation is none of after training


@pytest.mark.parametrize("study", STUDIES)
def test_every_claim_is_whole_and_of_an_experiment(study):
    for claim in claims(study):
        assert {"experiment", "figure", "claim", "theirs", "holds"} <= claim.keys()
        assert len({"contrast", "slope", "table"} & claim.keys()) == 1
        assert "metric" in claim or "table" in claim
        assert claim["holds"].keys() <= {"above", "below"}
        assert (CONF / "experiment" / study / f"{claim['experiment']}.yaml").is_file()
        for weight, where in claim.get("contrast", []):
            assert weight
            assert where
        if len(claim.get("contrast", [])) > 1:
            assert sum(weight for weight, _ in claim["contrast"]) == 0


@pytest.mark.parametrize("study", STUDIES)
def test_every_experiment_has_a_claim(study):
    experiments = {path.stem for path in (CONF / "experiment" / study).glob("*.yaml")}
    assert experiments == {claim["experiment"] for claim in claims(study)}


def test_without_runs_every_claim_says_so_and_the_tables_are_written(tmp_path, capsys):
    (tmp_path / f"{claims(STUDIES[0])[0]['experiment']}-small").mkdir()
    assert main([STUDIES[0], str(tmp_path), "--budget", "small"]) == 0
    table = reproduction(STUDIES[0], tmp_path, "small")
    assert len(table) == len(claims(STUDIES[0]))
    assert set(table["verdict"]) == {"not comparable"}
    assert table["why"].str.startswith("no finished run in ").all()
    assert (tmp_path / "reproduction-small.md").read_text() in capsys.readouterr().out


def test_a_folder_or_budget_that_is_not_there_is_told_and_nothing_written(tmp_path, capsys):
    study = STUDIES[0]
    assert main([study, str(tmp_path / "typo"), "--budget", "small"]) == 2
    assert f"Give the folder of the study: multirun/{study}." in capsys.readouterr().err
    name = f"{claims(study)[0]['experiment']}-small"
    (tmp_path / name).mkdir()
    assert main([study, str(tmp_path), "--budget", "smal"]) == 2
    assert f"There are: {name}." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_study_that_is_not_there_is_told(capsys):
    assert main(["nowhere", "x"]) == 2
    assert "there are no claims of a study 'nowhere'. There are: " in capsys.readouterr().err
    with pytest.raises(AnalysisError):
        claims("nowhere")


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("holds", "own.yaml: claim 1 has no 'holds'; it needs experiment, figure, claim, theirs, holds, metric"),
        ("metric", "own.yaml: claim 1 has no 'metric'"),
        ("contrast", "own.yaml: claim 1 must have one of contrast, slope, table"),
    ],
)
def test_a_claim_that_lacks_a_part_is_told(tmp_path, monkeypatch, without, message):
    claim = {
        "experiment": "x",
        "figure": "1",
        "claim": "more",
        "theirs": "1",
        "holds": {"above": 0},
        "metric": "test/loss",
    }
    claim["contrast"] = [[1, {}]]
    monkeypatch.setattr("creditlab.analysis.studies.claims.CLAIMS", tmp_path)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump([claim]))
    assert claims("own") == [claim]
    del claim[without]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump([claim]))
    with pytest.raises(AnalysisError, match=message):
        claims("own")


FOLDERS = [CONF / "experiment" / study / own for study in STUDIES for own in ("", "surrogate", "learning_rates")]
EXPERIMENTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml")) if path.stem != "shared"]


def named(path):
    return path.relative_to(CONF / "experiment").with_suffix("").as_posix()


def sweeper(path):
    """The sweeper's keys of an experiment, those that it builds on included."""
    content = yaml.safe_load(path.read_text())
    found = {"params": {}, "budgets": {}}
    for entry in content.get("defaults", []):
        if isinstance(entry, str):
            base = sweeper(CONF / f"{entry.lstrip('/')}.yaml")
            found["params"] |= base["params"]
            found["budgets"] |= base["budgets"]
    own = content.get("hydra", {}).get("sweeper", {})
    found["params"] |= own.get("params", {})
    for name, keys in own.get("budgets", {}).items():
        found["budgets"][name] = found["budgets"].get(name, {}) | keys
    return found


@pytest.mark.parametrize("path", EXPERIMENTS, ids=named)
@pytest.mark.parametrize("budget", ["full", "small", "smoke"])
def test_every_experiment_composes_at_every_budget(plan, path, budget):
    """Its first run, checked as the sweep checks all."""
    told = sweeper(path)
    params = told["params"] | ({} if budget == "full" else told["budgets"][budget])
    words = []
    for key, value in params.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        text = text if text.startswith("[") else text.split(",")[0]
        text = "0" if text.startswith("range(") else text.split("],")[0] + ("]" if "],[" in text else "")
        if value is not None:
            words.append(f"{key}={text}")
    plan(f"+experiment={named(path)}", *words)
