"""Training on a GPU: captured steps, precisions, runs side by side, every bit repeated."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from training.test_step import data_on, start
from training.tiny import NAME, Files, contents, tiny_study

from smoothdescent.devices import prepare_training
from smoothdescent.files import read_metadata
from smoothdescent.networks.weights import load_tensors
from smoothdescent.training.engine import train
from smoothdescent.training.run import LAYOUTS
from smoothdescent.training.step import GPU_KERNELS, WARM_UP, Step, own_stream

pytestmark = pytest.mark.gpu

FAMILIES = {
    "convnet": {"name": "sgd", "learning_rate": 0.01},
    "resnet18": {"name": "adam", "learning_rate": 0.001},
}
# Of the largest weight, after some twenty steps whose kernels add in another order.
TOLERANCE = {"float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}
EPOCHS = WARM_UP + 3  # the last, smaller batch comes once in each


def experiment_of(network="convnet", **changes):
    changes = {
        "network": network,
        "optimizer": FAMILIES.get(network, FAMILIES["convnet"]),
    } | changes
    return tiny_study(**changes).experiments[NAME]


def trained(experiment, device="cuda", kernels="torch, channels-last"):
    """Train 50 images in batches of 16 and one of 2, and return the run and its step."""
    data, run = data_on(device), start(experiment, device)
    run.choose_kernels(kernels)
    assert run.kernels == kernels
    step = Step(run, data, experiment)
    train(run, data, experiment, seed=0, until=EPOCHS, evaluate_at=set(), step=step)
    return run, step


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("network", FAMILIES)
def test_captured_as_launched_one_by_one(network, precision, augmented, monkeypatch):
    changes = {"augmentation": {"shift": 2, "flip": True}} if augmented else {}
    experiment = experiment_of(network, precision=precision, **changes)
    run, step = trained(experiment)
    assert step._graphs.keys() == {16, 2}
    monkeypatch.setattr(Step, "capturing", False)
    eager, step = trained(experiment)
    assert not step._graphs
    expected = eager.network.state_dict()  # batch norms' buffers included
    for name, tensor in run.network.state_dict().items():
        atol = TOLERANCE[precision] * float(expected[name].abs().max())
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=atol, msg=name)
    assert losses(run) == pytest.approx(losses(eager), rel=10 * TOLERANCE[precision])


def losses(run):
    return [row["train_loss"] for row in run.history[1:]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_stages_in_one_kernel(precision, layout):
    """Captured, against PyTorch's modules, alone and in four runs side by side."""
    experiment = experiment_of(precision=precision)
    expected, _ = trained(experiment)
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: trained(experiment, kernels=f"fused, {layout}"), range(4)))
    for run, step in [trained(experiment, kernels=f"fused, {layout}"), *runs]:
        assert step._graphs.keys() == {16, 2}
        assert losses(run) == pytest.approx(losses(expected), rel=10 * TOLERANCE[precision])
        evaluations = [r.history[-1]["test_loss"] for r in (run, expected)]
        assert evaluations[0] == pytest.approx(evaluations[1], rel=10 * TOLERANCE[precision])


@pytest.mark.parametrize("layout", LAYOUTS.values())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "window"), [(1, 1), (24, 2), (16, 8)])
def test_one_kernel_against_the_modules(channels, window, dtype, layout):
    from smoothdescent.kernels.pooled_stage import bias_pool_relu

    x = torch.randn(130, channels, 16, 16).to("cuda", dtype, memory_format=layout).requires_grad_()
    bias = torch.randn(channels, device="cuda", requires_grad=True)
    y = bias_pool_relu(x, bias, window)
    assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
    found = [y.float(), *torch.autograd.grad(y.float().square().sum(), [x, bias])]
    wide = x.float() + bias[:, None, None]
    y = torch.relu(torch.nn.functional.max_pool2d(wide, window)).to(dtype)
    expected = [y.float(), *torch.autograd.grad(y.float().square().sum(), [x, bias])]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-4
        )


