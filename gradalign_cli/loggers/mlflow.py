"""MLflow: a sqlite store for all runs of a working folder, `outputs/mlflow.db`, or the one that
$MLFLOW_TRACKING_URI names. (Its store of plain files is no longer developed.)"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

STORE, ARTIFACTS = Path("outputs/mlflow.db"), Path("outputs/mlflow_artifacts")
LONGEST_VALUE = 500  # letters of a parameter that every version of MLflow takes


class MlflowLogger:
    """A Logger that writes to MLflow's store. The experiment is called as the run, and each of its
    runs says in which folder the whole run is."""

    def __init__(self, run_folder: Path, experiment_name: str) -> None:
        self.run_folder, self.experiment_name = run_folder, experiment_name
        self.client: Any = None
        self.run_ids: dict[int, str] = {}

    def begin(self, replica: int, settings: Mapping[str, str | float]) -> None:
        """Begin the replica's run, with its parameters."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        if self.client is None:
            uri = os.environ.get("MLFLOW_TRACKING_URI")
            if uri is None:
                STORE.parent.mkdir(parents=True, exist_ok=True)
                uri = f"sqlite:///{STORE.absolute()}"
            self.client = MlflowClient(uri)
        run = self.client.create_run(
            self.experiment_id(), run_name=f"{self.run_folder.name} replica {replica}"
        )
        self.run_ids[replica] = run.info.run_id
        named = {**settings, "folder": str(self.run_folder)}
        params = [Param(name, str(value)[:LONGEST_VALUE]) for name, value in named.items()]
        self.client.log_batch(run.info.run_id, params=params)

    def experiment_id(self) -> str:
        """The id of the experiment, which is made where it is new."""
        experiment = self.client.get_experiment_by_name(self.experiment_name)
        if experiment is not None:
            return str(experiment.experiment_id)
        has_server = "MLFLOW_TRACKING_URI" in os.environ
        place = None if has_server else ARTIFACTS.absolute().as_uri()
        return str(self.client.create_experiment(self.experiment_name, artifact_location=place))

    def scalars(self, replica: int, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run_ids[replica], metrics=metrics)

    def image(self, replica: int, name: str, pixels: np.ndarray) -> None:
        """Store the picture as a png."""
        self.client.log_image(self.run_ids[replica], pixels, artifact_file=f"{name}.png")

    def close(self) -> None:
        """End the runs."""
        for run_id in self.run_ids.values():
            self.client.set_terminated(run_id)
