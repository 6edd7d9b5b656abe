"""AnnData: one file with the table of all cells, for scanpy, squidpy and others.

Source of the layout: anndata.readthedocs.io, and squidpy's ``obsm["spatial"]``. ``X`` holds the measurements, a column
each; ``obs`` what says of which image a cell is; ``obsm["spatial"]`` the centroids in pixels, x before y (and z).
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetbio.errors import EnvironmentStoppedError, UsageError
from unetbio.export.cells import ExportImage
from unetbio.files import atomic_path
from unetbio.measurement.table_schema import SECTION, further_names
from unetbio.output_layout import ANNDATA
from unetbio.results.tables.links import TRACK_COLUMNS

if TYPE_CHECKING:
    import polars as pl

__all__ = ["AnnDataWriter"]

_CENTROIDS = ("centroid_x_px", "centroid_y_px", "centroid_z_px")
_OBS = ("path", "series", "t", SECTION, "label", *TRACK_COLUMNS, "parent")


class AnnDataWriter:
    """Write ``cells.h5ad``.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the file.

    Raises
    ------
    UsageError
        When the package anndata is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: list[tuple[pl.DataFrame, dict[str, str]]] = []
        self._taken: set[str] = set()
        try:
            import anndata  # noqa: F401
        except ImportError as error:
            raise UsageError('--to anndata needs a package: pip install "unetbio[anndata]"') from error

    def __enter__(self) -> "AnnDataWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Write the file, unless an error ended the export."""
        if kind is None:
            self._write()

    def add(self, image: ExportImage) -> int:
        """Add the rows of an image; returns their number."""
        import polars as pl

        table = image.table.with_columns(
            pl.lit(image.entry.path).alias("path"), pl.lit(image.entry.series, dtype=pl.Int64).alias("series")
        )
        self._tables.append((table, image.entry.further_columns))
        self._taken |= {*table.columns, *image.taken}
        return len(table)

    def _table(self) -> "pl.DataFrame":
        """The rows of all images, with the columns of the user."""
        import polars as pl

        names = further_names((name for _, further in self._tables for name in further), self._taken)
        tables = [
            table.with_columns(pl.lit(value).alias(names[name]) for name, value in further.items())
            for table, further in self._tables
        ]
        return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame({"label": []})

    def _write(self) -> None:
        import anndata
        import pandas as pd
        import polars as pl

        table = self._table()
        numeric = [
            name
            for name in table.columns
            if name not in _OBS and (table.schema[name].is_numeric() or table.schema[name] == pl.Boolean)
        ]
        values = table.select(pl.col(name).cast(pl.Float64) for name in numeric).to_numpy()
        obs = pd.DataFrame(index=[str(row) for row in range(len(table))])
        for name in [*(name for name in _OBS if name in table.columns), *_texts(table, numeric)]:
            obs[name] = _column(table[name])
        data = anndata.AnnData(
            X=values.astype(np.float64).reshape(len(table), len(numeric)), obs=obs, var=pd.DataFrame(index=numeric)
        )
        if places := [name for name in _CENTROIDS if name in numeric]:
            data.obsm["spatial"] = table.select(places).to_numpy().astype(np.float64)
        data.uns["spatial_unit"] = "pixel"
        path = self.folder / ANNDATA
        with atomic_path(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                data.write_h5ad(temporary)
            except OSError:
                raise
            except RuntimeError as error:
                # HDF5 reports a full disk in its own words.
                raise EnvironmentStoppedError(f"cannot write {path}: {' '.join(str(error).split())}") from error


def _texts(table: "pl.DataFrame", numeric: list[str]) -> list[str]:
    return [name for name in table.columns if name not in numeric and name not in _OBS]


def _column(values: "pl.Series") -> Any:
    """A column of text as categories, of whole numbers with gaps as floating point: what h5ad can hold."""
    import pandas as pd
    import polars as pl

    if values.dtype.is_numeric():
        whole = values.null_count() == 0
        return values.to_numpy() if whole else values.cast(pl.Float64).to_numpy()
    return pd.Categorical(values.cast(pl.String).fill_null("").to_list())
