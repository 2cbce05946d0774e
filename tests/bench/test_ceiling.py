"""The ceiling that speeds are held against."""

from __future__ import annotations

import torch

from bench import speed


def test_ceiling_is_the_fastest_of_the_products(monkeypatch):
    speeds = {512: 3.0, 1024: 5.0, 2048: 4.0}
    monkeypatch.setattr(speed, "_product_speed", lambda _dtype, _device, width: speeds[width])
    assert speed.matrix_product_ceiling(torch.float32, torch.device("cpu")) == 5.0


def test_speed_is_operations_over_the_median_time(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(ticks)))
    assert speed._product_speed(torch.float32, torch.device("cpu"), 8) == 2 * 8**3
