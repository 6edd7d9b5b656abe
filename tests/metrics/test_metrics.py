"""Scores against hand-counted cases, scikit-image and slow definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from unetbio.errors import ImageError, UsageError
from unetbio.metrics.instances import THRESHOLDS, average_precision, compare, evaluate, match

HYPOTHESIS = settings(deadline=None, max_examples=40)
EMPTY = np.zeros((6, 8), dtype=np.uint16)


def row(text):
    """A label image of one row: ``11.2`` is cell 1, two pixels wide, a pixel of background, cell 2."""
    return np.array([[0 if character == "." else int(character) for character in text]])


@st.composite
def pairs(draw):
    """Truth of random blobs and a prediction that moves, merges and invents some."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(12, 14), (5, 6, 7), (1, 9)]))

    def blobs(count):
        seeds = np.zeros(shape, dtype=int)
        for cell in range(1, count + 1):
            seeds[tuple(rng.integers(0, shape))] = cell
        nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        return np.where(rng.random(shape) < 0.8, seeds[tuple(nearest)], 0) if count else seeds

    truth = blobs(draw(st.integers(0, 6)))
    shuffled = rng.permutation(10)[truth]
    predicted = np.where(rng.random(shape) < 0.2, blobs(3), np.where(truth > 0, shuffled, 0))
    return predicted, truth


def ious(predicted, truth):
    return {
        (p, t): ((predicted == p) & (truth == t)).sum() / ((predicted == p) | (truth == t)).sum()
        for p in np.unique(predicted[predicted > 0])
        for t in np.unique(truth[truth > 0])
    }


def best_matching(candidates):
    """Most pairs, then the largest sum of IoU: all subsets are tried."""
    best = (0, 0.0)
    for size in range(len(candidates), 0, -1):
        for chosen in itertools.combinations(candidates, size):
            columns, rows = zip(*chosen, strict=True)
            if len(set(columns)) == len(set(rows)) == size:
                best = max(best, (size, sum(candidates[pair] for pair in chosen)))
        if best[0]:
            return best
    return best


@given(pairs(), st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.75, 1.0]))
@HYPOTHESIS
def test_the_matching_is_the_best_there_is(pair, threshold):
    predicted, truth = pair
    candidates = {key: value for key, value in ious(predicted, truth).items() if value >= threshold}
    if len(candidates) > 14:
        return
    count, total = best_matching(candidates)
    matching = match(predicted, truth, threshold)
    assert len(matching.pairs) == count
    assert matching.iou.sum() == pytest.approx(total)
    for (p, t), iou in zip(matching.pairs, matching.iou, strict=True):
        assert candidates[p, t] == iou
    scores = compare(predicted, truth, thresholds=[threshold]).scores()
    true, found = len(np.unique(truth[truth > 0])), len(np.unique(predicted[predicted > 0]))
    if true and found:
        name = f"{threshold:g}".removeprefix("0")
        assert scores[f"AP@{name}"] == pytest.approx(count / (true + found - count))
        assert scores[f"precision@{name}"] == pytest.approx(count / found)
        assert scores[f"recall@{name}"] == pytest.approx(count / true)
        assert scores[f"F1@{name}"] == pytest.approx(2 * count / (true + found))
        assert scores[f"PQ@{name}"] == pytest.approx(total / (count + (true + found - 2 * count) / 2))


@given(pairs())
@HYPOTHESIS
def test_other_scores_follow_their_definitions(pair):
    predicted, truth = pair
    scores = compare(predicted, truth).scores()
    foreground, true = predicted > 0, truth > 0
    assert scores["pixel_error"] == pytest.approx((foreground != true).mean())
    if (foreground | true).any():
        assert scores["foreground_IoU"] == pytest.approx((foreground & true).sum() / (foreground | true).sum())
    split, merge = variation_of_information(truth, predicted)
    assert scores["vi_split"] == pytest.approx(split, abs=1e-12)
    assert scores["vi_merge"] == pytest.approx(merge, abs=1e-12)
    assert scores["variation_of_information"] == pytest.approx(split + merge, abs=1e-12)
    if true.any():
        with np.errstate(all="ignore"):
            expected = adapted_rand_error(truth, predicted)[0]
        assert scores["adapted_rand_error"] == pytest.approx(np.nan_to_num(expected, nan=0))


def boundary_slowly(labels):
    """Positions of boundary pixels, from the definition."""
    found = []
    for index, value in np.ndenumerate(labels):
        for axis, step in itertools.product(range(labels.ndim), (-1, 1)):
            other = list(index)
            other[axis] += step
            if value and 0 <= other[axis] < labels.shape[axis] and labels[tuple(other)] != value:
                found.append(index)
                break
    return np.array(found).reshape(-1, labels.ndim)


