"""`hydra/sweeper=grid`: the cartesian product of what is swept, and what `beyond` adds, handed to the launcher whole.

Hydra's own sweeper composes every run twice and makes the sweep's folder before anything is checked; here the launcher
checks all runs first, so a mistake leaves nothing behind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from creditlab import records
from creditlab.config import ConfigError
from creditlab.hints import did_you_mean
from creditlab.keys import PositiveInt
from creditlab.sweep import beyond


class GridSweeper(BasicSweeper):
    """`params`: overrides to sweep beside those of the command line, as in Hydra's own sweeper; `budgets[budget]` stand
    in for some of them (null takes one away). `max_runs`: more are not taken to be meant. The other keys are those of
    `beyond`.
    """

    def __init__(
        self,
        params: dict[str, Any] | None,
        budget: str,
        budgets: dict[str, dict[str, Any]] | None,
        max_runs: PositiveInt,
        zip: list[list[str]],
        pairs: list[dict],
        exclude: list[dict],
        include: list[dict],
    ) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.max_runs, self.budget = max_runs, budget
        self.budgets = {"full": {}, **(budgets or {})}
        plain: Any = OmegaConf.to_container(OmegaConf.create([zip, pairs, exclude, include]))
        self.zip, self.pairs, self.exclude, self.include = plain

    def sweep(self, arguments: list[str]) -> Any:
        assert self.launcher is not None
        assert self.hydra_context is not None
        assert self.config is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = {o.get_key_element().lstrip("+"): o for o in parser.parse_overrides(arguments) if not o.is_delete()}
        if "experiment" in given and given["experiment"].is_sweep_override():
            self._refuse_sweeps(_texts(given["experiment"]))
        if self.budget not in self.budgets:
            known = f"{', '.join(self.budgets)}.{did_you_mean(self.budget, self.budgets)}"
            raise ConfigError(f"hydra.sweeper.budget={self.budget}: there is no such budget here. There are {known}")
        params = {**(self.params or {}), **self.budgets[self.budget]}
        swept = [f"{key}={value}" for key, value in params.items() if value is not None]
        overrides = parser.parse_overrides([*swept, *arguments])
        deleted = [o.input_line or "" for o in overrides if o.is_delete()]
        valued = {o.get_key_element(): o for o in overrides if not o.is_delete()}
        self._confirm({key: _number(override) for key, override in valued.items()})
        levels = {key: _texts(override) for key, override in valued.items()}
        axes = beyond.zipped(levels, self.zip)
        value = cache(lambda text: parser.parse_override(text).value())
        beside = any(o.startswith("hydra.sweeper.pairs=") for o in self.config.hydra.overrides.hydra)
        kept = () if beside else given  # the command line goes before a file
        runs = beyond.runs(levels, axes, self.pairs, self.exclude, self.include, value, kept)
        batch = [[*run, *deleted] for run in runs]
        if not batch:
            raise ConfigError("hydra.sweeper.exclude leaves no run.")
        try:
            return self.launcher.launch(batch, initial_job_idx=0)
        except ConfigCompositionException as error:
            self._blame(batch, [key for key, texts in levels.items() if len(texts) > 1], error)
            raise

    def _refuse_sweeps(self, experiments: Sequence[str]) -> None:
        """Raise ConfigError for one of several experiments that holds a sweep, which would not be done."""
        assert self.hydra_context is not None
        assert self.config is not None
        for name in experiments:
            composed = self.hydra_context.config_loader.load_sweep_config(self.config, [f"+experiment={name}"])
            if composed.hydra.sweeper != self.config.hydra.sweeper:
                raise ConfigError(f"+experiment={name} is a sweep of its own, so give it alone: -m +experiment={name}")

    def _confirm(self, levels: dict[str, int]) -> None:
        """Raise ConfigError where more runs are asked for than anyone means by mistake."""
        axes = {key: number for key, number in levels.items() if not any(key in keys[1:] for keys in self.zip)}
        runs = math.prod(axes.values())
        if runs > self.max_runs:
            product = " × ".join(f"{number:,} of {key}" for key, number in axes.items() if number > 1)
            raise ConfigError(
                f"{runs:,} runs asked for ({product}), more than hydra.sweeper.max_runs={self.max_runs}. "
                f"If they are meant: hydra.sweeper.max_runs={runs}"
            )

    def _blame(self, runs: Sequence[list[str]], swept: Sequence[str], error: Exception) -> None:
        """Raise ConfigError if some of the options that are swept lack a key that is set, naming these."""
        assert self.hydra_context is not None
        assert self.config is not None
        key = re.search(r"Could not override '(.+?)'", str(error))
        loader = self.hydra_context.config_loader
        groups = [f"{key}=" for key in swept if loader.get_group_options(key.lstrip("+"))]
        of_choice = {tuple(o for o in run if o.startswith(tuple(groups))): run for run in runs}
        fits, fails = set[str](), set[str]()
        for options, run in of_choice.items():
            try:
                loader.load_sweep_config(self.config, run)
            except ConfigCompositionException:
                fails.update(options)
            else:
                fits.update(options)
        if key and fits and (lacking := sorted(fails - fits)):
            told = f"{key[1]}: not a key of {' or '.join(lacking)}, only of {' and '.join(sorted(fits))}."
            raise ConfigError(f"{told} Sweep them apart.") from None


def _texts(override: Override) -> list[str]:
    """The values that an override stands for, as they stand on a command line."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: a grid needs its values, as in key=1,2,3 or 'key=range(3)'.")
    if not records.identifies(override.key_or_group):
        raise ConfigError(f"{override.input_line}: cannot be swept, for it does not tell one run from another.")
    texts = [str(text) for text in override.sweep_string_iterator()]
    if not texts:
        raise ConfigError(f"{override.input_line}: stands for no value at all, so there is no run.")
    return texts


def _number(override: Override) -> int:
    """How many values an override stands for, none of them made."""
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        return 1
    value = override.value()
    if isinstance(value, RangeSweep):
        assert value.start is not None
        assert value.stop is not None
        return max(0, math.ceil((value.stop - value.start) / value.step))
    return sum(1 for _ in override.sweep_iterator())
