"""REML with Kenward and Roger's and with Satterthwaite's degrees of freedom against lme4, lmerTest and pbkrtest."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis.model import reml
from creditlab.analysis.model.design import build
from creditlab.analysis.model.reml import Reml
from tests.analysis.oracles import data, numbers

TVBO = [key for key, value in numbers("tvbo").items() if isinstance(value, dict)]


def indicators(*columns) -> np.ndarray:
    group = pd.concat(columns, axis=1).astype(str).agg("|".join, axis=1)
    return pd.get_dummies(group).to_numpy(float)


def compare(model: Reml, oracle: dict, columns: dict[str, slice], scale: float = 1.0) -> None:
    """Deviance, variances, and each F test with both kinds of degrees of freedom."""
    solution = model.solutions[0]
    assert model.deviance[0] == pytest.approx(oracle["reml_deviance"], rel=1e-9)
    variances = np.array([*solution.theta * solution.sigma_sq, solution.sigma_sq]) * model.spread[0] ** 2
    expected = list(oracle["variance"].values())
    assert sorted(variances) == pytest.approx(sorted(expected), abs=1e-5 * sum(expected))
    for row in oracle["type3_kenward_roger"]:
        rows = np.eye(model.p)[columns[row["term"]]]
        f, df = solution._f_kenward_roger(rows)
        assert f == pytest.approx(row["F value"], rel=2e-5)
        assert df == pytest.approx(row["DenDF"], rel=1e-5)
        assert stats.f.sf(f, len(rows), df) == pytest.approx(row["Pr(>F)"], rel=1e-3)
    for row in oracle["type3_satterthwaite"]:
        rows = np.eye(model.p)[columns[row["term"]]]
        f, df = solution._f_satterthwaite(rows)
        if len(rows) == 1:  # with more, df depend on the basis of the contrasts where the design is not balanced
            assert f == pytest.approx(row["F value"], rel=2e-5)
            assert df == pytest.approx(row["DenDF"], rel=1e-4)


@pytest.mark.parametrize("metric", [name for name in TVBO if not numbers("tvbo")[name]["singular"]])
def test_crossed_random_effects(metric):
    runs = data("tvbo", "Assessor")
    design = build(runs, ["TVset", "Picture"])
    z = [indicators(runs["seed"], *(runs[name] for name in names)) for names in ((), ("TVset",), ("Picture",))]
    model = Reml(design.matrix(), z, runs[[metric]].to_numpy(float))
    compare(model, numbers("tvbo")[metric], {":".join(term): at for term, at in design.columns_of.items()})


@pytest.mark.parametrize(("key", "blocks"), [("mixed", ((), ("recipe",))), ("mixed2", (("recipe",),))])
def test_a_split_plot(key, blocks):
    runs = data("cake", "replicate")
    design = build(runs, ["recipe", "temperature"])
    z = [indicators(runs["seed"], *(runs[name] for name in names)) for names in blocks]
    model = Reml(design.matrix(), z, runs[["angle"]].to_numpy(float))
    compare(model, numbers("cake")[key], {":".join(term): at for term, at in design.columns_of.items()})


@pytest.mark.parametrize("by", ["recipe", "recipe|temperature"])
def test_pairs_are_those_of_emmeans(by):
    """Estimate, standard error and Kenward and Roger's degrees of freedom, marginal and inside a temperature."""
    runs = data("cake", "replicate")
    design = build(runs, ["recipe", "temperature"])
    z = [indicators(runs["seed"]), indicators(runs["seed"], runs["recipe"])]
    model = Reml(design.matrix(), z, runs[["angle"]].to_numpy(float))
    cells = design.matrix(design.grid)
    for row in numbers("cake")["mixed"][f"pairs_kenward_roger|{by}"]:
        term = tuple(by.split("|"))
        at = [design.levels[1].index(str(row["temperature"]))] if len(term) > 1 else []
        a, b = (design.levels[0].index(level) for level in row["contrast"].split(" - "))
        weights = design.level_weights(term, (a, *at)) - design.level_weights(term, (b, *at))
        value, error, df = model.solutions[0].estimate(weights @ cells)
        ours = [value * model.spread[0], error * model.spread[0]]
        assert ours == pytest.approx([row["estimate"], row["SE"]], rel=1e-5)
        assert df == pytest.approx(row["df"], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "key", "slopes"),
    [
        ("sleepstudy", "mixed", ["x"]),
        ("sleepstudy", "mixed2", ["x", "x2"]),
        ("sleepstudy", "mixed3", []),
        ("sleepstudy_missing", "mixed", ["x"]),
    ],
)
def test_random_slopes(name, key, slopes):
    runs, oracle = data(name, "Subject"), numbers(name)[key]
    fixed = [row["term"] for row in oracle["type3_kenward_roger"]]
    x = np.column_stack([np.ones(len(runs)), runs[fixed].to_numpy(float)])
    seed = indicators(runs["seed"])
    z = [seed, *(seed * runs[[slope]].to_numpy(float) for slope in slopes)]
    model = Reml(x, z, runs[["Reaction"]].to_numpy(float))
    compare(model, oracle, {term: slice(i, i + 1) for i, term in enumerate(fixed, 1)})


