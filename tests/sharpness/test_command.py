import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from smoothdescent.cli import main
from smoothdescent.files import read_metadata, read_table, sha256_file
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import save_weights
from smoothdescent.sharpness import SVDPaths, Tangent, measure

PROCEDURAL = {"source": "procedural", "seed": 0, "train": 40, "test": 20, "size": 16}
MOMENTS = ["--mean", "0.5", "0.5", "0.5", "--std", "0.2", "0.2", "0.2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny data set file, a label table and a network's weights."""
    folder = tmp_path_factory.mktemp("measure")
    data, labels = folder / "data.safetensors", folder / "labels.parquet"
    settings = json.dumps(PROCEDURAL)
    main(["prepare-data", "--settings", settings, "--name", "tiny", "--output", str(data)])
    noise = {"validation": 8, "noise": {"kind": "symmetric", "rate": 0.5}}
    options = ["--settings", json.dumps(noise), "--output", str(labels)]
    main(["make-labels", "--data", str(data), *options])
    torch.manual_seed(0)
    network = build("convnet", width=2, num_classes=10, image_size=16)
    save_weights(folder / "weights.safetensors", network, {})
    return folder


def arguments(files, output, *more, data="data.safetensors"):
    return [
        *("measure", "--network", "convnet", "--width", "2", "--output", str(output)),
        *("--weights", str(files / "weights.safetensors"), "--data", str(files / data)),
        *("--device", "cpu", *more),
    ]


def load_network(files):
    from smoothdescent.networks.weights import load_weights

    network = build("convnet", width=2, num_classes=10, image_size=16)
    load_weights(files / "weights.safetensors", network)
    return network


def test_the_table_is_that_of_the_library(files, tmp_path):
    from smoothdescent.data.store import open_store

    output = tmp_path / "table.parquet"
    labels = files / "labels.parquet"
    options = (
        f"--labels {labels} --samples 9 --jitters 2 --strengths 3 6 --directions 2 --seed 5 "
        "--step full --memory 64MiB"
    )
    main(arguments(files, output, *options.split()))
    store = open_store(files / "data.safetensors")
    frame = read_table(labels).to_pandas().query("split == 'train'")[:9]
    expected = measure(
        load_network(files),
        store.train.images[frame["sample_id"]],
        frame["label"].to_numpy(),
        frame["sample_id"].to_numpy(),
        mean=store.mean,
        std=store.std,
        paths=SVDPaths(2, (3, 6)),
        tangent=Tangent(jitters=2, step="full"),
        seed=5,
    )
    found = read_table(output)
    assert found.drop_columns("is_noisy").equals(expected.replace_schema_metadata(None))
    assert found.column_names[:3] == ["sample_id", "is_noisy", "volume"]
    noisy = found.to_pandas().groupby("sample_id")["is_noisy"].first()
    assert noisy.tolist() == frame["is_noisy"].tolist() and noisy.any()

    metadata = read_metadata(output)
    settings = json.loads(metadata["settings"])
    assert settings["network"] == "convnet" and settings["strengths"] == [3, 6]
    assert settings["mean"] == list(store.mean)
    assert metadata["weights_sha256"] == sha256_file(files / "weights.safetensors")
    assert metadata["data_sha256"] == store.sha256
    assert metadata["device"] == "cpu" and metadata["dtype"] == "float32"
    assert "torch" in json.loads(metadata["library_versions"])


def write_shards(folder, store):
    """Write a data set file's images in the layout of the Hugging Face hub."""
    folder.mkdir()
    for name, split in (("train", store.train), ("test", store.test)):
        rows = []
        for image in split.images:
            buffer = io.BytesIO()
            Image.fromarray(np.array(image)).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"img": pa.array(rows, kind), "label": np.array(split.labels)})
        pq.write_table(table, folder / f"{name}-00000-of-00001.parquet")


