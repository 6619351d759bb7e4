"""Files that a data set is read from are inputs of the DAG."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from training.tiny import contents
from workflow.study import Study

from smoothdescent.files import read_metadata, read_table

pytestmark = pytest.mark.slow


def write_images(folder, first_label):
    """Write 40 training and test images of four classes, in the layout of the hub."""
    folder.mkdir(exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split in ("train", "test"):
        rows = []
        for i in range(40):
            pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
        labels = [(i + first_label) % 4 for i in range(40)]
        table = pa.table({"image": pa.array(rows, kind), "label": labels})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


@pytest.fixture
def study(tmp_path):
    study = Study(tmp_path, "convnet-cifar100")
    for name, first in (("old", 0), ("new", 1), ("copy", 0)):
        write_images(tmp_path / name, first)
    study.config["datasets"]["mine"] = {"source": "parquet", "path": "old"}
    study.set(widths=[1], seeds=[0], epochs=1, snapshots=[], data={"dataset": "mine"})
    study.run("measure")
    return study


def labels(study):
    return read_table(study.results / "labels.parquet").to_pandas()["label_true"].tolist()[:4]


def test_another_folder_and_replaced_files(study):
    store = study.folder / "results/demo/data/mine.safetensors"
    assert labels(study) == [0, 1, 2, 3]
    runs = contents(study.results / "runs")
    # Equal images elsewhere cost no training ...
    study.config["datasets"]["mine"]["path"] = "copy"
    study.write()
    assert study.jobs("measure")["prepare_data"] == 1
    study.run("measure")
    assert contents(study.results / "runs") == runs
    # ... other ones do,
    study.config["datasets"]["mine"]["path"] = "new"
    study.write()
    study.run("measure")
    assert labels(study) == [1, 2, 3, 0]
    assert contents(study.results / "runs") != runs
    # and so do files that are replaced, from which the old run comes back.
    write_images(study.folder / "new", 0)
    assert study.jobs("measure")["prepare_data"] == 1
    study.run("measure")
    assert labels(study) == [0, 1, 2, 3]
    after = contents(study.results / "runs/w1_s0")
    assert {f"w1_s0/{name}": content for name, content in after.items()} == runs
    assert study.jobs("measure") == {}
    # Once they are decoded, the images need not stay.
    shutil.rmtree(study.folder / "new")
    assert study.jobs("measure") == {}
    # What was read is recorded, and not what the configuration says.
    assert "sha256" in json.dumps(read_metadata(store))
