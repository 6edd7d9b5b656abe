"""Running mean of a network's weights over a training; it is what is validated and kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["MeanWeights"]


class MeanWeights:
    """Exponential moving average of the weights; over the first steps their plain mean.

    Parameters
    ----------
    decay : float
        Share of the mean that a step keeps; 0 for no mean.
    tensors : mapping of str to Tensor
        Mean of earlier steps, by names of the network's state.
    """

    def __init__(self, decay: float, tensors: Mapping[str, Tensor] = {}) -> None:
        self.decay = decay
        self.tensors = dict(tensors)

    def update(self, network: nn.Module, step: int) -> None:
        """Move the mean towards the weights after a step, counted from 0."""
        if not self.decay:
            return
        weights = network.state_dict()
        if not self.tensors:
            self.tensors = {name: tensor.detach().clone() for name, tensor in weights.items()}
        share = max(1 - self.decay, 1 / (step + 1))
        for name, mean in self.tensors.items():
            if mean.is_floating_point():
                mean.lerp_(weights[name].detach(), share)
            else:
                mean.copy_(weights[name])

    @contextmanager
    def in_network(self, network: nn.Module) -> Iterator[None]:
        """The mean in place of the last weights, if there is one."""
        if not self.tensors:
            yield
            return
        last = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.tensors)
        try:
            yield
        finally:
            network.load_state_dict(last)
