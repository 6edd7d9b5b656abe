"""The running mean of the weights over a training."""

import torch
from torch import nn

from unetbio.training.mean_weights import MeanWeights


def test_the_mean_is_plain_at_first_and_exponential_later() -> None:
    network, means = nn.Linear(3, 2), MeanWeights(0.9)
    mean = torch.zeros(2, 3)
    for step in range(20):
        nn.init.normal_(network.weight)
        means.update(network, step)
        mean = mean + max(0.1, 1 / (step + 1)) * (network.weight.detach() - mean)
    torch.testing.assert_close(means.tensors["weight"], mean)


def test_counts_of_batches_are_those_of_the_last_step() -> None:
    network, means = nn.BatchNorm1d(3), MeanWeights(0.9)
    for step in range(4):
        network(torch.randn(5, 3))
        means.update(network, step)
    assert means.tensors["num_batches_tracked"] == 4


def test_the_last_weights_come_back_after_the_mean_was_used() -> None:
    network, means = nn.Linear(3, 2), MeanWeights(0.9)
    means.update(network, 0)
    first = network.weight.detach().clone()
    nn.init.ones_(network.weight)
    with means.in_network(network):
        assert torch.equal(network.weight, first)
    assert torch.equal(network.weight, torch.ones(2, 3))


def test_without_a_decay_there_is_no_mean() -> None:
    network, means = nn.Linear(3, 2), MeanWeights(0.0)
    means.update(network, 0)
    before = network.weight.detach().clone()
    with means.in_network(network):
        assert torch.equal(network.weight, before)
