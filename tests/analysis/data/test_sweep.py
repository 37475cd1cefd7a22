"""A sweep that is made of a frame, and what a sweep says of itself."""

from __future__ import annotations

import re

import pandas as pd

from creditlab import records
from creditlab.analysis import load
from creditlab.analysis.data.histories import histories
from creditlab.analysis.data.sweep import Sweep, runs
from tests.analysis.data.test_collect import metrics


def test_a_sweep_of_a_frame():
    frame = pd.DataFrame({"algorithm": ["bp", "fa", "es"], "seed": 0, "status": ["complete", "diverged", "failed"]})
    sweep = Sweep.of(
        frame.assign(**{"test/loss": 1.0, "test/loss@init": 2.0}), ["algorithm"], ["test/loss", "test/loss@init"]
    )
    assert (sweep.factors, sweep.outcomes) == (["algorithm"], ["test/loss"])
    assert sweep.metrics == ["test/loss", "test/loss@init"]
    assert list(sweep.usable["algorithm"]) == ["bp", "fa"]  # one that diverged is finished, one that failed is not
    assert list(sweep.complete["algorithm"]) == ["bp"]
    assert repr(sweep) == ("<Sweep of a frame: 1 complete, 1 diverged, 1 failed; algorithm (3); 1 seeds; 1 metrics>")
    assert len(runs(sweep)) == 3
    assert histories(sweep).empty


def test_a_sweep_of_a_folder_names_it(folder):
    folder.cross(metrics, 2, algorithm=["bp", "fa"])
    assert repr(load(folder.path)) == "<Sweep sweep: 4 complete; algorithm (2); 2 seeds; 1 metrics>"


def test_histories_have_the_metrics_of_each_step_and_the_mean_change_of_the_weights(folder):
    for algorithm in ("bp", "fa"):
        run = folder.add({"test/accuracy": 0.9}, algorithm=algorithm)
        looks = ['{"w/a/relative_change":1,"w/b/relative_change":3}', '{"w/a/relative_change":2}', '{"test/loss":4}']
        lines = [
            f'{{"step":{i},"epoch":{i},"metrics":{look.replace("w/", "weights/")}}}\n' for i, look in enumerate(looks)
        ]
        (run / "history.jsonl").write_text("".join(lines))
        summary = run / "summary.json"
        digest = records.digest(run / "history.jsonl")
        summary.write_text(re.sub('"history_sha256": *"[^"]*"', f'"history_sha256": "{digest}"', summary.read_text()))
    table = histories(load(folder.path)).set_index(["algorithm", "step"])
    assert table.loc["fa", "weights/relative_change"].tolist()[:2] == [2, 2]
    assert table.loc["fa", "weights/relative_change"].isna().tolist() == [False, False, True]
    assert table.loc["bp", "test/loss"].isna().tolist() == [True, True, False]
