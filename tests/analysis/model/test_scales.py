"""Scales: what is compared, and how it comes back into the metric's own unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditlab.analysis.model.design import build
from creditlab.analysis.model.scales import Scale, check_patterns, samples_behind, scale_of
from creditlab.analysis.model.strata import Strata
from creditlab.analysis.names import AnalysisError
from tests.analysis.oracles import data, numbers

SCALES = [Scale("logit", 360), Scale("logit"), Scale("log"), Scale()]
INSIDE = st.floats(0.01, 0.99)


def test_the_kind_of_a_metric_decides():
    values = np.array([0.25, 0.5, 0.75])
    kinds = {name: scale_of(name, values).kind for name in ("test/accuracy", "test/loss", "weights/fc1/stable_rank")}
    assert list(kinds.values()) == ["logit", "log", "identity"]
    assert scale_of("weights/fc1/stable_rank", values, {"weights/*": "log"}).kind == "log"
    assert scale_of("test/loss", values, {"test/loss": "identity"}).kind == "identity"


def test_values_without_a_logarithm_are_compared_as_they_are():
    assert scale_of("test/loss", np.array([-0.1, 0.5])).kind == "identity"
    asked = scale_of("weights/a", np.array([0.0, 0.5]), {"weights/*": "log"})
    assert asked.kind == "identity"
    assert "no logarithm" in asked.note


def test_the_number_of_samples_is_seen_from_the_shares():
    counts = np.array([348, 350, 333, 359])
    assert samples_behind(counts / 359) == 359
    assert samples_behind((counts / 359).astype(np.float32).astype(float)) == 359
    assert samples_behind(np.array([0.5, 1.0])) == 2
    assert samples_behind(np.array([1 / np.pi, 1 / np.e, 0.7123456789])) is None


def test_all_right_has_odds():
    """logit((k + ½)/(n − k + ½)) of the reference, for k = n too."""
    scale = scale_of("test/accuracy", np.array([1.0, 0.5, 3 / 8]))
    assert scale.samples == 8
    assert scale.of(np.array([1.0])) == pytest.approx(np.log(8.5 / 0.5))
    assert scale_of("test/accuracy", np.array([1.0, 1 / np.pi, 1 / np.e])).kind == "identity"  # n is not known


@given(st.sampled_from(SCALES), INSIDE)
def test_back_undoes_of(scale, value):
    assert scale.back(scale.of(np.array(value))) == pytest.approx(value)


@given(st.sampled_from(SCALES), INSIDE, INSIDE)
def test_a_difference_is_that_of_the_two_levels(scale, a, b):
    """Around their mean on the scale, the difference in units is exactly a − b."""
    on_scale = scale.of(np.array([a, b]))
    assert scale.difference(on_scale.mean(), on_scale[0] - on_scale[1]) == pytest.approx(a - b, abs=1e-12)


@given(st.sampled_from(SCALES), INSIDE, st.floats(-3, 3))
def test_an_interval_excludes_0_on_the_one_scale_where_it_does_on_the_other(scale, middle, difference):
    around = scale.of(np.array(middle))
    assert np.sign(np.round(scale.difference(around, np.array(difference)), 12)) in (0, np.sign(difference))


def test_a_pattern_that_no_metric_matches_is_an_error():
    check_patterns({"test/*": "log"}, ["test/loss"])
    with pytest.raises(AnalysisError, match=r"no metric matches 'test/los'.*Did you mean test/loss"):
        check_patterns({"test/los": "log"}, ["test/loss"])


def test_accuracy_on_the_logit_scale_as_r_tests_it():
    """The plain logit in R; that of right and wrong answers plus a half each hardly differs from it."""
    runs, term = data("sweep_complete"), ("algorithm",)
    design, accuracy = build(runs, ["algorithm", "optimiser"]), runs[["accuracy"]].to_numpy(float)
    plain, counted = (Strata(design, Scale("logit", n).of(accuracy)).test(term).f[0] for n in (None, 359))
    assert plain == pytest.approx(numbers()["logit_accuracy_algorithm_F"], rel=1e-9)
    assert counted == pytest.approx(plain, rel=0.03)
