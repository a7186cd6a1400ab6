"""Flower's FedAvg, training only, which notes how long each round takes."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class Timed(FedAvg):
    """FedAvg that appends to a file, each round, its seconds and the model's first value."""

    times: Path
    began: float

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Start the clock."""
        self.began = time.monotonic()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Stop the clock."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        assert arrays is not None
        first = float(arrays.to_numpy_ndarrays()[0][0])
        with self.times.open("a") as out:
            out.write(f"{time.monotonic() - self.began} {first}\n")
        return arrays, metrics


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for the rounds that the run's configuration names."""
    config = context.run_config
    nodes = int(config["nodes"])
    strategy = Timed(
        fraction_evaluate=0.0,
        min_train_nodes=nodes,
        min_evaluate_nodes=0,
        min_available_nodes=nodes,
    )
    strategy.times = Path(str(config["times"]))
    model = np.zeros(int(config["parameters"]), np.float32)
    strategy.start(grid, ArrayRecord([model]), num_rounds=int(config["rounds"]))