def test_every_source_gives_the_same_table(files, tmp_path):
    from smoothdescent.data.store import open_store

    write_shards(tmp_path / "shards", open_store(files / "data.safetensors"))
    settings = tmp_path / "data.yaml"
    settings.write_text(json.dumps(PROCEDURAL), encoding="utf-8")
    tables = []
    for number, source in enumerate(
        (
            files / "data.safetensors",
            tmp_path / "shards",
            settings,
            json.dumps(PROCEDURAL),
        )
    ):
        output = tmp_path / f"{number}.parquet"
        command = arguments(files, output, "--volumes", "1", "--paths", "shift", *MOMENTS)
        command[command.index("--data") + 1] = str(source)
        main([*command, "--split", "test"])
        tables.append(read_table(output).replace_schema_metadata(None))
    assert tables[0].num_rows == 40
    assert all(table.equals(tables[0]) for table in tables)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--samples", "41"], "--samples is 41; expected 1 to 40"),
        (["--data", "nowhere"], "--data nowhere does not exist"),
        (["--data", json.dumps(PROCEDURAL)], "give --mean and --std"),
        (["--width", "3"], "shape"),
        (["--strengths", "14"], "17 smallest singular values"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["--memory", "1KiB"], "memory is 1024 bytes"),
        (["--mean", "0.5"], "mean"),
        (["--network", "no.such:network"], "no.such:network"),
        (["--volumes", "9"], "volumes is 9"),
    ],
)
def test_wrong_arguments(files, tmp_path, capsys, more, message):
    output = tmp_path / "table.parquet"
    with pytest.raises(SystemExit) as left:
        main(arguments(files, output, *more))
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_labels_of_other_data(files, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    settings = json.dumps(PROCEDURAL | {"seed": 1})
    main(["prepare-data", "--settings", settings, "--name", "other", "--output", str(other)])
    with pytest.raises(SystemExit):
        options = ("--labels", str(files / "labels.parquet"), "--data", str(other))
        main(arguments(files, tmp_path / "t.parquet", *options))
    assert "was made from other data" in capsys.readouterr().err


def test_sizes_without_default_strengths(files, tmp_path, capsys):
    settings = json.dumps(PROCEDURAL | {"size": 24})
    with pytest.raises(SystemExit):
        main(arguments(files, tmp_path / "t.parquet", "--data", settings, *MOMENTS))
    assert "--strengths is missing" in capsys.readouterr().err


def claiming(files, folder, size=16, to=torch.float32, **metadata):
    """Write weights that say of themselves what they belong to."""
    torch.manual_seed(0)
    network = build("convnet", width=2, num_classes=10, image_size=size).to(to)
    path = folder / "claiming.safetensors"
    save_weights(path, network, {key: str(value) for key, value in metadata.items()})
    return path, network.float()


def test_the_image_size_and_width_that_weights_say_are_applied(files, tmp_path, capsys):
    from smoothdescent.data.loading import load_pixels
    from smoothdescent.data.store import open_store

    said = {"image_size": 8, "width": 2, "network": "convnet", "num_classes": 10}
    weights, network = claiming(files, tmp_path, size=8, **said)
    output = tmp_path / "t.parquet"
    words = arguments(files, output, "--weights", str(weights), "--samples", "6")
    del words[words.index("--width") : words.index("--width") + 2]
    main([*words, "--volumes", "1", "--strengths", "2"])
    printed = capsys.readouterr().err
    assert "images of 16 pixels are averaged down to image_size 8" in printed
    assert "width 2, as" in printed
    store = open_store(files / "data.safetensors")
    expected = measure(
        network,
        load_pixels(store, range(6), 8),
        np.array(store.train.labels[:6]),
        mean=store.mean,
        std=store.std,
        paths=SVDPaths(4, (2,)),
    )
    assert read_table(output).equals(expected.replace_schema_metadata(None))
    settings = json.loads(read_metadata(output)["settings"])
    assert settings["image_size"] == 8 and settings["width"] == 2


@pytest.mark.parametrize(
    ("said", "more", "message"),
    [
        ({"network": "resnet18"}, [], "--network is convnet, but"),
        ({"width": 3}, [], "says width 3"),
        ({"num_classes": 100}, [], "its number of classes is 10, but"),
        ({"image_size": 32}, [], "says image_size 32, but the data have images of 16 pixels"),
        ({"mean": [0.4] * 3}, MOMENTS, "says mean [0.4, 0.4, 0.4]"),
    ],
)
def test_what_contradicts_the_weights_is_refused(files, tmp_path, capsys, said, more, message):
    weights, _ = claiming(files, tmp_path, **said)
    with pytest.raises(SystemExit):
        main(arguments(files, tmp_path / "t.parquet", "--weights", str(weights), *more))
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t.parquet").exists()


def test_other_data_labels_and_normalisation_are_said(files, tmp_path, capsys):
    said = {"data_sha256": "0", "labels_sha256": "1", "mean": [0.4] * 3, "std": [0.3] * 3}
    weights, _ = claiming(files, tmp_path, **said)
    output = tmp_path / "t.parquet"
    few = ["--samples", "3", "--volumes", "0"]
    main(arguments(files, output, "--weights", str(weights), *few))
    printed = capsys.readouterr().err
    for words in ("trained on other data", "trained on other labels", "mean [0.4, 0.4, 0.4], as"):
        assert words in printed
    assert json.loads(read_metadata(output)["settings"])["mean"] == [0.4] * 3


@pytest.mark.parametrize(
    ("to", "name"), [(torch.float16, "F16"), (torch.bfloat16, "BF16"), (torch.float64, "F64")]
)
def test_what_rounds_is_recorded(files, tmp_path, to, name):
    weights, _ = claiming(files, tmp_path, to=to)
    output = tmp_path / "t.parquet"
    few = ["--samples", "3", "--volumes", "0"]
    main(arguments(files, output, "--weights", str(weights), *few))
    assert read_metadata(output)["weights_dtypes"] == name
