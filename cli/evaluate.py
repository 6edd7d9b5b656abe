"""``unetbio evaluate``: scores of predicted label images or class masks against the truth."""

import json
from pathlib import Path
from typing import Any

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say
from unetbio.errors import UsageError
from unetbio.settings.options import split_numbers

__all__ = ["command"]


@click.command()
@click.argument("predicted", type=shared.LocalPath())
@click.argument("truth", type=shared.LocalPath())
@click.option("-o", "--output", metavar="OUT", type=shared.OutputPath(), help="Folder for the full scores.")
@click.option("--thresholds", metavar="IOU,...", help="IoU from which cells match.  [default: 0.5,0.55 ... 0.95]")
@click.option(
    "--tolerance",
    default=2.0,
    show_default=True,
    type=shared.Number(),
    metavar="PX",
    help="How far boundary pixels may lie apart.",
)
@shared.split_components
@click.option("--classes", is_flag=True, help="The masks hold classes, not cells.")
@click.option(
    "--class-values",
    type=shared.Text(split_numbers),
    metavar="N,...",
    help="With --classes: value in the truth for each class, such as 0,255. Predictions hold 0, 1, 2 ...",
)
@click.option(
    "--ignore-label", type=shared.Integer(min=0), metavar="N", help="With --classes: not annotated in the truth."
)
@click.option(
    "--cell-classes",
    is_flag=True,
    help="Score the classes of cells too, by x_objects.csv beside both masks (columns label, class).",
)
@click.option(
    "--axes",
    metavar="LETTERS",
    help="Axes of files that do not say, such as ZYX or TYX, and of predictions that say others.",
)
@shared.failed_ok
@shared.as_json
def command(
    predicted: Path,
    truth: Path,
    output: Path | None,
    thresholds: str | None,
    failed_ok: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Score predicted label images, or class masks, against the truth.

    PREDICTED and TRUTH are folders or files, paired by their names: x_labels.ome.tif belongs to x.tif, x_mask.png ...
    Prints the scores of every image and those pooled over all images; with -o, OUT/evaluation.csv and
    OUT/evaluation.json hold all of them. AP is TP / (TP + FP + FN). classes.csv in PREDICTED names the classes.
    """
    from unetbio.evaluation import evaluate
    from unetbio.files import write_json, write_text

    iou = None if thresholds is None else _parse_thresholds(thresholds)
    evaluation = evaluate(predicted, truth, thresholds=iou, **options)
    content = evaluation.as_dict()
    if output is not None:
        write_text(output / "evaluation.csv", evaluation.csv())
        write_json(output / "evaluation.json", content)
    if as_json:
        click.echo(json.dumps(content, indent=2))
    elif evaluation.compared:
        say(*evaluation.table().splitlines())
    if output is not None and not as_json:
        counts = [(len(evaluation.pairing.pairs), "pair")]
        say(shared.summary_line(counts, len(evaluation.failed), output / "evaluation.csv"))
    return shared.EXIT_SOME_FAILED if evaluation.failed and not failed_ok else 0


def _parse_thresholds(text: str) -> tuple[float, ...]:
    try:
        thresholds = tuple(float(part) for part in text.split(","))
    except ValueError:
        thresholds = ()
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise UsageError(
            f"--thresholds {text}: needs numbers above 0 and at most 1 with commas between, such as 0.5,0.75"
        )
    return tuple(sorted(set(thresholds)))
