"""``unetbio segment --scheduler``: tiles on the workers of dask.distributed; lost workers, schedulers and networks."""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unetbio import networks
from unetbio.cli.main import main
from unetbio.model_export.quantization import quantize_model
from unetbio.models.model_file import ModelInfo, save_model
from unetbio.postprocessing.instances import PostProcessing
from unetbio.segmentation import cluster, worker
from unetbio.settings.normalization import Normalization

distributed = pytest.importorskip("distributed", reason="distributed is not installed")

Run = Callable[..., Result]
OnTile = Callable[[cluster.RemotePredictor], object]

# A socket of dask is closed by its event loop, after the test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def save_random(path: Path, name: str = "unet", classes: int = 2, **parameters: Any) -> Path:
    """A model of random weights: its cells mean nothing; half of the pixels of noise are above the threshold."""
    import torch

    complete = networks.find(name).complete({"num_classes": classes, **parameters})
    torch.manual_seed(0)
    network = networks.build(name, complete).eval()
    if name == "unet":
        with torch.no_grad():
            logits = network(torch.rand(1, 1, *[44] * int(complete["ndim"])))
            network.head.bias[1] -= (logits[:, 1] - logits[:, 0]).median()  # type: ignore[union-attr,operator]
    info = ModelInfo(
        name=path.stem,
        architecture=name,
        parameters=complete,
        channels=("nuclei",),
        cell_diameter_px=12.0,
        normalization=Normalization("range", 0.0, 200.0),
        postprocessing=PostProcessing(0.5, (0.5,)),
        licence="BSD-3-Clause",
        version="0",
    )
    save_model(path, info, network)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return save_random(folder / "plane.safetensors", base_channels=4, depth=2, dropout=0.0)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "a.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 200, (70, 90), np.uint8))
    return path


@pytest.fixture
def run(image: Path, model: Path, tmp_path: Path) -> Run:
    """Segment an image into the folder ``out``, in tiles of 16 pixels."""

    def invoke(*arguments: str, out: str = "out", source: Path = image, by: Path = model) -> Result:
        fixed = ["--diameter", "model", "--tile", "16", "--workers", "1", "--overlays", "none"]
        return CliRunner().invoke(
            main, ["segment", str(source), "-o", str(tmp_path / out), "-m", str(by), *fixed, *arguments]
        )

    return invoke


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Any]:
    """A cluster of two workers in this process, whose start takes no time."""
    with in_process(2) as workers:
        yield workers


def in_process(workers: int) -> Any:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )


def during(monkeypatch: pytest.MonkeyPatch, call: OnTile, number: int = 5) -> None:
    """Call a function with the predictor when it is asked for its n-th tile."""
    asked = cluster.RemotePredictor.probabilities
    lock, count = threading.Lock(), 0

    def counted(self: cluster.RemotePredictor, batch: Any) -> Any:
        nonlocal count
        with lock:
            count += 1
            is_now = count == number
        if is_now:
            call(self)
        return asked(self, batch)

    monkeypatch.setattr(cluster.RemotePredictor, "probabilities", counted)


def result_of(folder: Path) -> tuple[str, bytes]:
    """Label hash and table."""
    provenance = json.loads(next(folder.glob("*_labels.json")).read_text())
    return provenance["output"]["label_hash"], (folder / "cells.csv").read_bytes()


def check_equal(folder: Path) -> None:
    assert result_of(folder / "out") == result_of(folder / "plain")
    assert len(result_of(folder / "out")[1].splitlines()) > 1


def done(result: Result) -> None:
    assert result.exit_code == 0, result.output


def refused(result: Result, code: int, message: str) -> None:
    assert result.exit_code == code, result.output
    assert [line for line in result.stderr.splitlines() if "error" in line] == [f"unetbio: error: {message}"]


@pytest.mark.parametrize("options", [(), ("--augment",)])
def test_workers_do_not_change_the_result(run: Run, scheduler: Any, tmp_path: Path, options: tuple[str, ...]) -> None:
    done(run(*options, out="plain"))
    done(run(*options, "--scheduler", scheduler.scheduler_address))
    check_equal(tmp_path)
    provenance = json.loads((tmp_path / "out/a_labels.json").read_text())
    assert provenance["run"]["workers"] == ["cpu", "cpu"]
    # The same command without workers takes the result as it is.
    assert "1 image" in run(*options).stdout
    assert worker._held == {}


def test_stacks(run: Run, scheduler: Any, tmp_path: Path) -> None:
    model = save_random(tmp_path / "stack.safetensors", ndim=3, base_channels=2, depth=1, dropout=0.0)
    source = tmp_path / "stack.tif"
    stack = np.random.default_rng(1).integers(0, 200, (9, 30, 40), np.uint8)
    tifffile.imwrite(source, stack, metadata={"axes": "ZYX"}, imagej=True)
    done(run(out="plain", source=source, by=model))
    done(run("--scheduler", scheduler.scheduler_address, source=source, by=model))
    check_equal(tmp_path)


@pytest.mark.parametrize("integers_first", [False, True])
def test_models_in_integers_are_averaged_with_others(
    run: Run, scheduler: Any, model: Path, image: Path, tmp_path: Path, integers_first: bool
) -> None:
    integers = tmp_path / "integers.safetensors"
    quantize_model(model, [image], integers)
    first, second = (integers, model) if integers_first else (model, integers)
    options = ("--ensemble", str(second), "--backend", "torch")
    done(run(*options, out="plain", by=first))
    done(run(*options, "--scheduler", scheduler.scheduler_address, by=first))
    check_equal(tmp_path)


