"""Masks of single sections of a stack, as the Cell Tracking Challenge has them: a plane each, never another one's."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from unetbio.cli.main import main
from unetbio.errors import UsageError
from unetbio.settings.segmentation import Settings
from unetbio.settings.training import TrainingConfig
from unetbio.training.data.examples import load_examples
from unetbio.training.data.pairs import find_pairs

STACK = np.random.default_rng(1).integers(1, 4000, (2, 5, 24, 28)).astype(np.uint16)  # (T, Z, Y, X)
SECTIONS = [(0, 1), (0, 3), (1, 4)]
"""Time and section of each mask."""


def mask_of(time: int, section: int) -> np.ndarray:
    labels = np.zeros((24, 28), np.uint16)
    labels[2 : 6 + section, 3 : 9 + time] = 1
    labels[14:20, 12:22] = 2
    return labels


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """``01/t000.tif`` and ``01/t001.tif``, and masks of some sections."""
    for folder in ("01", "01_GT/SEG"):
        (tmp_path / folder).mkdir(parents=True)
    for time, stack in enumerate(STACK):
        tifffile.imwrite(tmp_path / "01" / f"t{time:03d}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    for time, section in SECTIONS:
        name = f"man_seg_{time:03d}_{section:03d}.tif"
        tifffile.imwrite(tmp_path / "01_GT" / "SEG" / name, mask_of(time, section))
    return tmp_path


def test_each_mask_lies_over_its_section(sequence: Path) -> None:
    for inputs in ([sequence], [sequence / "01", sequence / "01_GT" / "SEG"]):
        examples = load_examples(find_pairs(inputs).training, TrainingConfig())
        assert len(examples) == len(SECTIONS)
        for example, (time, section) in zip(examples, SECTIONS, strict=True):
            np.testing.assert_array_equal(example.image[0], STACK[time, section])
            np.testing.assert_array_equal(example.label_image, mask_of(time, section))


def test_a_table_may_name_the_section_too(sequence: Path) -> None:
    table = sequence / "pairs.csv"
    table.write_text("image,mask,z\n01/t000.tif,01_GT/SEG/man_seg_000_003.tif,\n")
    assert find_pairs([table]).training[0].reading.z == 3
    table.write_text("image,mask,z\n01/t000.tif,01_GT/SEG/man_seg_000_003.tif,3\n")
    assert find_pairs([table]).training[0].reading.z == 3
    table.write_text("image,mask,z\n01/t000.tif,01_GT/SEG/man_seg_000_003.tif,1\n")
    with pytest.raises(UsageError, match=r"line 2: --z 1: .*man_seg_000_003.tif is the mask of section 3; leave z out"):
        find_pairs([table])


def test_another_section_is_refused(sequence: Path) -> None:
    with pytest.raises(UsageError, match="is the mask of section 1; leave z out"):
        find_pairs([sequence], reading=Settings(z="each"))


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (
            ("import", ".", "-o", "masks"),
            2,
            "man_seg_000_001.tif: it is the mask of one section of a stack",
        ),
        (
            ("import", "01_GT", "--images", "01", "-o", "masks"),
            3,
            "man_seg_000_001.tif: it is the mask of one section of a stack: unetbio train takes such masks",
        ),
        (
            ("evaluate", "01", "01_GT/SEG"),
            2,
            "is the mask of one section: segment it with --z INDEX",
        ),
    ],
)
def test_commands_that_need_whole_masks_refuse_them(
    sequence: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(sequence)
    result = CliRunner().invoke(main, line)
    assert result.exit_code == code, result.output
    assert message in result.stderr
