"""Probabilities over a vocabulary, against PyTorch's in double precision and their own row by row."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from steering.models.probabilities import by_rows, cross_entropy, log_sum_exp_


def logits_of(rows: int, dtype: torch.dtype = torch.float32, scale: float = 4.0) -> torch.Tensor:
    return (torch.randn(rows, 3000, generator=torch.Generator().manual_seed(rows)) * scale).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 8, 21])
def test_cross_entropy_is_that_of_double_precision(rows, dtype):
    logits, targets = logits_of(rows, dtype), torch.arange(rows) * 7
    found = cross_entropy(logits, targets)
    assert found.dtype == torch.float32
    expected = functional.cross_entropy(logits.double(), targets, reduction="none")
    torch.testing.assert_close(found.double(), expected, atol=3e-6, rtol=1e-6)


@pytest.mark.parametrize("vocab", [3000, 49152])  # a sum over more than 32,768 numbers is shared by threads
def test_a_row_has_the_same_cross_entropy_whatever_is_beside_it(vocab):
    logits = torch.randn(41, vocab, generator=torch.Generator().manual_seed(0)) * 4
    targets = torch.arange(41)
    together = cross_entropy(logits, targets)
    for count in (1, 2, 9):
        for first in range(0, 41 - count, count):
            part = slice(first, first + count)
            assert cross_entropy(logits[part], targets[part]).equal(together[part])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_left_as_they_are(dtype):
    logits = logits_of(9, dtype)
    before = logits.clone()
    cross_entropy(logits, torch.zeros(9, dtype=torch.int64))
    assert logits.equal(before)


def test_gradients_are_those_of_pytorch():
    logits, targets = logits_of(21).requires_grad_(), torch.arange(21)
    [found] = torch.autograd.grad(cross_entropy(logits, targets).sum(), logits)
    [expected] = torch.autograd.grad(functional.cross_entropy(logits, targets, reduction="sum"), logits)
    torch.testing.assert_close(found, expected)


def test_sums_of_exponentials_neither_overflow_nor_vanish():
    values = torch.tensor([[3e4, 3e4 - 1], [-3e4, -3e4 - 1], [0.0, -torch.inf]])
    expected = torch.logsumexp(values.double(), dim=-1)
    torch.testing.assert_close(log_sum_exp_(values.clone()).double(), expected, atol=1e-6, rtol=1e-7)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_shows_in_the_sum(bad):
    values = torch.tensor([[0.0, bad, 1.0], [0.0, 1.0, 2.0]])
    assert torch.isfinite(log_sum_exp_(values)).tolist() == [False, True]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 40])
def test_rows_come_back_in_their_order(rows):
    values = torch.arange(rows * 2).view(rows, 2)
    assert by_rows(lambda left, right: left.sum(dim=1) - right, values, torch.arange(rows)).equal(
        values.sum(dim=1) - torch.arange(rows)
    )
