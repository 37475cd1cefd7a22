"""Runs that differ only in the seed, trained at once by one process: `hydra.launcher.together`.

    (ℓ_1, …, ℓ_R) = vmap(ℓ)(θ, x, y),   ∂(Σ_r ℓ_r)/∂θ,   θ the parameters of R networks, stacked

A GPU computes the step of a small network faster than Python can call its operations. Here each call is for all R
networks. Each run keeps its own `Trainer`, as if it trained alone: initial weights, batches, feedback, evaluations,
metrics, checkpoints and records. Its parameters are slices of the stacked ones, so that all else sees an ordinary
network. The steps in which metrics ask for error signals are computed one by one. The only difference to a run alone is
the order of sums within products of matrices: the results agree up to rounding, which training amplifies.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam

from creditlab.algorithms.base import Readings
from creditlab.algorithms.bp import Backpropagation
from creditlab.config import ConfigError
from creditlab.interrupt import Interrupted
from creditlab.optimisers.spectral_descent import SpectralDescent
from creditlab.parts import Parts
from creditlab.training import Trainer

LAYERS = (nn.Linear, nn.LayerNorm)  # layers with parameters that work under vmap
OPTIMISERS = (SGD, Adam, SpectralDescent)  # with their subclasses: they treat each tensor by itself

T = TypeVar("T")
Opening = AbstractContextManager[Trainer | None]  # what `open_trainer` gives: the run begins when it is entered
Assigned = tuple[Tensor, Tensor, Readings]  # inputs and labels of a batch, and what the rule read on it


def check(config: Mapping[str, Any], parts: Parts, together: int) -> None:
    """Raise ConfigError if runs of this kind cannot be trained `together`."""
    choices = config["choices"]
    key = f"hydra.launcher.together={together} with "
    if type(parts.algorithm).assign is not Backpropagation.assign:
        raise ConfigError(
            f"{key}algorithm={choices['algorithm']}: this rule does more than send one error backwards, so its runs "
            "are trained one by one. Leave the key at 1 for them; bp, fa and dfa can be trained together."
        )
    for name, module in parts.network.named_modules():
        parameters = [*module.parameters(recurse=False)]
        if [*module.buffers(recurse=False)] or (parameters and not isinstance(module, LAYERS)):
            raise ConfigError(
                f"{key}architecture={choices['architecture']}: {name} is a {type(module).__name__}, and only networks "
                f"of {' and '.join(kind.__name__ for kind in LAYERS)} are trained together. Leave the key at 1."
            )
    if not isinstance(parts.optimiser, OPTIMISERS):
        raise ConfigError(
            f"{key}optimiser={choices['optimiser']}: it is not known whether {type(parts.optimiser).__name__} treats "
            f"each tensor by itself; {', '.join(kind.__name__ for kind in OPTIMISERS)} do. Leave the key at 1."
        )


def train_together(runs: Mapping[str, Opening], ended: Callable[[str, BaseException | None], None]) -> None:
    """Train `runs`, by name, as `creditlab.training.open_trainer` gives them. The runs that have done the fewest steps
    take the next step at once. `ended` is called for each run that is finished, or with the error that stopped it.
    """
    under_way = UnderWay(ended)
    for name, run in runs.items():
        under_way.open(name, run)
    group = None
    while under_way.trainers:
        least = min(trainer.state.step for trainer in under_way.trainers.values())
        members = {name: trainer for name, trainer in under_way.trainers.items() if trainer.state.step == least}
        if group is None or group.trainers != [*members.values()]:
            group = Group([*members.values()])
        assigned = under_way.do(members, group.assign)  # the gradients of all
        if assigned is None:
            continue
        for (name, trainer), step in zip(members.items(), assigned, strict=True):
            under_way.do([name], partial(trainer.before_update, *step))
        under_way.do(members, group.update)  # the weights of all
        for (name, trainer), (_, _, readings) in zip(members.items(), assigned, strict=True):
            under_way.do([name], partial(trainer.after_update, readings))


class UnderWay:
    """The runs that are not finished, by name. An error in one run does not stop the others. Each run is charged with
    its own time and its share of joint work, not with the time it waits for other runs.
    """

    def __init__(self, ended: Callable[[str, BaseException | None], None]) -> None:
        self.trainers: dict[str, Trainer] = {}
        self._openings: dict[str, Opening] = {}
        self._paused: dict[str, float] = {}  # since when each has waited
        self._ended = ended

    def open(self, name: str, run: Opening) -> None:
        """Begin or resume a run. If it is finished already, it ends at once."""
        try:
            trainer = run.__enter__()
        except (Exception, Interrupted) as error:
            self._ended(name, error)
            return
        if trainer is None:
            run.__exit__(None, None, None)
            self._ended(name, None)
            return
        self.trainers[name], self._openings[name], self._paused[name] = trainer, run, time.perf_counter()

    def do(self, names: Iterable[str], work: Callable[[], T]) -> T | None:
        """Do `work` of the runs `names`, as far as they have not ended. An error in it ends all of them."""
        trainers = {name: self.trainers[name] for name in names if name in self.trainers}
        if not trainers:
            return None
        result, error, begin = None, None, time.perf_counter()
        try:
            result = work()
        except (Exception, Interrupted) as raised:
            error = raised
        end = time.perf_counter()
        share = (end - begin) / len(trainers)
        for name, trainer in trainers.items():
            trainer.state.began += end - self._paused[name] - share
            self._paused[name] = end
            if error or not trainer.running:
                self._close(name, error)
        return result

    def _close(self, name: str, error: BaseException | None) -> None:
        del self.trainers[name]
        details = (type(error), error, error.__traceback__) if error else (None, None, None)
        try:
            self._openings.pop(name).__exit__(*details)
        except (Exception, Interrupted) as raised:
            error = raised
        self._ended(name, error)


class Objective(nn.Module):
    """The loss that a rule descends, as a module: all that it depends on is a parameter or buffer of it."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.network, self.rule = parts.network, parts.algorithm

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(self.rule, Backpropagation)
        return cross_entropy(self.rule.scores(self.network, x)[0], y)


