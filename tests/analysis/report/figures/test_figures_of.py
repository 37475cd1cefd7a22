"""Each table that has something to show gives its figure, and one that has nothing gives none."""

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import load
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import runs
from creditlab.analysis.report.figures import figures_of
from creditlab.analysis.report.figures.drawing import to_bytes
from creditlab.analysis.table import Table
from tests.analysis.report.common import table_of

LEVELS = ("bp", "fa", "ff")


def frames() -> dict[str, pd.DataFrame]:
    """Frames as the statistics make them, with the columns that figures read."""
    metrics = ("test/accuracy", "weights/fc1/stable_rank")
    rows = [(m, "algorithm", 0.6, 0.4, 0.7) for m in metrics]
    anova = pd.DataFrame(rows, columns=["metric", "term", "omega_sq", "omega_sq_low", "omega_sq_high"])
    parts = [
        (m, term, share) for m in metrics for term, share in (("algorithm", 0.6), ("seed", 0.1), ("residual", 0.3))
    ]
    about = {"dataset": "digits", "score": "loss", "raters": "algorithm"}
    w = {"n_raters": 3, "W": 0.7, "ci_low": 0.6, "ci_high": 0.8, "noise_ceiling": 0.9, "p": 0.0}
    pairs = [{**about, "rater_a": a, "rater_b": b, "spearman": 0.5} for a, b in (("bp", "fa"), ("bp", "ff"))]
    steps = [("algorithm", a, "test/accuracy", s, 0.1 * s, 0.0, 1.0) for a in LEVELS for s in (0, 1, 5)]
    columns = ["factor", "level", "metric", "step", "mean", "low", "high"]
    return {
        "anova": anova,
        "shares": pd.DataFrame(parts, columns=["metric", "term", "share"]),
        "concordance": pd.DataFrame([{**about, **w}]),
        "concordance_pairs": pd.DataFrame([*pairs, {**about, "rater_a": "fa", "rater_b": "ff", "spearman": 0.4}]),
        "trajectories": pd.DataFrame(steps, columns=columns),
    }


def tables(sweep) -> dict[str, Table]:
    return {name: table_of(name, frame) for name, frame in frames().items()} | {"runs": runs(sweep)}


def fill(folder, depths):
    for algorithm in LEVELS:
        for depth in depths:
            for seed in range(2):
                ranks = {f"weights/{layer}/stable_rank": depth + seed for layer in ("block1", "block10", "readout")}
                metrics = {"test/accuracy": 0.1 * depth + 0.01 * seed, **ranks}
                folder.add(metrics, algorithm=algorithm, seed=seed, keys={"architecture.depth": depth})
    return load(folder.path)


def test_a_figure_for_each_table_and_for_each_numeric_factor(folder):
    sweep = fill(folder, (1, 2, 4))
    figures = {figure.name: figure for figure in figures_of(sweep, tables(sweep))}
    assert set(figures) == {
        *("variance_share", "effects", "concordance", "agreement_algorithm", "trajectories"),
        *("rank_by_layer", "curve_architecture_depth"),
    }
    assert figures["rank_by_layer"].title == "Rank by layer and depth"
    drawn = to_bytes(figures["rank_by_layer"].figure, "svg").decode()
    for depth in (1, 2, 4):
        assert f"architecture.depth {depth}" in drawn
    assert drawn.index(">block1<") < drawn.index(">block10<") < drawn.index(">readout<")
    assert all(figure.caption and figure.table for figure in figures.values())
    order = list(statistics())
    places = [order.index(figure.table) for figure in figures.values()]
    assert places == sorted(places)  # as the tables


def test_of_the_runs_alone_there_are_their_figures(folder):
    sweep = fill(folder, (1, 2))
    assert [figure.name for figure in figures_of(sweep, {"runs": runs(sweep)})] == ["rank_by_layer"]
    assert list(figures_of(sweep, {})) == []  # and two depths are no curve


TABLES = ["anova", "shares", "concordance", "concordance_pairs", "trajectories", "similarity_pairs", "rdms"]


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_table_is_not_drawn(folder, name):
    sweep = fill(folder, (1,))
    frame = frames().get(name, pd.DataFrame({"factor": [], "items": []}))
    drawn = figures_of(sweep, {name: table_of(name, frame.iloc[:0]), "runs": runs(sweep)})
    assert [figure.table for figure in drawn] == ["runs"]


def test_a_rater_that_cannot_be_compared_leaves_its_field_blank(folder):
    frame = frames()["concordance_pairs"]
    frame.loc[0, "spearman"] = np.nan
    (drawn,) = figures_of(fill(folder, (1,)), {"concordance_pairs": table_of("concordance_pairs", frame)})
    svg = to_bytes(drawn.figure, "svg").decode()
    assert "| bp | ff" in svg
    assert "| bp | fa" not in svg


def test_a_curve_has_a_panel_for_each_level_of_the_factor_beside_it(folder):
    for optimiser, gain in (("adamw", -1), ("muon", 1)):
        for depth in (1, 2, 4):
            for seed in range(2):
                for algorithm in LEVELS:
                    accuracy = 0.5 + 0.1 * gain * depth + 0.01 * seed
                    options = {"algorithm": algorithm, "optimiser": optimiser}
                    folder.add({"test/accuracy": accuracy}, seed=seed, keys={"architecture.depth": depth}, **options)
    sweep = load(folder.path)
    curve = next(f for f in figures_of(sweep, {"runs": runs(sweep)}) if f.name == "curve_architecture_depth")
    panels = {ax.get_title(): ax.get_lines()[0].get_ydata() for ax in curve.figure.axes}
    assert list(panels) == ["test/accuracy\noptimiser adamw", "test/accuracy\noptimiser muon"]
    assert panels["test/accuracy\noptimiser adamw"] == pytest.approx([0.405, 0.305, 0.105])
    assert panels["test/accuracy\noptimiser muon"] == pytest.approx([0.605, 0.705, 0.905])


def test_ranks_of_signals_come_first_with_a_panel_for_each_level_beside_the_rule(folder):
    for optimiser, rank in (("adamw", 5.0), ("muon", 9.0)):
        for seed in range(2):
            for algorithm in LEVELS:
                metrics = {f"{kind}/conv{i}/{name}": rank + i + seed for kind, name in KINDS for i in (1, 2)}
                folder.add(metrics, seed=seed, algorithm=algorithm, optimiser=optimiser)
    sweep = load(folder.path)
    figure = next(f for f in figures_of(sweep, {"runs": runs(sweep)}) if f.name == "rank_by_layer").figure
    panels = {ax.get_title(): ax.get_lines()[0].get_ydata() for ax in figure.axes}
    expected = [f"{kind}/·/{name}\noptimiser {o}" for kind, name in KINDS[::-1] for o in ("adamw", "muon")]
    assert list(panels) == expected
    assert panels["signals/·/gradient_effective_rank\noptimiser muon"] == pytest.approx([10.5, 11.5])


KINDS = (("changes", "stable_rank"), ("signals", "gradient_effective_rank"))
