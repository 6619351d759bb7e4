"""Split the training images of a data set and corrupt training labels into a label table.

    smoothdescent make-labels --data procedural10.safetensors --output labels.parquet \\
        --settings '{"validation": 100, "noise": {"kind": "symmetric", "rate": 0.2}}'

Section 4.5 of the paper describes the asymmetric noise. The settings are JSON or a YAML file with
the keys train_samples (null: all), validation, split_seed, noise_seed and noise: null,
{"kind": "symmetric", "rate": 0.2} or {"kind": "asymmetric", "classes": 20, "rate": 0.8}.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from smoothdescent.data.settings import read_settings
from smoothdescent.data.store import open_store
from smoothdescent.errors import UserError
from smoothdescent.files import write_table
from smoothdescent.randomness import numpy_generator

# keys of the noise block, by kind
NOISE_KEYS = {"symmetric": {"kind", "rate"}, "asymmetric": {"kind", "classes", "rate"}}
SETTINGS_KEYS = ("train_samples", "validation", "split_seed", "noise", "noise_seed")


def make_labels(
    labels_true: np.ndarray,
    num_classes: int,
    *,
    train_samples: int | None = None,
    validation: int = 0,
    split_seed: int = 0,
    noise: Mapping[str, Any] | None = None,
    noise_seed: int = 0,
) -> pd.DataFrame:
    """Return the label table of an experiment.

    A permutation drawn by the split seed gives first the validation samples, then the training
    samples: with one seed, a smaller training set is part of a larger one. Only training labels
    are corrupted. Symmetric noise of rate p corrupts exactly round(p N) of the N training samples;
    asymmetric noise exactly round(rate n) of the n training samples of each corrupted class. A
    corrupted label is uniform over the C-1 other classes.

    Args:
        labels_true: int64 [all training images of the data set].
        num_classes: C.
        train_samples: N; None takes all that the validation split leaves.
        validation: number of validation samples.
        split_seed, noise_seed: fix the split, and the noise.
        noise: None, or a noise block (see `NOISE_KEYS`).

    Returns:
        A frame sorted by sample_id (position in the data set), with the columns sample_id,
        label_true, label (trained on), is_noisy and split ('train' or 'validation').

    Raises:
        UserError: more samples asked for than there are, a single class, or a fault in the noise
            block.
    """
    if num_classes < 2:
        raise UserError(f"the data set has {num_classes} class; expected at least 2")
    total = len(labels_true)
    if validation < 0 or (train_samples is not None and train_samples < 1):
        raise UserError(
            f"keys 'train_samples' and 'validation' are {train_samples} and {validation}; expected "
            "at least 1 and at least 0"
        )
    wanted = validation + (1 if train_samples is None else train_samples)
    if wanted > total:
        raise UserError(
            f"keys 'train_samples' and 'validation' ask for {wanted - validation} and {validation} "
            f"samples; the data set has {total} training images"
        )
    order = numpy_generator(split_seed, "labels/split").permutation(total)
    held_out = np.sort(order[:validation])
    stop = None if train_samples is None else validation + train_samples
    train = np.sort(order[validation:stop])

    labels_true = np.asarray(labels_true, dtype=np.int64)
    labels = labels_true.copy()
    chosen = train[_noisy_positions(labels_true[train], num_classes, noise, noise_seed)]
    offsets = numpy_generator(noise_seed, "labels/noisy-labels").integers(
        1, num_classes, size=len(chosen)
    )
    labels[chosen] = (labels_true[chosen] + offsets) % num_classes

    frame = pd.DataFrame(
        {
            "sample_id": np.concatenate([train, held_out]),
            "split": ["train"] * len(train) + ["validation"] * len(held_out),
        }
    ).sort_values("sample_id", ignore_index=True)
    frame["label_true"] = labels_true[frame["sample_id"]]
    frame["label"] = labels[frame["sample_id"]]
    frame["is_noisy"] = frame["label"] != frame["label_true"]
    return frame[["sample_id", "label_true", "label", "is_noisy", "split"]]


def corrupted_classes(
    num_classes: int, noise: Mapping[str, Any] | None, noise_seed: int
) -> list[int]:
    """Return the classes that asymmetric noise corrupts, ascending; none for other noise.

    Raises:
        UserError: a fault in the noise block.
    """
    _check_noise(num_classes, noise)
    if noise is None or noise["kind"] != "asymmetric":
        return []
    generator = numpy_generator(noise_seed, "labels/corrupted-classes")
    return sorted(generator.choice(num_classes, noise["classes"], replace=False).tolist())


def _noisy_positions(
    labels: np.ndarray, num_classes: int, noise: Mapping[str, Any] | None, noise_seed: int
) -> np.ndarray:
    """Return which of the training samples, int64 [N], get a wrong label: int64 [count]."""
    classes = corrupted_classes(num_classes, noise, noise_seed)
    if noise is None:
        return np.empty(0, dtype=np.int64)
    if noise["kind"] == "symmetric":
        groups = [np.arange(len(labels))]
    else:
        groups = [np.flatnonzero(labels == c) for c in classes]
    generator = numpy_generator(noise_seed, "labels/noisy-samples")
    return np.concatenate(
        [generator.choice(g, round(noise["rate"] * len(g)), replace=False) for g in groups]
    )


def _check_noise(num_classes: int, noise: Mapping[str, Any] | None) -> None:
    if noise is None:
        return
    kind = noise.get("kind") if isinstance(noise, Mapping) else None
    if kind not in NOISE_KEYS:
        raise UserError(
            f"key 'noise' is {noise!r}; expected null or a mapping whose 'kind' is "
            f"{' or '.join(NOISE_KEYS)}"
        )
    if set(noise) != NOISE_KEYS[kind]:
        raise UserError(
            f"key 'noise' has the keys {', '.join(sorted(noise))}; {kind} noise takes "
            f"{', '.join(sorted(NOISE_KEYS[kind]))}"
        )
    rate = noise["rate"]
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise UserError(f"key 'noise.rate' is {rate!r}; expected a number from 0 to 1")
    classes = noise.get("classes", 1)
    if not isinstance(classes, int) or not 1 <= classes <= num_classes:
        raise UserError(
            f"key 'noise.classes' is {classes!r}; expected a whole number from 1 to {num_classes}, "
            "the data set's number of classes"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--data", required=True, help="the data set's file")
    parser.add_argument(
        "--settings", required=True, help="split and noise: JSON, or the name of a YAML file"
    )
    parser.add_argument("--output", required=True, help="the label table to write (.parquet)")


def run(args: argparse.Namespace) -> None:
    """Write the label table, with the settings and the corrupted classes in its metadata.

    Raises:
        UserError: a fault in the data set file or in the settings.
    """
    settings = read_settings(args.settings)
    for key in settings:
        if key not in SETTINGS_KEYS:
            raise UserError(
                f"argument --settings has the unknown key {key!r}; expected some of "
                f"{', '.join(SETTINGS_KEYS)}"
            )
    for key in ("train_samples", "validation", "split_seed", "noise_seed"):
        value = settings.get(key)
        if not isinstance(value, int | None):
            raise UserError(f"key {key!r} is {value!r}; expected a whole number")
    store = open_store(args.data)
    given = {key: value for key, value in settings.items() if value is not None}
    frame = make_labels(store.train.labels, store.num_classes, **given)
    noise = given.get("noise")
    metadata = {
        "dataset": store.name,
        "data_sha256": store.sha256,
        "num_classes": store.num_classes,
        "settings": settings,
        "noise": noise,
        "corrupted_classes": corrupted_classes(
            store.num_classes, noise, given.get("noise_seed", 0)
        ),
    }
    write_table(args.output, frame, metadata)
    training = frame[frame["split"] == "train"]
    print(
        f"{args.output}: {len(training)} training samples, {training['is_noisy'].sum()} with a "
        f"wrong label, and {len(frame) - len(training)} validation samples"
    )
