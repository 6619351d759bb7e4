"""The sharpest and the flattest training images of an experiment, and their paths."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from smoothdescent.explore.content import numbers
from smoothdescent.files import read_table
from smoothdescent.layout import run_name, sharpness_path
from smoothdescent.tables.experiment import ExperimentTables

IMAGES = 4  # of each kind
RANKED_BY, SHOWN = "jacobian_norm", "crossentropy"


def gallery(folder: Path, data: Path, experiment: ExperimentTables) -> dict[str, Any] | None:
    """Return the images whose loss is sharpest and flattest around them, and what is seen there.

    They are ranked by the Jacobian norm over the largest volume, in one run at the threshold (or
    of the middle width, where there is none). Beside them is the loss over each volume in that run
    and in those of the narrowest and the widest network.

    Args:
        folder: of the experiment's results.
        data: of the decoded data sets.
        experiment: its tables.

    Returns:
        None if the norm or the loss was not measured, or the tables do not say how.

    Raises:
        UserError: the images, labels or a table of a checkpoint are missing or damaged.
    """
    measured = {RANKED_BY, SHOWN} <= {*experiment.sharpness}
    if not measured or not experiment.final_epochs or "measure" not in experiment.config:
        return None
    widths = sorted(experiment.history["width"].unique())
    middle = experiment.threshold or widths[len(widths) // 2]
    seed, epoch = experiment.history["seed"].min(), experiment.final_epochs[-1]
    tables = {
        int(width): read_table(
            sharpness_path(folder / "runs" / run_name(width, seed), epoch),
            ["sample_id", "volume", RANKED_BY, SHOWN],
        ).to_pandas()
        for width in dict.fromkeys([widths[0], middle, widths[-1]])
    }
    ranked = tables[int(middle)]
    ranked = ranked[ranked["volume"] == ranked["volume"].max()].sort_values(RANKED_BY)
    count = min(IMAGES, len(ranked) // 2)
    chosen = [*ranked["sample_id"].iloc[::-1][:count], *ranked["sample_id"][:count]]
    losses = [
        {
            "width": width,
            "loss": {
                int(sample): numbers(rows.sort_values("volume")[SHOWN])
                for sample, rows in table[table["sample_id"].isin(chosen)].groupby("sample_id")
            },
        }
        for width, table in tables.items()
    ]
    return {
        "run": run_name(int(middle), int(seed)),
        "epoch": int(epoch),
        "images": _images(folder, data, experiment, [int(sample) for sample in chosen]),
        "sharpest": count,
        "ranked_by": {
            int(s): v for s, v in zip(ranked["sample_id"], numbers(ranked[RANKED_BY]), strict=True)
            if s in chosen
        },
        "losses": losses,
    }  # fmt: skip


def _images(
    folder: Path, data: Path, experiment: ExperimentTables, samples: list[int]
) -> list[dict[str, Any]]:
    """Return each image with its labels and, for each strength, its augmentation on one path."""
    from smoothdescent.data.loading import load_pixels, read_label_table
    from smoothdescent.data.store import open_store
    from smoothdescent.sharpness.paths import Paths, path_images

    store = open_store(data / f"{experiment.config['data']['dataset']}.safetensors")
    labels, _ = read_label_table(folder / "labels.parquet", store)
    rows = np.searchsorted(labels["sample_id"], samples)
    settings = experiment.config["measure"]["paths"]
    paths = Paths(settings["family"], settings["directions"], tuple(settings["strengths"]))
    pixels = load_pixels(store, samples, experiment.config["data"].get("image_size"))
    # [N, K+1, S, S, 3]: the first of each image's paths.
    shown = path_images(pixels, paths)[:, 0].permute(0, 1, 3, 4, 2).numpy()
    names = store.class_names
    return [
        {
            "sample_id": sample,
            "label": names[labels["label"][row]],
            "label_true": names[labels["label_true"][row]],
            "is_noisy": bool(labels["is_noisy"][row]),
            "strengths": [0, *settings["strengths"]],
            "path": [_png(image) for image in images],
        }
        for sample, row, images in zip(samples, rows, shown, strict=True)
    ]


def _png(image: np.ndarray) -> str:
    """Return an image [S, S, 3] of pixels in [0, 1] as the address of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((255 * image.clip(0, 1)).round().astype("uint8")).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