@given(pairs(), st.sampled_from([0, 1, 1.5, 2]))
@HYPOTHESIS
def test_boundary_f1_follows_its_definition(pair, tolerance):
    predicted, truth = map(boundary_slowly, pair)
    if not len(predicted) or not len(truth):
        return
    distances = np.sqrt(((predicted[:, np.newaxis] - truth) ** 2).sum(axis=-1))
    precision, recall = ((distances.min(axis=axis) <= tolerance).mean() for axis in (1, 0))
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert compare(*pair, tolerance=tolerance).scores()["boundary_F1"] == pytest.approx(expected)


@given(pairs())
@HYPOTHESIS
def test_a_perfect_prediction_scores_best_whatever_its_ids(pair):
    _, truth = pair
    scores = compare(truth * 17, truth).scores()
    for name, value in scores.items():
        if name.startswith(("mean_AP", "AP", "precision", "recall", "F1", "SQ", "PQ", "foreground", "boundary")):
            assert value == pytest.approx(1), name
        elif not name.startswith("n_") and not np.isnan(value):
            assert value == pytest.approx(0, abs=1e-12), name


@given(pairs())
@HYPOTHESIS
def test_merges_and_splits_change_places_with_the_images(pair):
    there, back = compare(*pair), compare(*pair[::-1])
    assert (there.merges, there.splits) == (back.splits, back.merges)
    np.testing.assert_array_equal(there.matched, back.matched)


def test_an_iou_that_equals_the_threshold_counts():
    # 11 of 20 pixels shared: IoU .55 exactly; .5 + .05 in floats is .55 as well, since thresholds are rounded.
    predicted, truth = row("1" * 20), row("1" * 11 + "." * 9)
    scores = compare(predicted, truth).scores()
    assert [scores["AP@.5"], scores["AP@.55"], scores["AP@.6"]] == [1, 1, 0]
    assert scores["mean_AP"] == pytest.approx(0.2)
    assert scores["SQ@.5"] == pytest.approx(0.55)


def test_two_halves_at_one_half_match_once():
    # Both halves have IoU .5 with the whole: only one of them can be matched.
    matching = match(row("12"), row("33"), 0.5)
    assert len(matching.pairs) == 1
    scores = compare(row("12"), row("33")).scores()
    assert scores["AP@.5"] == 0.5


def test_below_one_half_more_pairs_go_before_a_larger_iou():
    # Predicted 1 overlaps true 1 best (IoU .5) and true 2 a little (.17), predicted 2 overlaps true 1 alone (.4):
    # taking the best pair first would leave predicted 2 and true 2 without a partner.
    predicted = row("221111....")
    truth = row("11111222..")
    assert match(predicted, truth, 0.1).pairs.tolist() == [[2, 1], [1, 2]]
    assert match(predicted, truth, 0.45).pairs.tolist() == [[1, 1]]


def test_ids_of_pairs_are_those_of_the_images():
    matching = match(np.array([[900, 900, 0, 70000]]), np.array([[4, 4, 0, 3]], dtype=np.uint8))
    np.testing.assert_array_equal(matching.pairs, [[70000, 3], [900, 4]])
    np.testing.assert_array_equal(matching.iou, [1, 1])


def test_merges_and_splits_are_counted_per_100_true_cells():
    # A predicted cell over true 1 and 2 is a merge; true 3 in two parts is a split; the rest is neither.
    comparison = compare(row("11111.2233.44.."), row("11.22.3333.4..5"))
    assert (comparison.merges, comparison.splits) == (1, 1)
    assert comparison.scores()["merges_per_100"] == 20
    assert comparison.scores()["splits_per_100"] == 20


def test_half_a_cell_is_not_more_than_half():
    # The predicted cell covers two of the four pixels of either true cell.
    assert compare(row("..1111.."), row("22223333")).merges == 0
    assert compare(row(".111111."), row("22223333")).merges == 1
    assert compare(row("22223333"), row("..1111..")).splits == 0
    assert compare(row("22223333"), row(".111111.")).splits == 1


def test_two_empty_images_agree():
    scores = compare(EMPTY, EMPTY).scores()
    best = ("mean_AP", "AP@.5", "precision@.5", "recall@.5", "F1@.5", "SQ@.5", "PQ@.5", "foreground_IoU", "boundary_F1")
    assert [scores[name] for name in best] == [1] * len(best)
    assert [scores[name] for name in ("pixel_error", "adapted_rand_error", "variation_of_information")] == [0, 0, 0]
    assert np.isnan(scores["merges_per_100"])
    assert np.isnan(scores["splits_per_100"])


