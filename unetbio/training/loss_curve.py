"""The picture of a training run: loss and validation score over steps."""

import os

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unetbio.files import atomic_path
from unetbio.training.history import History

__all__ = ["draw_loss_curve"]

# Scores of cells, and of classes
SCORES = ("mean_AP", "AP@.5", "AP@.75", "mean_IoU", "pixel_accuracy")


def draw_loss_curve(history: History, path: str | os.PathLike[str]) -> None:
    """Draw the training loss (logarithmic) above the validation scores and write the picture as PNG.

    Parameters
    ----------
    history : History
        History of the whole run.
    path : path-like
        Path of the picture; written atomically.
    """
    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(2, 1, sharex=True)
    losses.plot(history.steps, history.losses, color="tab:blue", linewidth=1)
    losses.set(yscale="log", ylabel="training loss")
    known = [name for name in SCORES if any(name in score for score in history.validation_scores)]
    for name in known:
        values = [score[name] for score in history.validation_scores]
        scores.plot(history.validation_steps, values, marker=".", label=name)
    scores.set(xlabel="step", ylabel="validation score", ylim=(0, 1))
    scores.legend(loc="lower right")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
