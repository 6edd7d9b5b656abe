"""The OpenVINO backend; what every backend must do is in test_backends.py."""

from backend_cases import check_memory_errors


def test_its_own_errors_of_memory_are_known() -> None:
    check_memory_errors(
        "openvino",
        ("Failed to allocate 1073741824 bytes of memory", "Could not allocate memory", "std::bad_alloc"),
    )
