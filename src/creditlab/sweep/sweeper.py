"""`hydra/sweeper=grid`: every combination of the values given, changed by the rules of `combinations`.

All runs go to the launcher at once, and it checks all of them before it starts the first one, so a mistake leaves
nothing behind. Hydra's own sweeper composes each run twice, and makes the sweep's folder before anything is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from creditlab import records
from creditlab.config import ConfigError
from creditlab.hints import did_you_mean
from creditlab.keys import PositiveInt
from creditlab.sweep import combinations
from creditlab.sweep.foreign import ForeignLauncher
from creditlab.sweep.launcher import SweepLauncher


class GridSweeper(Sweeper):
    """`params`: overrides to sweep, besides those of the command line. `budgets[budget]`: overrides that replace some
    of `params`; null removes one. `max_runs`: a sweep of more runs is taken for a mistake. `claims` is read by
    `stated`; `combinations` describes the other keys.
    """

    config: DictConfig
    launcher: SweepLauncher

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
        claims: str | None,
    ) -> None:
        self.params, self.max_runs, self.budget = params or {}, max_runs, budget
        self.budgets = {"full": {}, **(budgets or {})}
        plain: Any = OmegaConf.to_container(OmegaConf.create([zip, pairs, exclude, include]))
        self.zip, self.pairs, self.exclude, self.include = plain

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.config_loader = config, hydra_context.config_loader
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if not isinstance(launcher, SweepLauncher):
            launcher = ForeignLauncher(launcher)
            launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.launcher = launcher

    def sweep(self, arguments: list[str]) -> Any:
        parser = OverridesParser.create(config_loader=self.config_loader)
        given = {o.get_key_element().lstrip("+"): o for o in parser.parse_overrides(arguments) if not o.is_delete()}
        if "experiment" in given and given["experiment"].is_sweep_override():
            self._refuse_sweeps(_texts(given["experiment"]))
        if self.budget not in self.budgets:
            allowed = f"{', '.join(self.budgets)}.{did_you_mean(self.budget, self.budgets)}"
            raise ConfigError(f"hydra.sweeper.budget={self.budget}: there is no such budget here. There are {allowed}")
        params = {**self.params, **self.budgets[self.budget]}
        swept = [f"{key}={value}" for key, value in params.items() if value is not None]
        overrides = parser.parse_overrides([*swept, *arguments])
        deletions = [o.input_line or "" for o in overrides if o.is_delete()]
        settings = {o.get_key_element(): o for o in overrides if not o.is_delete()}
        self._confirm({key: _number(override) for key, override in settings.items()})
        levels = {key: _texts(override) for key, override in settings.items()}
        axes = combinations.zipped(levels, self.zip)
        value = cache(lambda text: parser.parse_override(text).value())
        pairs_of_file = not any(o.startswith("hydra.sweeper.pairs=") for o in self.config.hydra.overrides.hydra)
        fixed_keys = given if pairs_of_file else ()  # the command line overrides the pairs in a file
        runs = combinations.runs(levels, axes, self.pairs, self.exclude, self.include, value, fixed_keys)
        batch = [[*run, *deletions] for run in runs]
        if not batch:
            raise ConfigError("hydra.sweeper.exclude leaves no run.")
        try:
            return self.launcher.launch(batch, initial_job_idx=0)
        except ConfigCompositionException as error:
            self._explain(batch, [key for key, texts in levels.items() if len(texts) > 1], error)
            raise

    def _refuse_sweeps(self, experiments: Sequence[str]) -> None:
        """Raise ConfigError if one of several experiments is a sweep itself: its sweep would be ignored."""
        for name in experiments:
            composed = self.config_loader.load_sweep_config(self.config, [f"+experiment={name}"])
            if composed.hydra.sweeper != self.config.hydra.sweeper:
                raise ConfigError(f"+experiment={name} is a sweep of its own, so give it alone: -m +experiment={name}")

    def _confirm(self, levels: dict[str, int]) -> None:
        """Raise ConfigError if so many runs are asked for that it may be a mistake."""
        axes = {key: number for key, number in levels.items() if not any(key in keys[1:] for keys in self.zip)}
        runs = math.prod(axes.values())
        if runs > self.max_runs:
            product = " × ".join(f"{number:,} of {key}" for key, number in axes.items() if number > 1)
            raise ConfigError(
                f"{runs:,} runs asked for ({product}), more than hydra.sweeper.max_runs={self.max_runs}. "
                f"If you want that many, give hydra.sweeper.max_runs={runs}"
            )

    def _explain(self, runs: Sequence[list[str]], swept: Sequence[str], error: Exception) -> None:
        """Raise ConfigError, with their names, if some of the swept options lack a key that is set."""
        key = re.search(r"Could not override '(.+?)'", str(error))
        groups = [f"{key}=" for key in swept if self.config_loader.get_group_options(key.lstrip("+"))]
        run_of_options = {tuple(o for o in run if o.startswith(tuple(groups))): run for run in runs}
        valid, invalid = set[str](), set[str]()
        for options, run in run_of_options.items():
            try:
                self.config_loader.load_sweep_config(self.config, run)
            except ConfigCompositionException:
                invalid.update(options)
            else:
                valid.update(options)
        if key and valid and (lacking := sorted(invalid - valid)):
            message = f"{key[1]}: not a key of {' or '.join(lacking)}, only of {' and '.join(sorted(valid))}."
            raise ConfigError(f"{message} Run them as separate sweeps.") from None


def _texts(override: Override) -> list[str]:
    """The values of an override, as texts of the command line."""
    if not override.is_sweep_override():
        return [_resolvable(override.get_value_element_as_str())]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: a grid needs its values, as in key=1,2,3 or 'key=range(3)'.")
    if not records.identifies(override.key_or_group):
        raise ConfigError(f"{override.input_line}: cannot be swept, because it does not change a run's result.")
    texts = [_resolvable(str(text)) for text in override.sweep_string_iterator()]
    if not texts:
        raise ConfigError(f"{override.input_line}: has no values, so nothing would run.")
    return texts


def _resolvable(text: str) -> str:
    """A value as a text of the command line, without the escapes by which Hydra would take `${…}` literally."""
    return re.sub(r"\\(.)", r"\1", text) if "$\\{" in text and text[0] not in "'\"" else text


def _number(override: Override) -> int:
    """How many values an override has. They are not made: there may be too many."""
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        return 1
    value = override.value()
    if isinstance(value, RangeSweep):
        assert value.start is not None
        assert value.stop is not None
        return max(0, math.ceil((value.stop - value.start) / value.step))
    return sum(1 for _ in override.sweep_iterator())