@pytest.mark.parametrize("swapped", [False, True], ids=["cells invented", "cells missed"])
def test_an_empty_image_against_cells_scores_nothing(swapped):
    cells = EMPTY.copy()
    cells[1:4, 2:5] = 7
    scores = compare(*((EMPTY, cells) if swapped else (cells, EMPTY))).scores()
    for name in ("mean_AP", "AP@.5", "precision@.5", "recall@.5", "F1@.5", "SQ@.5", "PQ@.5"):
        assert scores[name] == 0
    assert scores["foreground_IoU"] == scores["boundary_F1"] == 0
    assert scores["pixel_error"] == 9 / 48
    # All missed pixels fall into one segment, the background: the only cell is whole, and the Rand error sees no fault.
    assert scores["adapted_rand_error"] == (0 if swapped else 1)


def test_pooling_adds_cells_not_scores():
    # 1 of 1 in the first image, 1 of 3 in the second: pooled 2 of 4, while the mean of scores would be 2/3.
    predicted = [row("11...."), row("11....")]
    truth = [row("11...."), row("11.2.3")]
    scores = evaluate(predicted, truth, names=["a", "b"])
    assert scores.names == ("a", "b")
    assert [image["AP@.5"] for image in scores.images] == pytest.approx([1, 1 / 3])
    assert scores.pooled["AP@.5"] == 0.5
    assert scores.pooled["n_true"] == 4
    assert average_precision(iter(predicted), iter(truth), [0.5, 0.9]) == [0.5, 0.5]
    # Empty pairs count nothing, except in what is a mean over images.
    more = evaluate([*predicted, EMPTY], [*truth, EMPTY])
    assert more.pooled["AP@.5"] == 0.5
    assert more.pooled["adapted_rand_error"] == pytest.approx(scores.pooled["adapted_rand_error"] * 2 / 3)


def test_no_images_agree():
    assert evaluate([], []).pooled["mean_AP"] == 1
    assert average_precision([], []) == [1] * len(THRESHOLDS)


def test_many_cells_take_the_way_through_sorting():
    # 3600 cells a side: the dense table of pairs would be too large.
    truth = np.kron(np.arange(1, 3601).reshape(60, 60), np.ones((3, 3), dtype=int))
    scores = compare(truth[::-1].copy(), truth[::-1] + (truth[::-1] > 1800) * 10).scores()
    assert scores["n_true"] == 3600
    assert scores["mean_AP"] == 1


def test_a_chain_of_cells_is_assigned_in_groups():
    # Shifted by half: every predicted cell overlaps two true ones by a third; below .5 each takes one of them.
    truth = np.repeat(np.arange(1, 401), 2)[np.newaxis]
    predicted = np.roll(truth, 1)
    predicted[0, 0] = 0
    assert len(match(predicted, truth, 0.3).pairs) == 400


@pytest.mark.parametrize(
    ("predicted", "truth", "reason", "message"),
    [
        (EMPTY, EMPTY[1:], "wrong_shape", r"prediction has shape \(6, 8\) and the truth \(5, 8\)"),
        (EMPTY[:0], EMPTY[:0], "wrong_shape", r"shape \(0, 8\) hold no pixels"),
        (EMPTY * 0.5, EMPTY, "not_labels", "the prediction holds float64 pixels"),
        (EMPTY, EMPTY > 0, "not_labels", "the truth holds bool pixels"),
        (EMPTY[0], EMPTY[0], "wrong_ndim", r"the prediction has shape \(8,\)"),
    ],
)
@pytest.mark.parametrize("function", [compare, match, lambda p, t: average_precision([p], [t])])
def test_what_cannot_be_compared_is_refused(function, predicted, truth, reason, message):
    with pytest.raises(ImageError, match=message) as caught:
        function(predicted, truth)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("thresholds", "given"), [([], "none"), ([0.5, 0], "0.5, 0"), ([1.5], "1.5")])
def test_thresholds_out_of_range_are_refused(thresholds, given):
    with pytest.raises(UsageError, match=f"IoU thresholds {given}: need one or more"):
        compare(EMPTY, EMPTY, thresholds=thresholds)


def test_a_tolerance_out_of_range_is_refused():
    with pytest.raises(UsageError, match="boundary tolerance -1: must be at least 0"):
        compare(EMPTY, EMPTY, tolerance=-1)


def test_comparisons_at_other_thresholds_are_not_pooled():
    with pytest.raises(ValueError, match="cannot be pooled"):
        compare(EMPTY, EMPTY, thresholds=[0.5]) + compare(EMPTY, EMPTY, thresholds=[0.6])


def test_as_many_images_as_names_are_needed():
    with pytest.raises(ValueError, match="1 names for 2 images"):
        evaluate([EMPTY, EMPTY], [EMPTY, EMPTY], names=["a"])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        evaluate([EMPTY], [EMPTY, EMPTY])
