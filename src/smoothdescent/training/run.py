"""One run in memory, and its training state on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from smoothdescent.config.schema import Training
from smoothdescent.errors import UserError
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import save_tensors
from smoothdescent.randomness import derive_seed, global_generators
from smoothdescent.tables.columns import HISTORY_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


# Memory layouts of images and weights in which a GPU trains.
LAYOUTS = {"channels-last": torch.channels_last, "channels-first": torch.contiguous_format}


@dataclass
class Run:
    """The training state: everything a run needs to go on as if it had never stopped.

    Attributes:
        network: in training mode, on the device, in the memory layout `layout`.
        optimizer: over the network's parameters.
        epoch: epochs completed.
        step: batches done of the epoch after that.
        running: float64 [2], the loss and the number of correct samples summed over those batches.
        history: one row per completed epoch, columns `HISTORY_COLUMNS`.
        fitted: by epoch of each exact evaluation, whether each of the N training samples was
            predicted as the label trained on: N bits, uint8 [ceil(N / 8)] (`numpy.packbits`).
        conditions: what the epochs from `from_epoch` on were trained under, one entry for each
            change: code, device, threads, versions.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    running: torch.Tensor
    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    fitted: dict[int, torch.Tensor] = field(default_factory=dict)
    conditions: list[dict[str, Any]] = field(default_factory=list)
    layout: torch.memory_format = torch.channels_last

    @property
    def kernels(self) -> str:
        """Whose kernels compute the network: 'compiled' ones of this program, or 'torch'.

        On a GPU 'fused' ones or 'torch', and the memory layout, as in 'torch, channels-last'.
        """
        has_several = hasattr(self.network, "choose_kernels")
        kernels = self.network.kernels if has_several else "torch"
        if self.running.device.type != "cuda":
            return kernels
        layout = next(name for name, layout in LAYOUTS.items() if layout == self.layout)
        return f"{kernels}, {layout}"

    def choose_kernels(self, wanted: str | None = None) -> None:
        """Choose the kernels of a network that has several; see `ConvNet.choose_kernels`.

        Before a `Step` is made of the run.

        Args:
            wanted: what `kernels` was; on a GPU, anything that it cannot be there changes nothing.
        """
        if self.running.device.type == "cuda":
            wanted, _, layout = (wanted or "").partition(", ")
            if layout not in LAYOUTS:
                return
            self.lay_out(layout)
        if hasattr(self.network, "choose_kernels"):
            self.network.choose_kernels(wanted)

    def lay_out(self, wanted: str) -> None:
        """Lay weights and buffers out in a memory layout, a key of `LAYOUTS`."""
        layout = LAYOUTS[wanted]
        if layout == self.layout:
            return
        self.layout = layout
        self.network.to(memory_format=layout)
        for parameter, buffers in self.optimizer.state.items():
            for name, value in buffers.items():
                if value.shape == parameter.shape:
                    # Fused kernels walk through memory: both must be laid out alike.
                    buffers[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)

    def history_table(
        self, until: int | None = None, evaluated: list[int] | None = None
    ) -> pd.DataFrame:
        """Return the history with every column of `HISTORY_COLUMNS`, absent values as NaN.

        Args:
            until: the last epoch; default: all.
            evaluated: the epochs whose exact evaluations are kept; default: all.
        """
        import pandas as pd

        table = pd.DataFrame(self.history, columns=list(HISTORY_COLUMNS), dtype="float64")
        table = table.astype({"epoch": "int64"})
        if evaluated is not None:
            columns = list(HISTORY_COLUMNS[HISTORY_COLUMNS.index("train_loss_all") :])
            table.loc[~table["epoch"].isin(evaluated), columns] = np.nan
        return table if until is None else table[table["epoch"] <= until]

    def was_evaluated(self, epoch: int) -> bool:
        """Return whether the history has all that it will have of an epoch's exact evaluation."""
        if self.diverged is not None and self.diverged <= epoch < len(self.history):
            return True
        if epoch not in self.fitted:
            return False
        return epoch < len(self.history) and "test_error" in self.history[epoch]

    @property
    def diverged(self) -> int | None:
        """The epoch in which a loss has become NaN or infinite; None if none has."""
        if self.epoch == 0 or "learning_rate" in self.history[-1]:
            return None
        rows = self.history[1:]
        return next(int(row["epoch"]) for row in rows if "learning_rate" not in row)

    @property
    def trained_epochs(self) -> int:
        """The epochs of training in the weights: fewer than `epoch` once it has ended early."""
        if self.diverged is not None:
            return self.diverged
        if not self.history or self.history[-1].get("learning_rate") != 0:
            return self.epoch
        return int(next(row["epoch"] for row in self.history if row.get("learning_rate") == 0)) - 1

    def save(self, path: str | Path, metadata: dict[str, str]) -> None:
        """Write the training state to a safetensors file atomically."""
        tensors = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        for index, buffers in self.optimizer.state_dict()["state"].items():
            for name, value in buffers.items():
                tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value)
        tensors |= {f"fitted/{epoch}": bits for epoch, bits in self.fitted.items()}
        tensors["running"] = self.running
        tensors["history"] = torch.from_numpy(self.history_table().to_numpy("float64"))
        position = json.dumps({"epoch": self.epoch, "step": self.step})
        save_tensors(path, tensors, {**metadata, "position": position})

    def load(
        self, path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
    ) -> None:
        """Take over a training state: all of it or, if it does not fit, nothing.

        Tensors that are there are written into, not replaced: a captured step goes on using them.

        Args:
            path: its file, for messages.
            tensors, metadata: what the file holds.

        Raises:
            UserError: it is not a training state of this network and optimiser.
        """
        try:
            position = json.loads(metadata["position"])
            epoch, step = int(position["epoch"]), int(position["step"])
            weights = _prefixed(tensors, "network/")
            _same_shapes(weights, self.network.state_dict())
            state = self._optimizer_state(_prefixed(tensors, "optimizer/"))
            rows = tensors["history"].numpy()
            history = [
                {
                    name: float(x)
                    for name, x in zip(HISTORY_COLUMNS, row, strict=True)
                    if not np.isnan(x)
                }
                for row in rows
            ]
            fitted = {int(epoch): bits for epoch, bits in _prefixed(tensors, "fitted/").items()}
            running = tensors["running"].reshape(2)
        except (KeyError, RuntimeError, ValueError, IndexError, TypeError) as error:
            raise UserError(
                f"{path} is not a training state of this network and optimiser: "
                f"{str(error).splitlines()[0]}"
            ) from None
        self.network.load_state_dict(weights)
        self._load_optimizer(state)
        self.running.copy_(running)
        self.epoch, self.step, self.history, self.fitted = epoch, step, history, fitted

    def _optimizer_state(self, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        parameters = self.optimizer.param_groups[0]["params"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            index, name = key.split("/")
            parameter = parameters[int(index)]
            if value.shape not in (parameter.shape, ()):
                raise ValueError(f"{key} has the shape {value.shape}, expected {parameter.shape}")
            if value.shape == parameter.shape:  # laid out alike, as in `lay_out`
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        return {"state": state, "param_groups": groups}

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        optimizer, found = self.optimizer, state["state"]
        if not optimizer.state:
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            return
        for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
            for name, tensor in optimizer.state.get(parameter, {}).items():
                # A state from before the first step has no buffers: they are zero.
                tensor.copy_(found[index][name]) if index in found else tensor.zero_()


def _same_shapes(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    shapes = [{name: tensor.shape for name, tensor in t.items()} for t in (found, expected)]
    if shapes[0] != shapes[1]:
        names = {*found, *expected}
        odd = min(name for name in names if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(f"{odd} has the shape {shapes[0].get(odd)}, expected {shapes[1].get(odd)}")


def _prefixed(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def new_run(
    settings: Training,
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
            settings.network, width=width, num_classes=num_classes, image_size=image_size
        )
    network = network.to(device=device, memory_format=torch.channels_last).train()
    run = Run(
        network=network,
        optimizer=settings.optimizer.build(network.parameters()),
        running=torch.zeros(2, dtype=torch.float64, device=device),
    )
    run.choose_kernels()
    return run
