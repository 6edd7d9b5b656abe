"""The ONNX Runtime backend; what every backend must do is in test_backends.py."""

from backend_cases import check_memory_errors


def test_its_own_errors_of_memory_are_known() -> None:
    check_memory_errors(
        "onnx",
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running FusedConv node: "
            "Failed to allocate memory for requested buffer of size 1073741824",
            "std::bad_alloc",
        ),
    )
