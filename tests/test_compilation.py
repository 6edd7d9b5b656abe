import subprocess
import sys

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
        "import sys, numpy, unetbio.labels, unetbio.report.page, unetbio.results.collect_tables\n"
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
