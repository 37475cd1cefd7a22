"""MLflow: a run of an experiment for each run of a sweep, in a local store or on a server.

creditlab -m tracker=mlflow sweep=s … ;  mlflow ui --backend-store-uri sqlite:///mlflow.db
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from creditlab.records import identity
from creditlab.trackers.base import Tracker, missing, settings

BATCH = 1000  # most metrics in one request
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}  # by default it waits for minutes
OUTCOMES = {"complete": "FINISHED", "diverged": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(Tracker):
    """Metrics by step, the config as parameters, the outcome as a tag. A metric `x@init` is called `x.init`, because
    MLflow does not accept the sign. A run that resumes continues the same run of MLflow, from the last step in it.
    """

    def __init__(self, *, uri: str | None, experiment: str | None) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise missing("mlflow", "mlflow") from None
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self.experiment = experiment
        self.client = MlflowClient(uri)

    def open(self, folder: Path, config: Mapping[str, Any], handle: str, past: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Param

        self.last, self.names = -1, set[str]()  # the last step in MLflow, and the names of the metrics
        if handle:
            self.handle = handle
            self.client.update_run(handle, status="RUNNING")
            points = self.client.get_metric_history(handle, "test/accuracy")
            self.last = max((point.step for point in points), default=-1)
        else:
            tags = {"creditlab.identity": identity(config), "creditlab.folder": str(folder.absolute())}
            experiment = self._experiment(self.experiment or folder.parent.name)
            self.handle = self.client.create_run(experiment, run_name=folder.name, tags=tags).info.run_id
            params = [Param(k, v if isinstance(v, str) else json.dumps(v)) for k, v in settings(config).items()]
            self.client.log_batch(self.handle, params=params)
        for line in past:
            self.record(line["step"], line["epoch"], line["metrics"])

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        """The id of the experiment `name`, which is created if it does not exist."""
        if (experiment := self.client.get_experiment_by_name(name)) is None:
            try:
                return self.client.create_experiment(name)
            except MlflowException:  # another worker may have created it first
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return experiment.experiment_id

    def record(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        self.names.update(metrics)
        if step > self.last:
            self._log(step, {**metrics, "epoch": epoch})

    def _log(self, step: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        points = [Metric(k.replace("@", "."), float(v), now, step) for k, v in metrics.items()]
        for i in range(0, len(points), BATCH):
            self.client.log_batch(self.handle, metrics=points[i : i + BATCH])

    def close(self, outcome: str, summary: Mapping[str, float]) -> None:
        self.client.set_tag(self.handle, "creditlab.outcome", outcome)
        self._log(int(summary.get("steps", 0)), {k: v for k, v in summary.items() if k not in self.names})
        self.client.set_terminated(self.handle, OUTCOMES[outcome])
