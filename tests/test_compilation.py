import subprocess
import sys
import threading
import time

import numba
import pytest

from unetbio import compilation
from unetbio.compilation import compiled


@compiled
def _square(value: int) -> int:
    return value * value


@compiled
def _sum_of_squares(first: int, second: int) -> int:
    return int(_square(first) + _square(second))


def test_a_loop_calls_a_loop() -> None:
    assert _sum_of_squares(3, 4) == 25
    assert _square(5) == 25


@compiled
def _sum_of_squares_to(number: int) -> int:
    return sum([_square(n) for n in range(number + 1)])


@compiled
def _factorial(number: int) -> int:
    return 1 if number < 2 else number * _factorial(number - 1)


def test_a_loop_calls_others_within_and_itself() -> None:
    assert _sum_of_squares_to(3) == 14
    assert _factorial(5) == 120


def test_numba_is_imported_when_a_loop_is_called() -> None:
    program = (
        "import sys, numpy, unetbio.labels, unetbio.report.page, unetbio.results.tables.collect_tables\n"
        "import unetbio.settings.segmentation\n"
        "print('numba' in sys.modules)\n"
        "unetbio.labels.relabel_raster(numpy.ones((2, 2), numpy.uint8))\n"
        "print('numba' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_function_whose_cache_can_be_written_nowhere_is_compiled_all_the_same() -> None:
    # numba finds no place for the cache of a function without a file, as in a read-only installation.
    namespace: dict[str, object] = {}
    exec("def add_one(value):\n    return value + 1\n", namespace)
    assert compiled(namespace["add_one"])(41) == 42  # type: ignore[arg-type]


def test_loops_use_no_more_threads_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 8)
    monkeypatch.setattr(compilation, "_most_threads", None)
    names: set[str] = set()
    lines: list[int] = []

    def work(start: int, stop: int) -> None:
        names.add(threading.current_thread().name)
        lines.extend(range(start, stop))
        time.sleep(0.005)

    compilation.limit_threads(2)
    compilation.in_threads(work, 40, pixels=compilation.SERIAL_PIXELS)
    assert sorted(lines) == list(range(40))
    assert 1 <= len(names) <= 2
