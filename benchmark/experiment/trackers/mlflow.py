"""Training logs as runs of MLflow, in the experiment `benchmark`: on the server of MLFLOW_TRACKING_URI, else as files
in --logdir."""

import os
import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

HINT = "look: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {logdir}/mlruns (or the server that you set)"
MARK = "benchmark.mark"


class Writer:
    """A run that is known again by its tag MARK; see `trackers`."""

    def __init__(self, logdir: Path, name: str, mark: str):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the only local store without a database's packages
        place = os.environ.get("MLFLOW_TRACKING_URI") or (logdir / "mlruns").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=place)
        known = self._client.get_experiment_by_name("benchmark")
        experiment = known.experiment_id if known else self._client.create_experiment("benchmark")
        same = self._client.search_runs([experiment], f"tags.`{MARK}` = '{mark}'")
        run = same[0] if same else self._client.create_run(experiment, run_name=name, tags={MARK: mark})
        self._id = run.info.run_id

    def write(self, values: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(tag, value, now, step) for tag, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._id)
