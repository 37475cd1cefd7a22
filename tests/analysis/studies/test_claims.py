"""Claims held to sweeps: the verdicts by their rule, the files of claims, the experiments that they are of."""

import pytest
import yaml

from creditlab import records
from creditlab.__main__ import CONF
from creditlab.analysis.claims.quantities import Quantity
from creditlab.analysis.names import AnalysisError
from creditlab.analysis.studies.claims import CLAIMS, claims, main, reproduction, verdict
from creditlab.records import RecordError

STUDIES = sorted(path.stem for path in CLAIMS.glob("*.yaml"))


@pytest.mark.parametrize(
    ("low", "high", "seeds", "holds", "expected"),
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
def test_the_rule(low, high, seeds, holds, expected):
    assert verdict(Quantity((low + high) / 2, low, high, seeds), holds)[0] == expected
    assert verdict(Quantity(low, seeds=5), holds) == ("not comparable", "there is no interval")
    assert verdict(Quantity(low, low, seeds=5), holds) == ("not comparable", "there is no interval")
    assert verdict(Quantity(problem="no run"), holds) == ("not comparable", "no run")


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


def test_a_folder_or_budget_that_is_not_there_is_named_and_nothing_written(tmp_path, capsys):
    study = STUDIES[0]
    assert main([study, str(tmp_path / "typo"), "--budget", "small"]) == 2
    assert f"Give the folder of the study: multirun/{study}." in capsys.readouterr().err
    name = f"{claims(study)[0]['experiment']}-small"
    (tmp_path / name).mkdir()
    assert main([study, str(tmp_path), "--budget", "smal"]) == 2
    assert f"There are: {name}." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_study_that_is_not_there_is_named(capsys):
    assert main(["nowhere", "x"]) == 2
    assert "there are no claims of a study 'nowhere'. There are: " in capsys.readouterr().err
    with pytest.raises(AnalysisError):
        claims("nowhere")


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("holds", r"mine.yaml: claim 1 \(more\) has no 'holds'; it needs claim, metric, holds, contrast"),
        ("metric", r"mine.yaml: claim 1 \(more\) has no 'metric'"),
        ("contrast", r"mine.yaml: claim 1 \(more\) must have one of cell, difference, ratio, equivalence, slope, con"),
        ("theirs", "mine.yaml: claim 1 has no 'theirs'; it needs experiment, figure, theirs"),
    ],
)
def test_a_claim_that_lacks_a_part_is_named(tmp_path, monkeypatch, without, message):
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
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump([claim]))
    assert claims("mine") == [claim]
    del claim[without]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump([claim]))
    with pytest.raises((AnalysisError, RecordError), match=message):
        claims("mine")


FOLDERS = [CONF / "experiment" / study / part for study in STUDIES for part in ("", "surrogate", "learning_rates")]
EXPERIMENTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml")) if path.stem != "shared"]


def named(path):
    return path.relative_to(CONF / "experiment").with_suffix("").as_posix()


def sweeper(path):
    """The sweeper's keys of an experiment, those that it builds on included."""
    content = yaml.safe_load(path.read_text())
    keys_of = {"params": {}, "budgets": {}}
    for entry in content.get("defaults", []):
        if isinstance(entry, str):
            base = sweeper(CONF / f"{entry.lstrip('/')}.yaml")
            keys_of["params"] |= base["params"]
            keys_of["budgets"] |= base["budgets"]
    direct = content.get("hydra", {}).get("sweeper", {})
    keys_of["params"] |= direct.get("params", {})
    for name, keys in direct.get("budgets", {}).items():
        keys_of["budgets"][name] = keys_of["budgets"].get(name, {}) | keys
    return keys_of


@pytest.mark.parametrize("path", EXPERIMENTS, ids=named)
@pytest.mark.parametrize("budget", ["full", "small", "smoke"])
def test_every_experiment_composes_at_every_budget(plan, path, budget):
    """Its first run, checked as the sweep checks all."""
    keys_of = sweeper(path)
    params = keys_of["params"] | ({} if budget == "full" else keys_of["budgets"][budget])
    words = []
    for key, value in params.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        text = text if text.startswith("[") else text.split(",")[0]
        text = "0" if text.startswith("range(") else text.split("],")[0] + ("]" if "],[" in text else "")
        if value is not None:
            words.append(f"{key}={text}")
    plan(f"+experiment={named(path)}", *words)
