"""The ceiling that speeds are held against."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import speed


def test_ceiling_is_the_fastest_of_the_products(monkeypatch):
    speeds = {512: 3.0, 1024: 5.0, 2048: 4.0}
    monkeypatch.setattr(speed, "_product_speed", lambda _dtype, _device, width: speeds[width])
    assert speed.matrix_product_ceiling(torch.float32, torch.device("cpu")) == 5.0


def test_operations_of_a_model_are_those_that_pytorch_counts(any_model):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        any_model.module(torch.tensor([[1]]))
    products = sum(
        counter.get_flop_counts()["Global"].get(each, 0) for each in (torch.ops.aten.mm, torch.ops.aten.addmm)
    )
    assert products == speed.block_operations(any_model) * any_model.layer_count + speed.head_operations(any_model)


def test_speed_is_operations_over_the_median_time(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(ticks)))
    assert speed._product_speed(torch.float32, torch.device("cpu"), 8) == 2 * 8**3
