"""The storm of kills of the benchmarks, at a tiny size."""

import shutil

from benchmarks import kill_storm


def test_a_sweep_whose_processes_are_killed_ends_as_if_nothing_had_happened(capsys):
    assert kill_storm.main(["--kills", "3", "--seeds", "1"]) == 0
    assert "0 differences from the undisturbed sweep" in capsys.readouterr().out


def test_a_difference_is_shown(swept):
    calm, stormy = swept / "calm", swept / "stormy"
    for folder in (calm, stormy):
        shutil.copytree(swept / "multirun" / "s", folder / "multirun" / "storm")
    assert kill_storm.differences(stormy, calm) == []
    first, second, third, fourth = sorted((stormy / "multirun" / "storm").glob("bp*")) + sorted(
        (stormy / "multirun" / "storm").glob("fa*")
    )
    (first / "weights.safetensors").write_bytes((second / "weights.safetensors").read_bytes())
    (second / "lock").write_text("{}")
    (third / "summary.json").unlink()
    shutil.rmtree(fourth)
    assert kill_storm.differences(stormy, calm) == [
        f"{fourth.name}: there is no such run",
        f"{first.name}: weights.safetensors",
        f"{second.name}: lock was left",
        f"{third.name}: unfinished ",
    ]
