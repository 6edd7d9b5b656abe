"""Times of stages, over threads and nested stages."""

import threading
import time

import pytest

from unetbio.timing import record_stages, stage


def test_seconds_are_added_over_threads() -> None:
    def work() -> None:
        with stage("reading"):
            time.sleep(0.02)

    with record_stages() as times:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert times.seconds["reading"] >= 0.06
    assert times.total >= 0.02


def test_a_stage_inside_another_counts_for_that_one() -> None:
    with record_stages() as times:
        with stage("scale"), stage("network"):
            time.sleep(0.01)
        with stage("network"):
            pass
    assert times.seconds["scale"] >= 0.01 > times.seconds["network"]


def test_nothing_is_recorded_outside() -> None:
    with record_stages() as times, pytest.raises(ValueError, match="broken"), stage("broken"):
        raise ValueError("broken")
    with stage("reading"):
        pass
    assert set(times.seconds) == {"broken"}
