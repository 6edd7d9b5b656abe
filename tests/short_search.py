"""A search for thresholds that tries few."""

__all__ = ["SHORT_SEARCH"]

SHORT_SEARCH = {
    "unetbio.supervision.thresholds.MASK_THRESHOLDS": (0.5,),
    "unetbio.supervision.thresholds.SEED_THRESHOLDS": ((0.5,), (0.7,)),
    "unetbio.supervision.thresholds.SPECK_FRACTIONS": (0.0, 0.01, 0.02),
    "unetbio.supervision.thresholds.PART_FRACTIONS": (0.0, 0.01, 0.03),
}
"""Values of the constants of the search, by their names: in so short a training as those of tests it takes longest."""
