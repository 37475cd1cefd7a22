"""A finished run whose code has changed since, and a request that a finished run does not serve."""

import json

import pytest

from creditlab import records
from creditlab.sweep.launcher import must_run

COMMAND = ["--config-dir=my_conf", "algorithm=mine"]


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_an_edited_rule_is_named_and_trained_again_if_asked(creditlab, own_package, sweep):
    rules = own_package / "my_rules.py"
    command = [*COMMAND[:1], *sweep, *COMMAND[1:], "sweep=s"]
    creditlab(*command)
    (run,) = records.read_sweep(own_package / "multirun" / "s")
    assert list(run.record["code"]) == ["my_rules"]
    assert "has changed" not in creditlab(*command).err
    rules.write_text(
        rules.read_text().replace("return super().assign(network, batch)", "return super().assign(network, batch)  # .")
    )
    again = creditlab(*command)
    assert again.code == 0
    assert f"{rules} has changed since a run finished. retry=changed trains again what has changed." in again.err
    (unchanged,) = records.read_sweep(own_package / "multirun" / "s")
    assert unchanged.record == run.record
    assert "has changed" not in creditlab(*command, "retry=changed").err
    (trained,) = records.read_sweep(own_package / "multirun" / "s")
    assert trained.record["code"] != run.record["code"]
    assert "has changed" not in creditlab(*command).err


def test_an_interrupted_run_of_other_code_starts_over(creditlab, own_package):
    creditlab(*COMMAND, "sweep=s")
    (run,) = records.read_sweep(own_package / "multirun" / "s")
    (run.folder / "summary.json").unlink()
    (run.folder / "checkpoint.pt").write_bytes(b"of the old code")
    (own_package / "my_rules.py").write_text((own_package / "my_rules.py").read_text() + "# changed\n")
    again = creditlab(*COMMAND, "sweep=s")
    assert "my_rules.py has changed since a run stopped. What has changed starts over, from step 0." in again.err
    assert "cannot be used" not in again.err  # the checkpoint was not even read
    assert "complete:" in again.out


def test_another_version_of_creditlab_is_named(creditlab, swept):
    folder = next(swept.glob("multirun/s/bp-*-s0-*"))
    record = json.loads((folder / "run.json").read_text())
    record["versions"]["creditlab"] = "0.0.1"
    del record["sha256"]  # which would show that the record was edited
    (folder / "run.json").write_text(json.dumps(record))
    answer = creditlab("-m", "sweep=s", "algorithm=bp,fa", "seed=range(2)")
    assert "creditlab 0.0.1 (now " in answer.err
    assert ") has changed since a run finished." in answer.err


def test_retry_changed_repeats_what_has_changed_and_what_failed(tmp_path):
    def decisions(retry: str, changes: list[str]) -> list[bool]:
        return [
            must_run(records.Run(tmp_path, status), retry, changes) for status in ("complete", "diverged", "failed")
        ]

    assert decisions("changed", ["rule.py"]) == [True, True, True]
    assert decisions("changed", []) == [False, False, True]
    assert decisions("failed", ["rule.py"]) == [False, False, True]


def test_a_finished_run_says_what_has_no_effect_and_checks_the_request(creditlab, swept):
    command = ["sweep=s", "algorithm=bp", "seed=0"]
    answer = creditlab(*command, "tracker=tensorboard")
    assert answer.code == 0
    assert "finished before, complete: multirun/s/bp-adamw-digits-mlp-s0-" in answer.out
    assert "a run finished before, so tracker=TensorBoard has no effect there." in answer.err
    for request in ([*command], ["-m", *command]):
        refused = creditlab(*request, "device=cuda:99")
        assert refused.code == 2
        assert "device=cuda:99: not on this machine" in refused.err
    plain = creditlab(*command)
    assert "finished before" in plain.out
    assert plain.err == ""
