"""`hydra/sweeper=grid`: the cartesian product of what is swept, handed to the launcher whole.

Hydra's own sweeper composes every run twice and makes the sweep's folder before anything is checked; here the launcher
checks all runs first, so a mistake leaves nothing behind.
"""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class GridSweeper(BasicSweeper):
    """`params`: overrides to sweep beside those of the command line, as in Hydra's own sweeper."""

    def __init__(self, params: dict[str, str] | None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        swept = [f"{key}={value}" for key, value in (self.params or {}).items()]
        (batch,) = self.split_arguments(parser.parse_overrides([*swept, *arguments]), None)
        return self.launcher.launch(batch, initial_job_idx=0)
