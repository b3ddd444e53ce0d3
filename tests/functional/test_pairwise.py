"""Mean distances between rows, against a loop over all pairs."""

import math

import pytest
import torch

from captum_plq.functional import mean_pairwise_distance, pairwise, quality_with_standard_error
from captum_plq.functional.pairwise import mean_distance_to_others


def rows(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def oracle(x, group_size):
    m = len(x)
    means = []
    for i in range(m):
        others = [j for j in range(m) if j // group_size != i // group_size]
        means.append(sum(math.dist(x[i].tolist(), x[j].tolist()) for j in others) / len(others))
    return torch.tensor(means, dtype=torch.float64)


@pytest.mark.parametrize("group_size", [1, 2, 3, 4, 6])
def test_equals_the_loop_over_pairs(group_size):
    x = rows(2, 12, 5)
    want = torch.stack([oracle(image, group_size) for image in x])
    torch.testing.assert_close(mean_distance_to_others(x, group_size), want)


@pytest.mark.parametrize("group_size", [1, 4])
@pytest.mark.parametrize("at_a_time", [1, 24, 100])
def test_blocks_change_neither_values_nor_gradients(monkeypatch, at_a_time, group_size):
    x = rows(2, 12, 5).requires_grad_()
    whole = mean_distance_to_others(x, group_size)
    weights = rows(2, 12, seed=1)
    want = torch.autograd.grad((whole * weights).sum(), x)[0]
    monkeypatch.setattr(pairwise, "_DISTANCES_AT_A_TIME", at_a_time)
    blocked = mean_distance_to_others(x, group_size)
    torch.testing.assert_close(blocked, whole, rtol=1e-14, atol=0)
    got = torch.autograd.grad((blocked * weights).sum(), x)[0]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


def test_blocks_bound_what_is_kept_for_backward(monkeypatch):
    def kept(at_a_time):
        monkeypatch.setattr(pairwise, "_DISTANCES_AT_A_TIME", at_a_time)
        storages = {}

        def keep(x):
            storages[x.untyped_storage().data_ptr()] = x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            mean_distance_to_others(rows(400, 3).requires_grad_()).sum()
        return sum(storages.values())

    assert kept(2**19) > 400 * 400
    assert kept(2**12) < 400 * 40


@pytest.mark.parametrize(("m", "group_size"), [(0, 1), (1, 1), (7, 2), (4, 4), (3, 4)])
def test_fewer_than_two_groups_are_refused(m, group_size):
    with pytest.raises(ValueError, match="at least 2"):
        mean_distance_to_others(torch.ones(m, 3), group_size)


@pytest.mark.parametrize("average", ["paper", "pairs"])
def test_pairs_within_a_group_are_left_out_and_the_expectation_stays(average):
    x = rows(8, 5)
    want = oracle(x, 4).mean().item() * (7 / 8 if average == "paper" else 1)
    got = mean_pairwise_distance(x, average, group_size=4).item()
    assert got == pytest.approx(want)


def test_standard_error_of_groups_is_the_spread_of_redraws():
    """Rows of a group share a strong component, so they count as one draw."""
    shared, own = rows(500, 12, 1, 6), rows(500, 12, 4, 6, seed=1)
    x = (3 + shared + 0.3 * own).flatten(1, 2)
    quality, error = quality_with_standard_error(x, group_size=4)
    spread = quality.std().item()
    assert error.square().mean().sqrt().item() == pytest.approx(spread, rel=0.1)
    _, naive = quality_with_standard_error(x)
    assert naive.square().mean().sqrt().item() < 0.7 * spread


def test_standard_error_comes_with_the_same_quality():
    x = rows(3, 12, 5)
    for group_size in (1, 4):
        quality, _ = quality_with_standard_error(x, group_size=group_size, normalize=False)
        distance = mean_pairwise_distance(x, group_size=group_size)
        torch.testing.assert_close(quality, 2 * torch.sigmoid(-distance), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="at least 3"):
        quality_with_standard_error(x, group_size=6)
