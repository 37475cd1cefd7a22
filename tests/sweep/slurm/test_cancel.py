def test_cancel_without_submissions(creditlab, swept):
    answer = creditlab("multirun/s", module="creditlab.sweep.slurm.cancel")
    assert answer.code == 2
    assert "has submitted nothing to SLURM" in answer.err
