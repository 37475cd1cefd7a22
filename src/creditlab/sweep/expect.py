"""How long a run will take: what runs like it took. The longest start first, lest one of them end alone.

Runs are alike if nothing but their seeds differ; failing that, if the same options were chosen. Of a kind that nothing
is known of, one starts before all others, to find out.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

from creditlab import records
from creditlab.sweep.plan import Planned


def _kind(config: Mapping) -> str:
    return json.dumps({k: v for k, v in records.identifying(config).items() if k != "seed"}, sort_keys=True)


def _choices(config: Mapping) -> str:
    return json.dumps(config["choices"], sort_keys=True)


class Expectation:
    """Seconds that runs took, by kind."""

    def __init__(self) -> None:
        self.taken: dict[str, tuple[float, int]] = {}  # their sum and number

    def learn(self, config: Mapping, seconds: object) -> None:
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            for kind in (_kind(config), _choices(config), ""):
                total, number = self.taken.get(kind, (0.0, 0))
                self.taken[kind] = (total + seconds, number + 1)

    def of(self, config: Mapping) -> float | None:
        """Seconds that a run of `config` will take; None if no run with these options is known."""
        return self._mean(_kind(config), _choices(config))

    def guess(self, config: Mapping) -> float | None:
        """Seconds, by any run at all where none like it is known."""
        return self._mean(_kind(config), _choices(config), "")

    def _mean(self, *kinds: str) -> float | None:
        found = next((self.taken[kind] for kind in kinds if kind in self.taken), None)
        return found[0] / found[1] if found else None


class Queue:
    """Runs that wait, to be taken longest first as far as is known by then."""

    def __init__(self, runs: Iterable[Planned], expectation: Expectation) -> None:
        self.expectation = expectation
        self.kinds: dict[str, deque[Planned]] = defaultdict(deque)
        self.probed: set[str] = set()
        for run in runs:
            self.kinds[_kind(run.config)].append(run)

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values()))

    def take(self, most: int = 1) -> list[Planned]:
        """The next run, and up to `most` in all that differ from it in nothing but the seed."""
        kind = max(self.kinds, key=self._urgency)
        self.probed.add(kind)
        runs = self.kinds[kind]
        taken, passed = [runs.popleft()], list[Planned]()
        wanted = taken[0].config | {"seed": None}  # device and threads too
        while runs and len(taken) < most:
            run = runs.popleft()
            (taken if run.config | {"seed": None} == wanted else passed).append(run)
        runs.extendleft(reversed(passed))
        if not runs:
            del self.kinds[kind]
        return taken

    def _urgency(self, kind: str) -> float:
        config = self.kinds[kind][0].config
        if kind not in self.probed and self.expectation.of(config) is None:
            return math.inf
        return self.expectation.guess(config) or 0.0

    def clear(self) -> None:
        self.kinds.clear()

    def seconds(self) -> float | None:
        """What all that wait will take together, one after the other; None if nothing is known."""
        total = 0.0
        for runs in self.kinds.values():
            guess = self.expectation.guess(runs[0].config)
            if guess is None:
                return None
            total += len(runs) * guess
        return total
