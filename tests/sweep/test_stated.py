"""The claims that the plan of a sweep records before its first run is finished."""

import pytest
from omegaconf import OmegaConf

from creditlab import records
from creditlab.__main__ import CONF
from creditlab.sweep.plan import write_plan
from creditlab.sweep.stated import claims_of, print_unknown
from tests.common import SMALL

TEXT = "- {claim: more, metric: test/accuracy, difference: {algorithm: [bp, fa]}, holds: {above: BOUND}}\n"


def claims(tmp_path, bound=0):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("BOUND", str(bound)))
    return records.read_claims(path)


def hydra(folder, experiment="demo", given=None):
    sources = [{"path": str(folder), "schema": "file"}, {"path": "hydra.conf", "schema": "pkg"}]
    runtime = {"choices": {"experiment": experiment}, "config_sources": sources}
    return OmegaConf.create({"sweeper": {"claims": given}, "runtime": runtime})


def finish(run):
    run.folder.mkdir()
    records.begin(run.folder, run.config, {})
    history = records.History(run.folder / "history.jsonl")
    history.close()
    records.finish(run.folder, run.config, "complete", 1, {"test/accuracy": 0.5}, {"seconds": 1.0})


def test_they_are_those_given_or_those_beside_the_experiment(tmp_path):
    path = tmp_path / "experiment" / "demo.claims.yml"
    path.parent.mkdir()
    assert claims_of(hydra(tmp_path)) is None
    given = claims(tmp_path)
    path.write_text(TEXT.replace("BOUND", "1"))
    assert claims_of(hydra(tmp_path)).claims[0]["holds"] == {"above": 1}
    assert claims_of(hydra(tmp_path, given=str(tmp_path / "mine.yaml"))) == given
    assert claims_of(hydra(tmp_path, experiment=None)) is None
    path.write_text("- claim: more\n")
    with pytest.raises(records.RecordError, match=r"demo\.claims\.yml: claim 1 \(more\) must have one of"):
        claims_of(hydra(tmp_path))


def test_those_of_the_demo_are_whole_and_about_its_runs(plan, capsys):
    beside = claims_of(hydra(CONF))
    assert len(beside.claims) == 4
    runs = [plan(f"algorithm={a}", f"optimiser={o}") for a in ("bp", "fa", "es", "ff") for o in ("adamw", "muon")]
    print_unknown(beside, [run.config for run in runs], {})
    assert capsys.readouterr().err == ""


def test_the_plan_keeps_them_as_they_were_before_the_first_run_was_finished(plan, tmp_path, capsys):
    runs = [plan(*SMALL, f"algorithm={algorithm}", folder=tmp_path) for algorithm in ("bp", "fa")]

    def kept(given) -> dict:
        write_plan(tmp_path, runs, ["algorithm"], given)
        return records.read_plan(tmp_path).get("claims", {})

    assert kept(None) == {}
    first = claims(tmp_path)
    assert kept(first)["sha256"] == first.sha256
    assert kept(None)["text"] == first.text
    second = claims(tmp_path, bound=0.1)
    assert kept(second)["text"] == second.text  # no run is finished yet
    assert capsys.readouterr().err == ""
    finish(runs[0])
    assert kept(claims(tmp_path, bound=0.2))["text"] == second.text
    assert "mine.yaml: runs are finished, so the plan keeps those recorded before.\n" in capsys.readouterr().err
    assert kept(second)["text"] == second.text
    assert capsys.readouterr().err == ""


def test_claims_that_come_after_a_run_are_not_recorded(plan, tmp_path, capsys):
    run = plan(*SMALL, folder=tmp_path)
    finish(run)
    write_plan(tmp_path, [run], ["seed"], claims(tmp_path))
    assert "claims" not in records.read_plan(tmp_path)
    assert "they are not recorded as stated before the runs.\n" in capsys.readouterr().err


def test_a_claim_about_no_run_is_said_and_refuses_nothing(plan, tmp_path, capsys):
    config = plan(*SMALL, "algorithm=bp").config
    print_unknown(claims(tmp_path), [config], {})
    message = "mine.yaml: claim 1 (more): no run has algorithm=fa. There are: bp.\n"
    assert capsys.readouterr().err.endswith(message)
    print_unknown(claims(tmp_path), [config], {"factors": {"algorithm": ["fa"]}})  # of an earlier command
    assert capsys.readouterr().err == ""
