"""One step of each distinct rule is tried before a sweep, in a process whose death stops nothing."""

import textwrap

import pytest

from creditlab.parts import assemble
from creditlab.sweep import trial
from creditlab.sweep.trial import Trials, is_own, orders
from tests.common import SMALL, options


@pytest.fixture
def rules(own_package):
    """A rule with a loss that does not fit the labels, in the user's package."""
    (own_package / "bad_rules.py").write_text(
        textwrap.dedent(
            """
            import torch
            from creditlab.algorithms.bp import Backpropagation

            class Squared(Backpropagation):
                def assign(self, network, batch):
                    torch.nn.functional.mse_loss(network(batch.x), batch.y).backward()
            """
        )
    )
    (own_package / "my_conf" / "algorithm" / "squared.yaml").write_text("_target_: bad_rules.Squared\n")
    return own_package


def test_a_loss_that_does_not_fit_the_labels_is_refused_before_the_first_run(creditlab, rules):
    answer = creditlab("--config-dir=my_conf", "-m", "sweep=s", "algorithm=bp,squared", "seed=0,1")
    assert answer.code == 2
    problem = "creditlab: algorithm=squared with architecture=mlp on dataset=digits: RuntimeError: The size of tensor"
    assert problem in answer.err
    assert not (rules / "multirun").exists()


def test_only_parts_of_the_users_own_are_tried(plan):
    config = plan(*SMALL, "algorithm=fa").config
    assert not is_own(config)
    assert is_own(config | {"algorithm": {"_target_": "bad_rules.Squared"}})
    assert is_own(config | {"dataset": {**config["dataset"], "more": [{"_target_": "my.Thing"}]}})


def test_no_rule_of_ours_is_refused(plan):
    configs = [plan(*SMALL, f"algorithm={name}", "architecture.widths=[8,8]").config for name in options("algorithm")]
    with Trials() as trials:
        for config in configs:
            trials.add(config, assemble(config))
        assert trials.problem() is None
        assert trials.process.returncode == 0  # it has tried them all


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Trials whose orders are words: what a step does. Each step that is taken adds its word to a file."""
    script = tmp_path / "step.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, time
            from creditlab.sweep import trial

            def take_step(order):
                word = order.decode()
                with open({str(tmp_path / "taken.txt")!r}, "a") as file:
                    file.write(word + " ")
                if word == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if word == "fill":
                    raise MemoryError
                if word == "wait":
                    time.sleep(60)
                if word == "fail":
                    raise ValueError("one\\ntwo")

            trial.take_step = take_step
            trial.main()
            """
        )
    )
    monkeypatch.setattr(trial, "SECONDS", 200.0)
    monkeypatch.setattr(trial, "COMMAND", [*trial.COMMAND[:1], str(script)])

    def run(*words: str) -> tuple[str | None, list[str]]:
        with Trials() as trials:
            trials.orders, trials.names = [word.encode() for word in words], [f"rule {n}" for n in range(len(words))]
            problem = trials.problem()
        taken = tmp_path / "taken.txt"
        return problem, taken.read_text().split() if taken.exists() else []

    return run


def test_a_death_stops_its_own_trial_only(steps):
    assert steps("well", "die", "well", "die", "fail", "well") == (
        "rule 4: one",
        ["well", "die", "well", "die", "fail"],
    )


def test_a_death_at_the_end_is_no_problem(steps):
    assert steps("well", "die") == (None, ["well", "die"])


def test_a_lack_of_memory_is_no_fault_of_the_rule(steps):
    assert steps("fill", "well") == (None, ["fill", "well"])


def test_trials_end_in_time(steps, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 10.0)
    assert steps("wait", "fail")[0] is None


def test_without_a_process_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(trial, "COMMAND", ["/no/such/program"])
    with Trials() as trials:
        trials.orders, trials.names = [b"fail"], ["rule"]
        assert trials.problem() is None


def test_orders_are_divided_by_their_lengths():
    content = b"".join(len(order).to_bytes(8, "big") + order for order in (b"one", b"", b"three"))
    assert list(orders(content)) == [b"one", b"", b"three"]
