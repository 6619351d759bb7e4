"""One run in memory, and its training state on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from smoothdescent.config.schema import Experiment
from smoothdescent.errors import UserError
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import load_tensors, save_tensors
from smoothdescent.randomness import derive_seed, global_generators

if TYPE_CHECKING:
    import pandas as pd

HISTORY_COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "train_loss_all",
    "train_loss_clean",
    "train_loss_noisy",
    "train_accuracy_all",
    "train_accuracy_clean",
    "train_accuracy_noisy",
    "test_loss",
    "test_error",
    "test_error_corrupted",
    "test_error_unperturbed",
)


@dataclass
class Run:
    """The training state: everything a run needs to go on as if it had never stopped.

    Attributes:
        network: in training mode, on the device, channels-last.
        optimizer: over the network's parameters.
        epoch: epochs completed.
        step: batches done of the epoch after that.
        running: float64 [2], the loss and the number of correct samples summed over those batches.
        history: one row per completed epoch, columns `HISTORY_COLUMNS`.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    running: torch.Tensor
    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def history_table(self) -> pd.DataFrame:
        """Return the history with every column of `HISTORY_COLUMNS`, absent values as NaN."""
        import pandas as pd

        table = pd.DataFrame(self.history, columns=list(HISTORY_COLUMNS), dtype="float64")
        return table.astype({"epoch": "int64"})

    def save(self, path: str | Path, metadata: dict[str, str]) -> None:
        """Write the training state to a safetensors file atomically."""
        tensors = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        for index, buffers in self.optimizer.state_dict()["state"].items():
            for name, value in buffers.items():
                tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value)
        tensors["running"] = self.running
        tensors["history"] = torch.from_numpy(self.history_table().to_numpy("float64"))
        position = json.dumps({"epoch": self.epoch, "step": self.step})
        save_tensors(path, tensors, {**metadata, "position": position})

    def load(self, path: str | Path) -> dict[str, str]:
        """Take over the training state of a file and return the file's metadata.

        Raises:
            UserError: the file is not a training state of this network and optimiser.
        """
        tensors, metadata = load_tensors(path)
        try:
            position = json.loads(metadata["position"])
            self.network.load_state_dict(_prefixed(tensors, "network/"))
            self._load_optimizer(_prefixed(tensors, "optimizer/"))
            self.running.copy_(tensors["running"])
            rows = tensors["history"].numpy()
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{path} is not a training state of this network and optimiser: "
                f"{str(error).splitlines()[0]}"
            ) from None
        self.epoch, self.step = position["epoch"], position["step"]
        self.history = [
            {
                name: float(x)
                for name, x in zip(HISTORY_COLUMNS, row, strict=True)
                if not np.isnan(x)
            }
            for row in rows
        ]
        return metadata

    def _load_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        parameters = self.optimizer.param_groups[0]["params"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            index, name = key.split("/")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                # Fused kernels walk through memory: buffers must be laid out as the parameter is.
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _prefixed(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def new_run(
    experiment: Experiment,
    *,
    width: int,
    seed: int,
    num_classes: int,
    image_size: int,
    device: torch.device,
) -> Run:
    """Return a run at epoch 0, initialised by its seed."""
    # PyTorch initialises from its global generator; on the CPU, so that a run starts from the same
    # weights on every device.
    with global_generators(derive_seed(seed, "initialisation"), torch.device("cpu")):
        network = build(
            experiment.network, width=width, num_classes=num_classes, image_size=image_size
        )
    network = network.to(device=device, memory_format=torch.channels_last).train()
    return Run(
        network=network,
        optimizer=experiment.optimizer.build(network.parameters()),
        running=torch.zeros(2, dtype=torch.float64, device=device),
    )
