"""Compute the tiles of a segmentation on the workers of a dask.distributed scheduler.

This process reads the image, sends the input of each tile, and does all the rest with the results. Workers hold the
network and one tile a thread. A tile whose worker is lost is computed by another one; a worker that joins later is sent
the network, and gets no tiles if it does not fit. Tiles do not change decisions, so the result is that of a run without
workers.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib.metadata import version
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.errors import EnvironmentStoppedError, UnetbioError, UsageError
from unetbio.files import read_bytes
from unetbio.inference.backends.base import Predictor, packages
from unetbio.segmentation import worker
from unetbio.segmentation.segmenter import Segmenter
from unetbio.settings.runs import local_workers
from unetbio.targets.pixels import PixelDecoder

__all__ = ["RemotePredictor", "on_workers"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0
"""Longest wait for a scheduler that does not answer."""

LOST_SECONDS = 60.0
"""Longest wait for a first worker, and for another one when all are lost."""

LOOK_SECONDS = 2.0
"""Time between two looks at the number of workers."""

TILES_A_THREAD = 2
"""Tiles that are on their way for each thread of a worker: one is computed, the next is there already."""

_SILENT = {"logging": {"distributed": "critical", "distributed.client": "critical"}}
"""Settings of dask while it is imported: what a user has to know is said here."""

_LARGE_TASKS = {"distributed.admin.large-graph-warning-threshold": "4 GiB"}
"""Settings of dask: inputs of tiles are sent with their tasks, so that tiles of lost workers can be computed again."""


@contextmanager
def on_workers(segmenter: Segmenter, address: str, device: str) -> Iterator[None]:
    """Compute the tiles of a segmenter on workers, as long as the context lasts.

    Parameters
    ----------
    segmenter : Segmenter
        Its own device plans the tiles; give it ``cpu``.
    address : str
        Of a scheduler; ``local:N`` starts one with N workers on this machine.
    device : str
        Device of each worker, as for `Segmenter`.

    Raises
    ------
    UsageError
        When dask.distributed is missing, the scheduler does not answer or has no workers that fit, or the network has
        no exact tiles.
    EnvironmentStoppedError
        While tiles are computed, when scheduler or workers are lost.
    """
    decoder = segmenter.decoder
    if not (isinstance(decoder, PixelDecoder) and segmenter.is_exact):
        raise UsageError(
            f"model {segmenter.info.name} has no exact tiles that workers could compute: leave out --scheduler"
        )
    with _connected(address) as client:
        workers = _Workers(client, address, _recipe(segmenter, device), _needed(segmenter))
        segmenter.worker_devices = workers.start()
        own, decoder.runner = decoder.runner, RemotePredictor(decoder.runner, workers)
        try:
            yield
        finally:
            decoder.runner = own
        workers.forget()


def _needed(segmenter: Segmenter) -> dict[str, str]:
    """Packages that workers need in the version of this process."""
    own = segmenter.versions()
    return {name: _public(own[name]) for name in ("unetbio", "torch", *packages(segmenter.backend)) if name in own}


def _recipe(segmenter: Segmenter, device: str) -> worker.Recipe:
    models = (segmenter.model, *segmenter.ensemble)
    return worker.Recipe(
        files=tuple(read_bytes(model.path) for model in models),
        sha256=tuple(model.sha256 for model in models),
        device=device,
        exact=segmenter.is_exact,
        backend=segmenter.backend,
        augment=segmenter.augment,
        precision=segmenter.asked_precision,
    )


class RemotePredictor:
    """A `Predictor` whose two passes are computed on workers; plans are those of a predictor of this process."""

    def __init__(self, own: Predictor, workers: "_Workers") -> None:
        self._workers = workers
        self.geometry, self.exact, self.window = own.geometry, own.exact, own.window
        self.num_classes, self.error_bound, self.memory_budget = own.num_classes, own.error_bound, own.memory_budget
        self.multiply_adds, self.memory_bytes = own.multiply_adds, own.memory_bytes
        self.is_out_of_memory = own.is_out_of_memory

    @property
    def inputs_at_once(self) -> int:
        """See `Predictor`."""
        return TILES_A_THREAD * max(1, self._workers.threads())

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Predictor`."""
        result: NDArray[np.float32] = self._workers.compute("probabilities", batch)
        return result

    def probabilities_float64(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Predictor`."""
        result: NDArray[np.float64] = self._workers.compute("probabilities_float64", batch)
        return result

    def release_memory(self) -> None:
        """See `Predictor`; the worker has done it."""


class _Workers:
    """The workers of a scheduler, with the network of a recipe; its methods may be called from several threads."""

    def __init__(self, client: Any, address: str, recipe: worker.Recipe, needed: Mapping[str, str]) -> None:
        self._client, self._address, self._recipe, self._needed = client, address, recipe, needed
        self._changing = threading.Lock()
        # Threads of each worker by its address: 0 until it has the network, and for one that does not fit.
        self._threads: dict[str, int] = {}
        self._new: list[str] = []
        self._looked, self._seen = -LOOK_SECONDS, monotonic()

    def threads(self) -> int:
        """Threads of all workers that fit, counted some seconds ago.

        Raises
        ------
        EnvironmentStoppedError
            When there has been none for `LOST_SECONDS`.
        """
        return sum(self._looked_at().values())

    def start(self) -> list[str]:
        """Wait for a worker, give all that are there the network, and give their devices.

        Raises
        ------
        UsageError
            When none comes, or none fits.
        """
        try:
            self._client.wait_for_workers(1, timeout=LOST_SECONDS)
        except TimeoutError as error:
            raise UsageError(
                f"the scheduler {self._address} has no workers: start some, such as dask worker {self._address}"
            ) from error
        devices, refused = self._equip([*self._ask(self._client.nthreads)])
        if refused and not devices:
            address, reason = next(iter(refused.items()))
            raise UsageError(f"worker {address}: {reason}")
        self._warn(refused)
        return sorted(devices.values())

    def compute(self, method: str, batch: NDArray[np.float32]) -> Any:
        """Run a method of the predictor on some worker, and wait for the result.

        Raises
        ------
        EnvironmentStoppedError
            When scheduler or workers are lost.
        """
        while True:
            self._admit_new()
            fitting = [address for address, threads in self._looked_at().items() if threads]
            if not fitting:
                sleep(LOOK_SECONDS)
                continue
            arguments = (worker.compute, self._recipe.key, method, batch)
            future = self._ask(self._client.submit, *arguments, pure=False, workers=fitting)
            result = self._wait(future, fitting)
            if isinstance(result, str):
                logger.debug("worker %s is sent the network again", result)
                self._warn(self._equip([result])[1])
            elif result is not None:
                return result

    def forget(self) -> None:
        """Free the network in all workers."""
        # Workers also drop it by themselves when memory is short.
        with suppress(Exception):
            self._client.run(worker.forget, self._recipe.key, workers=[*self._looked_at()])

    def _looked_at(self) -> dict[str, int]:
        """Threads of each worker, as of some seconds ago; raises as `threads`."""
        with self._changing:
            now = monotonic()
            if now - self._looked >= LOOK_SECONDS:
                present, self._looked = self._ask(self._client.nthreads), now
                self._new = [address for address in present if address not in self._threads]
                self._threads = {address: count for address, count in self._threads.items() if address in present}
                self._seen = now if self._new or any(self._threads.values()) else self._seen
            if now - self._seen > LOST_SECONDS:
                which = "worker left that fits" if self._threads else "worker left"
                raise EnvironmentStoppedError(
                    f"the scheduler {self._address} has no {which}: start workers, then run again"
                )
            return self._threads.copy()

    def _admit_new(self) -> None:
        """Give workers that have joined the network; those that do not fit get no tiles."""
        with self._changing:
            new, self._new = self._new, []
            self._threads |= dict.fromkeys(new, 0)
        if new:
            self._warn(self._equip(new)[1])

    def _equip(self, addresses: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Give workers the network: the device of each, and why others do not fit."""
        refused = self._other_versions(addresses)
        fitting = [address for address in addresses if address not in refused]
        devices = self._on_each(worker.prepare, self._recipe, workers=fitting) if fitting else {}
        for address, device in devices.items():
            if isinstance(device, UnetbioError):
                refused[address] = str(device)
            elif isinstance(device, Exception):
                raise device
        equipped = {address: device for address, device in devices.items() if address not in refused}
        counts = self._ask(self._client.nthreads)
        with self._changing:
            self._threads |= dict.fromkeys(refused, 0)
            self._threads |= {address: counts[address] for address in equipped if address in counts}
        return equipped, refused

    def _other_versions(self, addresses: Sequence[str]) -> dict[str, str]:
        """Which workers have another version of a package, in words."""
        reasons: dict[str, str] = {}
        for package, own in self._needed.items():
            for address, found in self._on_each(version, package, workers=addresses).items():
                if not isinstance(found, str) or _public(found) != own:
                    other = _public(found) if isinstance(found, str) else "not installed"
                    reasons.setdefault(
                        address, f"{package} is {other}, and {own} here: install the same version everywhere"
                    )
        return reasons

    @staticmethod
    def _warn(refused: Mapping[str, str]) -> None:
        for address, reason in refused.items():
            logger.warning("worker %s gets no tiles, others compute them: %s", address, reason)

    def _on_each(self, function: Callable[..., Any], argument: Any, workers: Sequence[str] | None) -> dict[str, Any]:
        """Result of a function on each worker, or its error; without workers that are lost meanwhile."""
        found = self._ask(self._client.run, function, argument, workers=workers, on_error="return")
        return {address: result for address, result in found.items() if not isinstance(result, OSError)}

    def _wait(self, future: Any, addresses: Sequence[str]) -> Any:
        """Result of a future that these workers may compute; None if all of them are lost."""
        from distributed.scheduler import KilledWorker

        finished = threading.Event()
        future.add_done_callback(lambda _: finished.set())
        while True:
            # A short timeout of `future.result` would break off the transfer of the result.
            if not finished.wait(LOOK_SECONDS):
                self._admit_new()
                left = self._looked_at()
                if any(left.get(address) for address in addresses):
                    continue
                future.cancel()
                return None
            try:
                return future.result(timeout=LOST_SECONDS)
            except TimeoutError:
                self.threads()
            except CancelledError as error:
                raise self._lost() from error
            except KilledWorker as error:
                raise EnvironmentStoppedError(
                    "several workers ended while they computed one tile: give them more memory, or a smaller --tile"
                ) from error

    def _ask(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method of the client; a lost scheduler stops the run."""
        try:
            return function(*arguments, **options)
        except (OSError, CancelledError) as error:
            raise self._lost() from error

    def _lost(self) -> EnvironmentStoppedError:
        return EnvironmentStoppedError(
            f"the scheduler {self._address} is lost: start it and its workers, then run again; what is finished is kept"
        )


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Client of a scheduler, which is started where workers of this machine are asked for."""
    try:
        import dask.config

        with dask.config.set(_SILENT):
            import distributed
    except ImportError as error:
        raise UsageError('--scheduler needs the package distributed: pip install "unetbio[dask]"') from error
    with dask.config.set(_LARGE_TASKS), _scheduler(distributed, address) as scheduler:
        try:
            client = distributed.Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the scheduler {address} does not answer: start it with dask scheduler, or give its address"
            ) from error
        try:
            yield client
        finally:
            # Before the workers, so that futures are cancelled and threads that wait for them end.
            client.close()


@contextmanager
def _scheduler(distributed: Any, address: str) -> Iterator[str]:
    """Address of a scheduler; with ``local:N`` of one with N workers of a thread each, for as long as needed."""
    count = local_workers(address)
    if not count:
        yield address
        return
    with distributed.LocalCluster(
        n_workers=count, threads_per_worker=1, memory_limit=0, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster.scheduler_address


def _public(text: str) -> str:
    """A version without its build, such as ``+cpu``."""
    return text.partition("+")[0]