def test_a_network_that_reads_back_trains_on(monkeypatch, capsys):
    monkeypatch.setattr(Step, "capturing", True)  # put back after the test
    run, step = trained(experiment_of("training.networks:reads_back"))
    assert run.epoch == EPOCHS and not step._graphs and not Step.capturing
    said = capsys.readouterr().err
    assert said.count("cannot be captured") == 1 and "previous error" not in said
    # What its capture had allocated does not keep later runs from training.
    monkeypatch.setattr(Step, "capturing", True)
    assert trained(experiment_of())[1]._graphs


def test_memory_of_one_run_after_the_other():
    held = []
    for _ in range(12):
        trained(experiment_of("resnet18"))
        held.append(torch.cuda.memory_reserved())
    assert max(held[4:]) <= max(held[:4])


@pytest.mark.parametrize("network", FAMILIES)
def test_nothing_is_read_back_in_an_epoch(network):
    experiment = experiment_of(network, augmentation={"shift": 2, "flip": True})
    device = torch.device("cuda")
    data, run = data_on(device), start(experiment, device)
    batches = torch.randperm(50).to(device).split(16)
    with own_stream(device):
        step = Step(run, data, experiment)
        for epoch in range(EPOCHS):
            step.start_epoch(0, epoch)
            # Capturing waits for the device; the steps before and after it do not.
            waits = "error" if epoch in (1, EPOCHS - 1) else "default"
            torch.cuda.set_sync_debug_mode(waits)
            try:
                for batch in batches:
                    step(batch, 0.01)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert step._graphs.keys() == {16, 2}


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu():
    run, step = trained(experiment_of("resnet18"), torch.device("cuda", 1))
    assert step._graphs.keys() == {16, 2}
    assert {p.device.index for p in run.network.parameters()} == {1}


@pytest.fixture
def commands(tmp_path):
    """A function that starts trainings, of a folder's tag and runs, each in its own process."""

    def run(*jobs, **changes):
        study = tiny_study(widths=[2, 3], seeds=[0, 1], precision="tf32", **changes)
        files = Files(tmp_path, study)
        more = ["--device", "cuda", "--deterministic"]
        processes = [
            subprocess.Popen([*files.command(*runs, tag=tag), *more]) for tag, *runs in jobs
        ]
        assert {process.wait() for process in processes} == {0}

    return run


RUNS = ["w2_s0", "w2_s1", "w3_s0", "w3_s1"]


@pytest.mark.parametrize("network", FAMILIES)
def test_every_bit_is_repeated(commands, network, tmp_path):
    """By another process, by runs one after the other, and by a run that was cut off."""
    changes = {"network": network, "optimizer": FAMILIES[network]}
    jobs = [["-together", *RUNS], ["-again", *RUNS], *(["-alone", run] for run in RUNS)]
    commands(*jobs, **changes)
    together, again, alone, resumed = (
        tmp_path / f"runs-{tag}" for tag in ("together", "again", "alone", "resumed")
    )
    assert contents(together) == contents(again) == contents(alone)
    for epochs in (3, 6):
        commands(["-resumed", RUNS[0]], epochs=epochs, **changes)
    last = f"{RUNS[0]}/snapshots/e6.safetensors"
    expected, found = load_tensors(together / last)[0], load_tensors(resumed / last)[0]
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_the_memory_layout_is_chosen_once_and_kept(tmp_path):
    """Whatever it is, a run that resumes keeps to it, and its history says so."""
    for epochs in (3, 6):
        files = Files(tmp_path, tiny_study(epochs=epochs))
        subprocess.run([*files.command("w2_s0"), "--device", "cuda"], check=True)
    metadata = read_metadata(tmp_path / "runs/w2_s0/history.parquet")
    (condition,) = json.loads(metadata["conditions"])
    assert condition["kernels"] in GPU_KERNELS
    assert condition["deterministic"] is False and condition["cudnn"]


def test_float32_is_full():
    """Products of the process that trains, also where the GPU has TF32."""
    x = torch.randn(256, 256, device="cuda")
    prepare_training(x.device, torch.get_num_threads())
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).cuda()
    images = torch.randn(8, 64, 16, 16, device="cuda")
    exact = (x.double() @ x.double()).float()
    torch.testing.assert_close(x @ x, exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    found, exact = layer(images), layer.double()(images.double()).float()
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
