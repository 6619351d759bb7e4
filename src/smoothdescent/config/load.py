"""Read `config.yaml`, lay its blocks over each other at a scale, validate the result."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from smoothdescent.config.schema import Experiment, ResolvedExperiment, Study
from smoothdescent.config.types import Block
from smoothdescent.data.sources import SOURCES
from smoothdescent.errors import UserError

Settings = TypeVar("Settings", bound=Block)

# A block with one of these keys is of one of several kinds; keys of one kind do not fit another.
_KIND_KEYS = ("source", "kind", "name", "family")
MOST_VALUES = 100_000


def overlay(base: Any, patch: Any) -> Any:
    """Return `base` with the values of `patch` laid over it, block by block.

    A block of another kind (another `source`, `kind`, optimiser `name` or path `family`) replaces
    the old one; lists and plain values are replaced too.
    """
    if not (isinstance(base, dict) and isinstance(patch, dict)):
        return copy.deepcopy(patch)
    if any(key in base and key in patch and base[key] != patch[key] for key in _KIND_KEYS):
        return copy.deepcopy(patch)
    merged = copy.deepcopy(base)
    for key, value in patch.items():
        merged[key] = overlay(merged[key], value) if key in merged else copy.deepcopy(value)
    return merged


def add_layer(base: Any, layer: Any) -> Any:
    """Return `base` with the values of `layer` laid over it as Snakemake lays a `--configfile`.

    Unlike `overlay`, it keeps the old keys of a block that becomes one of another kind.
    """
    if not isinstance(layer, dict):
        return copy.deepcopy(layer)
    if not layer:
        return base
    known = base if isinstance(base, dict) else {}
    return known | {key: add_layer(known.get(key, {}), value) for key, value in layer.items()}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        UserError: the file is missing, is not YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a YAML file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; expected a YAML file") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply; expected a configuration") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, expected a mapping of keys")
    return content


def as_in_a_file(config: Any, given: Any) -> Any:
    """Return a configuration with what a command line gave read as a YAML file would read it.

    Snakemake takes the nested values of `--config` for strings.

    Args:
        config: the configuration in force; left as it is.
        given: what `--config` gave, which has been laid over it.
    """
    if isinstance(given, Mapping) and isinstance(config, Mapping):
        return {
            key: as_in_a_file(value, given[key]) if key in given else value
            for key, value in config.items()
        }
    if isinstance(given, str) and config == given:
        try:
            return yaml.safe_load(given)
        except yaml.YAMLError:
            return given
    if isinstance(given, (list, tuple)) and config == given:
        return [as_in_a_file(value, value) for value in given]
    return config


def resolve(config: dict[str, Any], source: str = "config.yaml") -> Study:
    """Return the study that a configuration describes at its chosen scale.

    Values are taken, later over earlier, from `defaults`, `scales.<scale>.defaults`,
    `experiments.<name>` and `scales.<scale>.experiments.<name>`. An experiment that the scale sets
    to null is left out.

    Args:
        config: the content of `config.yaml`, command-line overrides included; left as it is.
        source: name of the file, for messages.

    Raises:
        UserError: names the key that is unknown, of the wrong type or out of range, and says what
            was expected.
    """
    _check_size(config, source)
    config = copy.deepcopy(config)
    scales = _mapping(config.pop("scales", None), f"{source}: scales")
    scale = config.get("scale")
    if not isinstance(scale, str) or scale not in scales:
        raise UserError(
            f"{source}: scale is {scale!r}, expected one of {', '.join(map(str, scales))}"
        )
    here = f"{source}: scales.{scale}"
    patch = _mapping(scales[scale], here)
    _only_keys(patch, {"defaults", "experiments"}, here)
    defaults = overlay(config.pop("defaults", None) or {}, patch.get("defaults") or {})
    experiments = _mapping(config.get("experiments"), f"{source}: experiments")
    patches = patch.get("experiments") or {}
    _only_keys(_mapping(patches, f"{here}.experiments"), set(experiments), f"{here}.experiments")
    datasets = _mapping(config.get("datasets"), f"{source}: datasets")
    for name, block in experiments.items():
        _check_hidden_dataset(block, datasets, f"{source}: experiments.{name}")
    config["experiments"] = {
        name: overlay(overlay(defaults, block or {}), patches.get(name) or {})
        for name, block in experiments.items()
        if not (name in patches and patches[name] is None)
    }
    for name, block in datasets.items():
        # A data set with a name is called as its key unless it says otherwise. Left out, the key
        # is in nobody's way when a command line lays another source over the block.
        kind = SOURCES.get(str(block.get("source"))) if isinstance(block, dict) else None
        if kind is not None and "name" in kind.model_fields:
            block.setdefault("name", name)
    try:
        return Study.model_validate(config)
    except ValidationError as error:
        raise UserError(_explain(error, config, source)) from None


def _check_size(config: Any, source: str) -> None:
    """Refuse what references in YAML blow up: a few lines stand for billions of values."""
    left, count = [config], 0
    while left:
        block = left.pop()
        left += (
            block.values() if isinstance(block, dict) else block if isinstance(block, list) else ()
        )
        count += 1
        if count > MOST_VALUES:
            raise UserError(f"{source} stands for more than {MOST_VALUES} values, expected fewer")


def overrides(config: dict[str, Any]) -> list[str]:
    """Say which values of a scale's defaults experiments set otherwise in their own blocks.

    Args:
        config: one that `resolve` accepts.
    """
    scale = config["scale"]
    patch = config["scales"][scale]
    patches = patch.get("experiments") or {}
    lines = []
    for name, block in config["experiments"].items():
        if name in patches and patches[name] is None:
            continue
        block = block or {}
        changed = {key for key, *_ in _differences(block, patches.get(name) or {})}
        found = [
            f"{key}: {value} (there {other})"
            for key, value, other in _differences(block, patch.get("defaults") or {})
            if key not in changed
        ]
        if found:
            lines.append(
                f"experiments.{name} goes before scales.{scale}.defaults: {', '.join(found)}"
            )
    return lines


def _differences(block: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys of plain values that two blocks set differently, with both values."""
    for key in (key for key in block if key in other):
        here, values = f"{path}{key}", (block[key], other[key])
        if all(isinstance(value, dict) for value in values):
            yield from _differences(*values, f"{here}.")
        elif values[0] != values[1]:
            yield here, *values