def test_a_worker_without_the_network_is_sent_it(
    run: Run, scheduler: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during(monkeypatch, lambda predictor: worker._held.clear())
    done(run(out="plain"))
    done(run("--scheduler", scheduler.scheduler_address))
    check_equal(tmp_path)


@pytest.mark.slow
def test_the_tile_of_a_killed_worker_is_computed_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    def kill(predictor: cluster.RemotePredictor) -> None:
        killed.append(next(iter(predictor._workers._client.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)

    during(monkeypatch, kill)
    done(run(out="plain"))
    done(run("--scheduler", "local:2"))
    assert killed
    check_equal(tmp_path)


def test_a_lost_scheduler_stops_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    with in_process(1) as workers:
        address = workers.scheduler_address
        during(monkeypatch, lambda predictor: workers.close())
        message = f"the scheduler {address} is lost: start it and its workers, then run again; what is finished is kept"
        refused(run("--scheduler", address), 4, message)


def test_a_run_without_workers_left_stops(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOST_SECONDS", 0.5)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.2)
    with in_process(1) as workers:
        address = workers.scheduler_address
        during(monkeypatch, lambda predictor: workers.sync(workers.workers[0].close))
        message = f"the scheduler {address} has no worker left: start workers, then run again"
        refused(run("--scheduler", address), 4, message)


def test_a_scheduler_without_workers_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOST_SECONDS", 0.5)
    with in_process(0) as workers:
        address = workers.scheduler_address
        message = f"the scheduler {address} has no workers: start some, such as dask worker {address}"
        refused(run("--scheduler", address), 2, message)


def test_an_address_that_does_not_answer_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    message = "the scheduler 127.0.0.1:9 does not answer: start it with dask scheduler, or give its address"
    refused(run("--scheduler", "127.0.0.1:9"), 2, message)


@pytest.mark.parametrize("address", ["local:0", "local:many", "local:-1", "host", "tcp://"])
def test_what_is_no_address_is_refused(run: Run, address: str) -> None:
    result = run("--scheduler", address)
    assert result.exit_code == 2
    assert f"'{address}' is no scheduler: give its address, such as tcp://host:8786, or local:N" in result.stderr


def test_workers_of_another_version_are_refused(run: Run, scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "version", lambda package: "0.0.1+cpu")
    result = run("--scheduler", scheduler.scheduler_address)
    assert result.exit_code == 2
    assert f"unetbio is 0.0.1, and {version('unetbio')} here: install the same version everywhere" in result.stderr


def other_version(addresses: list[str]) -> Callable[..., str]:
    """Version of a package: another one on these workers."""
    return lambda package, dask_worker: "0.0.1" if dask_worker.address in addresses else version(package)


def test_workers_of_another_version_among_others_get_no_tiles(
    run: Run, scheduler: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = scheduler.workers[0].address
    monkeypatch.setattr(cluster, "version", other_version([address]))
    done(run(out="plain"))
    result = run("--scheduler", scheduler.scheduler_address)
    done(result)
    assert f"worker {address} gets no tiles, others compute them: unetbio is 0.0.1, and " in result.stderr
    check_equal(tmp_path)


def test_a_worker_of_another_version_that_joins_later_gets_no_tiles(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.2)
    said: list[str] = []
    monkeypatch.setattr(cluster.logger, "warning", lambda text, *words: said.append(text % words))
    done(run(out="plain"))
    with in_process(1) as workers:
        first = workers.workers[0].address

        def version_of(package: str, dask_worker: Any) -> str:
            return version(package) if dask_worker.address == first else "0.0.1"

        def join(predictor: cluster.RemotePredictor) -> None:
            workers.scale(2)
            end = monotonic() + 60
            while not said and monotonic() < end:
                predictor._workers._admit_new()
                assert predictor.inputs_at_once == 2
                sleep(0.1)

        monkeypatch.setattr(cluster, "version", version_of)
        during(monkeypatch, join)
        done(run("--scheduler", workers.scheduler_address))
        late = next(each.address for each in workers.workers.values() if each.address != first)
        needed = f"unetbio is 0.0.1, and {version('unetbio')} here: install the same version everywhere"
        assert said == [f"worker {late} gets no tiles, others compute them: {needed}"]
    check_equal(tmp_path)


def test_a_run_whose_workers_left_do_not_fit_stops(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOST_SECONDS", 1.0)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.2)
    with in_process(2) as workers:
        misfit = workers.workers[0].address
        monkeypatch.setattr(cluster, "version", other_version([misfit]))
        during(monkeypatch, lambda predictor: workers.sync(workers.workers[1].close))
        message = (
            f"the scheduler {workers.scheduler_address} has no worker left that fits: start workers, then run again"
        )
        refused(run("--scheduler", workers.scheduler_address), 4, message)


def test_a_device_that_a_worker_does_not_have_is_refused(run: Run, scheduler: Any) -> None:
    result = run("--scheduler", scheduler.scheduler_address, "--device", "cuda:99")
    assert result.exit_code == 2
    assert "error: worker tcp://" in result.stderr
    assert "'cuda:99' is not available" in result.stderr


def test_networks_without_exact_tiles_are_refused(run: Run, scheduler: Any, tmp_path: Path) -> None:
    model = save_random(tmp_path / "windows.safetensors", "pspnet", width=0.06, backbone="resnet18")
    result = run("--scheduler", scheduler.scheduler_address, by=model)
    refused(result, 2, "model windows has no exact tiles that workers could compute: leave out --scheduler")


def test_a_dry_run_takes_no_workers(run: Run) -> None:
    result = run("--scheduler", "local:1", "--dry-run")
    done(result)
    line = "--scheduler changes nothing here: --dry-run takes its times on this machine, without workers"
    assert line in result.stderr


def test_a_missing_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused(run("--scheduler", "local:1"), 2, '--scheduler needs the package distributed: pip install "unetbio[dask]"')
