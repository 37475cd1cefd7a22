"""Which run starts next: the one that will take longest, so that no long run ends alone.

A run is expected to take as long as similar runs took. Runs are similar if they differ in the seed alone. Where no such
run has finished, runs with the same options count. If none of these has finished either, one run of the kind starts
before all others, so that its time becomes known early.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from creditlab import records
from creditlab.sweep.plan import Planned


def _kind(config: Mapping) -> str:
    return json.dumps({k: v for k, v in records.identifying(config).items() if k != "seed"}, sort_keys=True)


def _choices(config: Mapping) -> str:
    return json.dumps(config["choices"], sort_keys=True)


class Expectation:
    """The seconds that runs took, by kind."""

    def __init__(self) -> None:
        self.seconds_and_runs: dict[str, tuple[float, int]] = {}  # sum of the seconds, number of runs

    def learn(self, config: Mapping, seconds: object) -> None:
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            for kind in (_kind(config), _choices(config), ""):
                total, number = self.seconds_and_runs.get(kind, (0.0, 0))
                self.seconds_and_runs[kind] = (total + seconds, number + 1)

    def of(self, config: Mapping) -> float | None:
        """The seconds that a run of `config` will take; None if no run with these options has finished."""
        return self._mean(_kind(config), _choices(config))

    def guess(self, config: Mapping) -> float | None:
        """The same, but from any run at all where no similar one has finished."""
        return self._mean(_kind(config), _choices(config), "")

    def _mean(self, *kinds: str) -> float | None:
        """The mean of the first of `kinds` that has runs."""
        for kind in kinds:
            if kind in self.seconds_and_runs:
                total, number = self.seconds_and_runs[kind]
                return total / number
        return None


class Schedule:
    """The runs that wait. They are taken longest first, as far as their times are known by then."""

    def __init__(self, runs: Iterable[Planned], expectation: Expectation) -> None:
        self.expectation = expectation
        self.kinds: dict[str, deque[Planned]] = defaultdict(deque)
        self.probed: set[str] = set()  # the kinds of which a run was taken
        for run in runs:
            self.kinds[_kind(run.config)].append(run)

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values()))

    def take(self, most: int = 1) -> list[Planned]:
        """The next run, with others that differ from it in the seed alone: `most` runs in all at most."""
        kind = max(self.kinds, key=self._urgency)
        self.probed.add(kind)
        waiting = self.kinds[kind]
        taken, passed = [waiting.popleft()], list[Planned]()
        template = taken[0].config | {"seed": None}  # a kind does not include the device and the threads, this does
        while waiting and len(taken) < most:
            run = waiting.popleft()
            (taken if run.config | {"seed": None} == template else passed).append(run)
        waiting.extendleft(reversed(passed))  # in front, and in their former order
        if not waiting:
            del self.kinds[kind]
        return taken

    def put_back(self, runs: Sequence[Planned]) -> None:
        """Have `runs`, which were taken, wait again: their worker died before it began them."""
        for run in reversed(runs):
            self.kinds[_kind(run.config)].appendleft(run)

    def _urgency(self, kind: str) -> float:
        config = self.kinds[kind][0].config
        if kind not in self.probed and self.expectation.of(config) is None:
            return math.inf
        return self.expectation.guess(config) or 0.0

    def clear(self) -> None:
        self.kinds.clear()

    def seconds(self) -> float | None:
        """The seconds that all waiting runs will take, one after the other; None if no run has finished yet."""
        total = 0.0
        for runs in self.kinds.values():
            guess = self.expectation.guess(runs[0].config)
            if guess is None:
                return None
            total += len(runs) * guess
        return total