def _check_hidden_dataset(block: Any, datasets: dict[str, Any], where: str) -> None:
    """Check an experiment's own data set, which a scale may set otherwise."""
    data = block.get("data") if isinstance(block, dict) else None
    name = data.get("dataset") if isinstance(data, dict) else None
    if isinstance(name, str) and name not in datasets:
        raise UserError(
            f"{where}.data.dataset is {name!r}, expected one of the data sets {', '.join(datasets)}"
        )


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where} is {value!r}, expected a mapping of keys")
    return value


def _only_keys(block: dict[str, Any], known: set[str], where: str) -> None:
    unknown = [key for key in block if key not in known]
    if unknown:
        raise UserError(
            f"{where} has the unknown key {unknown[0]!r}, expected one of "
            f"{', '.join(sorted(known))}"
        )


def _explain(error: ValidationError, config: dict[str, Any], source: str) -> str:
    """Say what is wrong, one clause for each of the first faults."""
    clauses = []
    for fault in error.errors()[:3]:
        path = _key_path(fault["loc"], config)
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown key" + _where_it_belongs(fault["loc"], config.get("scale"))
        elif fault["type"] == "missing":
            message = "this key is missing"
        elif fault["type"] != "value_error":
            found = fault["input"]
            message = f"found {found!r}; {message[0].lower()}{message[1:]}"
            if isinstance(found, str) and fault["type"].startswith(("int", "float")):
                message += " (a number in quotes is a string)"
        clauses.append(f"{path}: {message}" if path else message)
    more = len(error.errors()) - len(clauses)
    return f"{source}: " + "; ".join(clauses) + (f"; and {more} more" if more > 0 else "")


def _where_it_belongs(location: tuple[int | str, ...], scale: str | None) -> str:
    """Say where a key of an experiment belongs that was given beside `scale`."""
    if len(location) > 1 or location[0] not in Experiment.model_fields:
        return ""
    key = location[0]
    return (
        f" here; it belongs into a block of `experiments` or into scales.{scale}.defaults, on the "
        f"command line --config 'scales={{{scale}: {{defaults: {{{key}: ...}}}}}}'"
    )


def _key_path(location: tuple[int | str, ...], config: Any) -> str:
    """Return the keys that lead to a fault; pydantic puts the chosen kind of a block among them."""
    keys, block = [], config
    for part in location:
        if not isinstance(block, dict):
            block = {}
        if part in block or part not in [block.get(key) for key in _KIND_KEYS]:
            keys.append(str(part))
            block = block.get(part)
    return ".".join(keys)


def dump(study: Study) -> str:
    """Return the resolved study as YAML."""
    return _yaml(study.model_dump(mode="json"))


def dump_experiment(resolved: ResolvedExperiment) -> str:
    """Return an experiment and its data set as YAML, in the places that they have in a study."""
    content = resolved.contents
    dataset = resolved.experiment.data.dataset
    return _yaml(
        {
            "datasets": {dataset: content["dataset"]},
            "experiments": {resolved.name: content["experiment"]},
        }
    )


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=100)


def parse_settings(kind: type[Settings], text: str, argument: str) -> Settings:
    """Return the settings that a job is given by value.

    Args:
        kind: the block that they are.
        text: JSON.
        argument: of the command line, for messages.

    Raises:
        UserError: the text is not JSON or not such a block.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise UserError(_explain(error, {}, argument)) from None
