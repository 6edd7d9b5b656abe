from unetbio.compilation import compiled


def test_a_function_whose_cache_can_be_written_nowhere_is_compiled_all_the_same() -> None:
    # numba finds no place for the cache of a function without a file, as in a read-only installation.
    namespace: dict[str, object] = {}
    exec("def add_one(value):\n    return value + 1\n", namespace)
    assert compiled(namespace["add_one"])(41) == 42  # type: ignore[arg-type]