class Group:
    """Runs at the same step. Their parameters become slices of shared tensors."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = list(trainers)
        members = [trainer.parts for trainer in trainers]
        objectives = [Objective(parts) for parts in members]
        self.objective = objectives[0]
        self.stacked, self.buffers = stack_module_state(objectives)  # type: ignore[arg-type]
        self.parameters = [[o.get_parameter(name) for o in objectives] for name in self.stacked]
        for owners, stack in zip(self.parameters, self.stacked.values(), strict=True):
            for parameter, part in zip(owners, stack.detach(), strict=True):
                parameter.data = part
        self.optimisers = [parts.optimiser for parts in members]
        self.state = defaultdict(
            dict, {p: o.state[p] for o in self.optimisers for g in o.param_groups for p in g["params"]}
        )
        self.data, self.autocast = members[0].dataset, members[0].autocast
        self.same_data = not (len(self.data.validation_y) or self.data.augments)  # both depend on the seed

    def assign(self) -> list[Assigned]:
        """Begin a step of every run and have the rule write the gradients."""
        batches = [trainer.begin_step() for trainer in self.trainers]
        samples = self._load(batches)
        if len(self.trainers) == 1 or self.trainers[0].listening:
            alone = zip(self.trainers, samples, strict=True)
            return [(x, y, trainer.assign(x, y)) for trainer, (x, y) in alone]
        x, y = (torch.stack(tensors) for tensors in zip(*samples, strict=True))
        with self.autocast():
            losses = vmap(self._loss)(self.stacked, self.buffers, x, y)
            gradients = torch.autograd.grad(losses.sum(), list(self.stacked.values()))
        for owners, gradient in zip(self.parameters, gradients, strict=True):
            # Fused optimisers choose their code by the memory layout.
            for parameter, part in zip(owners, gradient.contiguous(), strict=True):
                parameter.grad = part
        return [(x, y, Readings(loss)) for (x, y), loss in zip(samples, losses.detach().cpu(), strict=True)]

    def update(self) -> None:
        """Take a step of the first run's optimiser on the parameters of all runs, each with its own state."""
        first = self.optimisers[0]
        state, parameters = first.state, [group["params"] for group in first.param_groups]
        first.state = self.state
        for group, *others in zip(*(o.param_groups for o in self.optimisers), strict=True):
            group["params"] = [p for each in (group, *others) for p in each["params"]]
        try:
            first.step()
        finally:
            first.state = state
            for group, params in zip(first.param_groups, parameters, strict=True):
                group["params"] = params

    def _load(self, batches: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Inputs and labels of each run, from the indices of its batch."""
        if not self.same_data:
            return [trainer.load(indices) for trainer, indices in zip(self.trainers, batches, strict=True)]
        x, y = self.data.batch(torch.cat([*batches]))
        return list(zip(x.chunk(len(batches)), y.chunk(len(batches)), strict=True))

    def _loss(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional_call(self.objective, (parameters, buffers), (x, y))
