"""Batches of patches, which threads prepare ahead of the steps of a training."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from unetbio.training.data.dataset import Patch, PatchSampler

__all__ = ["draw_batches"]


def draw_batches(sampler: PatchSampler, size: int, start: int, workers: int) -> Iterator[list[Patch]]:
    """Batches from number ``start`` on, without end; they are the same for any number of threads."""
    ahead = size * 2 + workers
    with ThreadPoolExecutor(workers, thread_name_prefix="patches") as pool:
        waiting: deque[Future[Patch]] = deque()
        index = start * size
        try:
            while True:
                while len(waiting) < ahead:
                    waiting.append(pool.submit(sampler.patch, index))
                    index += 1
                yield [waiting.popleft().result() for _ in range(size)]
        finally:
            for future in waiting:
                future.cancel()
