"""The fully connected CRF: probabilities pulled to the edges of the image.

Source: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
arXiv 1210.5644. Every pixel i is linked to every other pixel j, with positions p and colours I, by ::

    k(i, j) = w1 * exp(-|p_i - p_j|**2 / (2 * xy1**2) - |I_i - I_j|**2 / (2 * rgb**2))    bilateral
            + w2 * exp(-|p_i - p_j|**2 / (2 * xy2**2))                                    Gaussian

and pays k(i, j) where the two have different classes (Potts model). Mean field (algorithm 1 there) starts from the
network's probabilities p(l) and repeats ::

    Q_i(l) = p_i(l) * exp(sum over j != i of k(i, j) * Q_j(l)), divided by its sum over the classes l

As in the released code (its default, NORMALIZE_SYMMETRIC) each of the two kernels is normalised symmetrically: G(i, j)
becomes ``G(i, j) / sqrt(sum_m G(i, m) * sum_m G(j, m))``, so that a message does not grow with the size of the image.
As in the paper, and not in the released code, a pixel sends no message to itself.

The sums over all pixels are what costs. The Gaussian kernel is a convolution, one axis after the other. The bilateral
one is a Gaussian in 2 + C dimensions, position and colour, and pixels lie there as scattered points: they are spread to
the corners of a grid, blurred there and read again. One channel, and two at usual widths, take an ordinary grid
(Chen, Paris, Durand 2007, doi 10.1145/1276377.1276506) of 3 or 2 points a standard deviation. With more channels that
has too many points, and they take a permutohedral lattice (Adams, Baek, Davis 2010, doi
10.1111/j.1467-8659.2009.01645.x) as the released code does, of which only the points that pixels touch are held:
coarser, and farther from the sum.
"""

from unetbio.postprocessing.crf.bilateral import bilateral_kernel
from unetbio.postprocessing.crf.kernels import Kernel, gaussian_kernel
from unetbio.postprocessing.crf.refinement import mean_field, refine
from unetbio.postprocessing.crf.settings import PRESETS, CrfSettings, crf_settings

__all__ = [
    "PRESETS",
    "CrfSettings",
    "Kernel",
    "bilateral_kernel",
    "crf_settings",
    "gaussian_kernel",
    "mean_field",
    "refine",
]