def test_a_variance_below_0():
    """Box & Tiao's data, whose variance between batches is below 0: the numbers of an analysis of variance."""
    runs, oracle = data("dyestuff2_boundary", "Batch"), numbers("dyestuff2_boundary")["unbounded"]
    model = Reml(np.ones((len(runs), 1)), [indicators(runs["seed"])], runs[["Yield"]].to_numpy(float))
    solution, scale = model.solutions[0], model.spread[0]
    assert solution.theta[0] * solution.sigma_sq * scale**2 == pytest.approx(oracle["variance_batch"], rel=1e-6)
    assert solution.sigma_sq * scale**2 == pytest.approx(oracle["variance_residual"], rel=1e-6)
    assert model.deviance[0] == pytest.approx(oracle["reml_deviance"], rel=1e-9)
    _, error, df = solution.estimate(np.ones(1))
    assert error * scale == pytest.approx(oracle["se_mean"], rel=1e-6)
    assert df == pytest.approx(5, rel=1e-6)  # six batches, not 30 runs


def test_derivatives_are_those_of_the_deviance():
    """Gradient and Hessian against central differences, at a θ with a negative part."""
    runs = data("sweep_missing")
    design = build(runs, ["algorithm", "optimiser"])
    z = [indicators(runs["seed"], *(runs[name] for name in names)) for names in ((), ("algorithm",), ("optimiser",))]
    model = Reml(design.matrix(), z, runs[["loss"]].to_numpy(float))
    theta, step = np.array([0.3, 0.5, -0.05]), 1e-5
    at = model.slopes(theta, 0)
    steps = np.eye(3) * step
    up, down = ([model.slopes(theta + sign * e, 0) for e in steps] for sign in (1, -1))
    numeric = [(a.deviance - b.deviance) / (2 * step) for a, b in zip(up, down, strict=True)]
    assert at.gradient(model.nu) == pytest.approx(np.array(numeric), rel=1e-6, abs=1e-6)
    second = [(a.gradient(model.nu) - b.gradient(model.nu)) / (2 * step) for a, b in zip(up, down, strict=True)]
    assert at.hessian(model.nu) == pytest.approx(np.array(second), rel=1e-5, abs=1e-5)


def test_positive_definiteness_is_that_of_v():
    rng = np.random.default_rng(0)
    z = [np.eye(4)[np.repeat(range(4), 6)], np.eye(3)[np.tile(np.repeat(range(3), 2), 4)]]
    model = Reml(np.ones((24, 1)), z, rng.normal(size=(24, 1)))
    for theta in rng.normal(scale=0.2, size=(200, 2)):
        v = np.eye(24) + sum(t * each @ each.T for t, each in zip(theta, z, strict=True))
        assert model.positive(theta) == (np.linalg.eigvalsh(v)[0] > 0)


def test_many_runs_have_the_degrees_of_freedom_of_satterthwaite(monkeypatch):
    """Above the limit; in a balanced design both agree."""
    runs = data("sweep_complete")
    design = build(runs, ["algorithm", "optimiser"])
    z = [indicators(runs["seed"], *(runs[name] for name in names)) for names in ((), ("algorithm",), ("optimiser",))]
    model = Reml(design.matrix(), z, runs[["accuracy"]].to_numpy(float))
    rows = np.eye(model.p)[design.columns_of["algorithm",]]
    few = model.solutions[0].f_test(rows)
    monkeypatch.setattr(reml, "KENWARD_ROGER_UP_TO", 10)
    many = model.solutions[0].f_test(rows)
    assert few == pytest.approx(many, rel=1e-6)
    assert many[1] == pytest.approx(8, rel=1e-6)
