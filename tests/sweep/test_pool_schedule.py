import math
from pathlib import Path

import pytest

from creditlab.sweep.plan import Planned
from creditlab.sweep.schedule import Expectation, Schedule


def run(algorithm, seed=0, lr=0.1):
    config = {
        "choices": {"algorithm": algorithm},
        "algorithm": {"_target_": algorithm},
        "optimiser": {"lr": lr},
        "seed": seed,
    }
    return Planned(config, Path(f"{algorithm}-{seed}-{lr}"), dict)


def names(schedule):
    return [str(schedule.take()[0].folder) for _ in range(len(schedule))]


def test_the_longest_comes_first_and_what_is_unknown_before_it_once():
    expectation = Expectation()
    expectation.learn(run("bp", 7).config, 2.0)
    expectation.learn(run("fa", 7).config, 9.0)
    runs = [run("bp"), run("bp", 1), run("fa"), run("es"), run("es", 1)]
    assert names(Schedule(runs, expectation)) == ["es-0-0.1", "fa-0-0.1", "es-1-0.1", "bp-0-0.1", "bp-1-0.1"]


def test_what_is_learnt_on_the_way_changes_the_order():
    schedule = Schedule([run(a, s) for a in ("bp", "es") for s in range(3)], Expectation())
    assert names_of_two(schedule) == ["bp", "es"]
    schedule.expectation.learn(run("es").config, 100.0)
    schedule.expectation.learn(run("bp").config, 1.0)
    assert [name.split("-")[0] for name in names(schedule)] == ["es", "es", "bp", "bp"]


def names_of_two(schedule):
    return [str(schedule.take()[0].folder).split("-")[0] for _ in range(2)]


def test_expected_seconds_are_means_of_the_most_alike():
    expectation = Expectation()
    assert expectation.guess(run("bp").config) is None
    for seed, seconds in ((1, 2.0), (2, 4.0)):
        expectation.learn(run("bp", seed).config, seconds)
    expectation.learn(run("bp", 1, lr=5).config, 30.0)
    expectation.learn(run("bp").config, None)  # a summary of an odd kind
    assert expectation.of(run("bp", 3).config) == 3.0
    assert expectation.of(run("bp", 3, lr=7).config) == pytest.approx(12.0)
    assert expectation.of(run("fa").config) is None
    assert expectation.guess(run("fa").config) == pytest.approx(12.0)
    assert Schedule([run("bp"), run("bp", 1), run("fa")], expectation).seconds() == pytest.approx(3 + 3 + 12)
    assert Schedule([run("bp")], Expectation()).seconds() is None


def test_runs_that_differ_in_nothing_but_the_seed_are_taken_at_once():
    runs = [run(a, s, lr) for s in range(3) for a, lr in (("bp", 0.1), ("bp", 0.2), ("fa", 0.1))]
    elsewhere = run("bp", 3)
    elsewhere.config["device"] = "cuda:1"
    schedule = Schedule([*runs, elsewhere], Expectation())
    taken = []
    while schedule:
        taken.append(sorted(str(run.folder) for run in schedule.take(2)))
    pairs = [[f"{kind[:2]}-{s}-{kind[2:]}" for s in (0, 1)] for kind in ("bp0.1", "bp0.2", "fa0.1")]
    assert all(pair in taken for pair in pairs)
    assert ["bp-3-0.1"] in taken
    assert len(taken) == 7


def test_what_is_passed_over_keeps_its_place_before_what_waits_behind_it():
    """Runs on two devices are of one kind, but no group has both: those of the other device keep their order."""
    runs = [run("bp", seed) for seed in range(6)]
    for number in (1, 2, 4):
        runs[number].config["device"] = "cuda:1"
    schedule = Schedule(runs, Expectation())
    taken = [[run.config["seed"] for run in schedule.take(2)] for _ in range(3)]
    assert taken == [[0, 3], [1, 2], [4]]
    assert [run.config["seed"] for run in schedule.take(2)] == [5]


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_not_finite_teaches_nothing(seconds):
    """A spoilt summary may hold one: it must not decide the order of all runs, nor the time that is left."""
    expectation = Expectation()
    expectation.learn(run("bp").config, seconds)
    assert expectation.guess(run("bp").config) is None
    expectation.learn(run("bp").config, 2.0)
    assert expectation.guess(run("bp", 1).config) == 2.0


def test_runs_that_are_put_back_come_first_among_their_kind():
    schedule = Schedule([run("bp", seed) for seed in range(3)], Expectation())
    schedule.put_back(schedule.take(2))
    assert names(schedule) == ["bp-0-0.1", "bp-1-0.1", "bp-2-0.1"]
