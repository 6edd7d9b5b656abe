"""Fixtures that several test files share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images; tests that need it skip where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real images are missing: no folder {SHARED_DATA}")
    return SHARED_DATA
