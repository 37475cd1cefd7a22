from creditlab import records
from creditlab.sweep.status import survey


def test_failures_of_one_cause_are_told_together_whatever_folder_they_name(tmp_path):
    sweep = tmp_path / "sweep"
    for name in ("bp-s0-a", "bp-s1-b"):
        folder = sweep / name
        folder.mkdir(parents=True)
        records.fail(folder, {}, OSError(28, "No space left on device", str(folder / "weights.safetensors")), step=3)
    (cause,) = survey(sweep).problems
    assert cause == "OSError: [Errno 28] No space left on device: 'weights.safetensors'"
    assert len(survey(sweep).problems[cause]) == 2
