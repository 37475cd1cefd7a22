"""Runs that differ in nothing but the seed, trained together by one process: `hydra.launcher.together`.

    (ℓ_1, …, ℓ_R) = vmap(ℓ)(θ, x, y),   ∂(Σ_r ℓ_r)/∂θ,   θ the R networks' parameters, stacked

A small network's step takes an accelerator longer to be told than to do, and R of them are told at once here. Each run
is the `Course` that it is alone: its own initial weights, batches, feedback, evaluations, instruments, checkpoints and
records. Its parameters are slices of the stacked ones, so that whatever looks at it sees an ordinary network. Steps
whose error signals are wanted are taken one by one. All that differs is the order of sums within a product of matrices,
so that runs agree with those alone up to rounding, which grows as training amplifies it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

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
from creditlab.training import Step, Steps

LAYERS = (nn.Linear, nn.LayerNorm)  # with parameters, that many networks' inputs can be sent through at once
OPTIMISERS = (SGD, Adam, SpectralDescent)  # and their subclasses: to them each tensor is an affair of its own


def check(config: Mapping[str, Any], parts: Parts, together: int) -> None:
    """Raise ConfigError where runs of this kind cannot be trained `together`."""
    choices = config["choices"]
    said = f"hydra.launcher.together={together} with "
    if type(parts.algorithm).assign is not Backpropagation.assign:
        raise ConfigError(
            f"{said}algorithm={choices['algorithm']}: it does more than send one error backwards, so its runs are "
            "trained one by one. Leave the key at 1 for them; bp, fa and dfa can be trained together."
        )
    for name, module in parts.network.named_modules():
        own = [*module.parameters(recurse=False)]
        if [*module.buffers(recurse=False)] or (own and not isinstance(module, LAYERS)):
            raise ConfigError(
                f"{said}architecture={choices['architecture']}: {name} is a {type(module).__name__}, and only networks "
                f"of {' and '.join(kind.__name__ for kind in LAYERS)} are trained together. Leave the key at 1."
            )
    if not isinstance(parts.optimiser, OPTIMISERS):
        raise ConfigError(
            f"{said}optimiser={choices['optimiser']}: whether {type(parts.optimiser).__name__} takes each tensor by "
            f"itself is not known; {', '.join(kind.__name__ for kind in OPTIMISERS)} do. Leave the key at 1."
        )


def train_together(runs: Mapping[str, Steps], ended: Callable[[str, BaseException | None], None]) -> None:
    """Take the steps of `runs`, by name: of those that stand furthest back, all at once. `ended` is told of each run
    that is done, or has stopped by what error.
    """
    waiting: dict[str, Step] = {}
    since: dict[str, float] = {}

    def go_on(name: str, error: Exception | None = None) -> None:
        waiting.pop(name, None)
        try:
            waiting[name] = next(runs[name]) if error is None else runs[name].throw(error)
        except StopIteration:
            ended(name, None)
        except (Exception, Interrupted) as stopped:
            ended(name, stopped)
        since[name] = time.perf_counter()

    def take(names: Iterable[str], act: Callable[[Sequence[Step]], None]) -> None:
        steps = {name: waiting[name] for name in names if name in waiting}
        began, error = time.perf_counter(), None
        try:
            act(list(steps.values()))
        except Exception as raised:
            error = raised
        share = (time.perf_counter() - began) / max(1, len(steps))
        for name, step in steps.items():
            step.waited += time.perf_counter() - since[name] - share
            go_on(name, error)

    for name in runs:
        go_on(name)
    group = None
    while waiting:
        least = min(step.done for step in waiting.values())
        names = [name for name, step in waiting.items() if step.done == least]
        members = [waiting[name].parts for name in names]
        if group is None or group.members != members:
            group = Group(members)
        take(names, group.assign)
        take(names, group.update)


class Objective(nn.Module):
    """What a rule descends on, with all that it depends on as its own parameters and buffers."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.network, self.rule = parts.network, parts.algorithm

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(self.rule, Backpropagation)
        return cross_entropy(self.rule.scores(self.network, x)[0], y)


class Group:
    """Runs at the same step, whose networks it moves into shared tensors."""

    def __init__(self, members: Sequence[Parts]) -> None:
        self.members = list(members)
        objectives = [Objective(parts) for parts in members]
        self.objective = objectives[0]
        self.stacked, self.buffers = stack_module_state(objectives)  # type: ignore[arg-type]
        self.parameters = [[o.get_parameter(name) for o in objectives] for name in self.stacked]
        for owners, stack in zip(self.parameters, self.stacked.values(), strict=True):
            for own, part in zip(owners, stack.detach(), strict=True):
                own.data = part
        self.optimisers = [parts.optimiser for parts in members]
        self.state = defaultdict(
            dict, {p: o.state[p] for o in self.optimisers for g in o.param_groups for p in g["params"]}
        )
        first = members[0].dataset
        self.same_data = not (len(first.validation_y) or first.augments)  # in which the seed has a say

    def assign(self, steps: Sequence[Step]) -> None:
        """Have the rule write the gradients of every run."""
        if len(steps) == 1 or steps[0].listening:
            for step in steps:
                step.take()
            return
        self._load(steps)
        x, y = torch.stack([step.x for step in steps]), torch.stack([step.y for step in steps])
        with self.members[0].autocast():
            losses = vmap(self._loss)(self.stacked, self.buffers, x, y)
            gradients = torch.autograd.grad(losses.sum(), list(self.stacked.values()))
        for owners, gradient in zip(self.parameters, gradients, strict=True):
            for own, part in zip(owners, gradient.contiguous(), strict=True):  # fused optimisers go by the layout
                own.grad = part
        for step, loss in zip(steps, losses.detach().cpu(), strict=True):
            step.readings = Readings(loss)

    def _loss(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional_call(self.objective, (parameters, buffers), (x, y))

    def _load(self, steps: Sequence[Step]) -> None:
        if not self.same_data:
            for step in steps:
                step.load()
            return
        x, y = self.members[0].dataset.batch(torch.cat([step.indices for step in steps]))
        for step, own_x, own_y in zip(steps, x.chunk(len(steps)), y.chunk(len(steps)), strict=True):
            step.x, step.y = own_x, own_y

    def update(self, steps: Sequence[Step]) -> None:
        """A step of the first run's optimiser on the parameters of all, each with its own state."""
        first = self.optimisers[0]
        own = first.state, [group["params"] for group in first.param_groups]
        first.state = self.state
        for group, *others in zip(*(o.param_groups for o in self.optimisers), strict=True):
            group["params"] = [p for one in (group, *others) for p in one["params"]]
        try:
            first.step()
        finally:
            first.state = own[0]
            for group, params in zip(first.param_groups, own[1], strict=True):
                group["params"] = params
