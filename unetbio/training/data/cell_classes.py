"""Names of the classes of cells, from the tables beside the masks."""

from unetbio import targets
from unetbio.errors import ImageError, UsageError
from unetbio.io.cell_classes import cell_classes_path, read_cell_classes
from unetbio.settings.training import MAX_CLASSES, TrainingConfig
from unetbio.training.data.pairs import AnnotatedFiles

__all__ = ["name_cell_classes"]

BACKGROUND = "background"


def name_cell_classes(config: TrainingConfig, files: AnnotatedFiles) -> TrainingConfig:
    """Name the classes of cells where the target needs them and no setting does: in the order of their names.

    Raises
    ------
    UsageError
        When the tables name less than two classes, or too many.
    ImageError
        Naming the mask whose table is missing or cannot be read.
    """
    if not targets.find(config.target, config.network).has_cell_classes or config.class_names:
        return config
    names: set[str] = set()
    for pair in (*files.training, *files.validation):
        try:
            tables = read_cell_classes(cell_classes_path(pair.mask))
        except ImageError as error:
            raise ImageError(error.reason, f"{pair.mask}: {error}") from error
        names |= {name for table in tables.values() for name in table.values()}
    if not 2 <= len(names) < MAX_CLASSES:
        found = ", ".join(sorted(names)[:5]) or "none"
        raise UsageError(
            f"the tables beside the masks name {len(names)} classes ({found}): target: {config.target} needs from 2 to "
            f"{MAX_CLASSES - 1}; without classes use target: instances"
        )
    return config.model_copy(update={"class_names": (BACKGROUND, *sorted(names))})
