from collections.abc import Mapping

import pytest
import torch

from unetbio.training.precision import computes_in_bfloat16


@pytest.mark.parametrize(
    ("precision", "device", "capabilities", "expected"),
    [
        ("auto", "cpu", {"avx2": True, "avx512_bf16": True}, True),
        ("auto", "cpu", {"amx_bf16": True}, True),
        ("auto", "cpu", {"avx2": True, "avx512_bf16": False}, False),
        ("auto", "cuda", {}, True),
        ("auto", "mps", {}, False),
        ("float32", "cpu", {"avx512_bf16": True}, False),
        ("bfloat16", "cpu", {}, True),
    ],
)
def test_bfloat16_is_taken_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, capabilities: Mapping[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_in_bfloat16(precision, torch.device(device)) is expected


def test_a_pytorch_that_does_not_know_the_processor_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_in_bfloat16("auto", torch.device("cpu"))
