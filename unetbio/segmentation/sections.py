"""Stacks that a 2-D model segments section by section: join the results of the sections into one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetbio.labels import LabelImage
from unetbio.postprocessing.linking import link_sections, number_sections
from unetbio.postprocessing.objects import ObjectTable
from unetbio.targets.base import Finished

__all__ = ["stack_sections"]


def stack_sections(
    sections: Sequence[Finished], link: float | None, *, are_cells: bool, first_section: int = 0
) -> Finished:
    """Join the results of the sections of a stack.

    Parameters
    ----------
    sections : sequence of Finished
        Label images or class masks ``(Y, X)``, with their tables where a model finds objects, and the probabilities of
        their pixels where it gives them.
    link : float, optional
        See `unetbio.postprocessing.linking.link_sections`; without it each section has its own cells, with ids that go
        on from section to section.
    are_cells : bool
        Classes have the same numbers everywhere.
    first_section : int
        Number in the file of the first one.

    Returns
    -------
    Finished
        ``(Z, Y, X)``. The table has a row for each cell of each section, with the section in a column ``z``, and the
        number, the class and the score of its object: the class of its best cell, and the mean score of its cells.
    """
    stack = np.stack([section.labels for section in sections])
    if not are_cells:
        return Finished(stack)
    labels = number_sections(stack) if link is None else link_sections(stack, link)
    tables = [section.objects for section in sections if section.objects is not None]
    planes = [section.probability for section in sections if section.probability is not None]
    classes = [section.classes for section in sections if section.classes is not None]
    return Finished(
        labels,
        _one_table(tables, stack, labels, first_section) if tables else None,
        np.stack(planes) if planes else None,
        np.stack(classes) if classes else None,
    )


def _one_table(
    tables: Sequence[ObjectTable], sections: NDArray[Any], labels: LabelImage, first_section: int
) -> ObjectTable:
    new_ids = [
        _new_ids(table["label"], section, own) for table, section, own in zip(tables, sections, labels, strict=True)
    ]
    columns = {
        "label": np.concatenate(new_ids),
        "z": np.concatenate([np.full(len(table["label"]), z) for z, table in enumerate(tables, first_section)]),
    }
    columns |= {name: np.concatenate([table[name] for table in tables]) for name in tables[0] if name != "label"}
    if "score" in columns:
        by_score = np.argsort(columns["score"], kind="stable")
        best = dict(zip(columns["label"][by_score].tolist(), by_score.tolist(), strict=True))
        if "class" in columns:
            columns["class"] = columns["class"][[best[label] for label in columns["label"].tolist()]]
        ids, rows = np.unique(columns["label"], return_inverse=True)
        totals = np.bincount(rows, weights=columns["score"], minlength=len(ids))
        columns["score"] = (totals / np.bincount(rows, minlength=len(ids)))[rows]
    order = np.lexsort((columns["z"], columns["label"]))
    return {name: column[order] for name, column in columns.items()}


def _new_ids(old: NDArray[Any], section: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Ids in the stack for the cells of a section."""
    table = np.zeros(int(section.max(initial=0)) + 1, np.int64)
    table[section.reshape(-1)] = labels.reshape(-1)
    ids: NDArray[np.int64] = table[old]
    return ids
