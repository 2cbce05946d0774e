"""`steering baseline promote` beside another process that changes the same file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from steering.files import turns_at
from steering.journal import Journal
from steering.verdicts.baselines import read_baseline, write_baseline
from steering.verdicts.promotion import promote, with_others
from tests.documents import ROOT
from tests.gate_rows import cell


def test_cells_that_another_process_adds_meanwhile_are_kept(tmp_path):
    path, results = tmp_path / "baseline.json", tmp_path / "results"
    Journal(results).append(cell(20))
    write_baseline(promote(cell(3)), path)
    command = (sys.executable, "-m", "steering", "baseline", "promote", str(results), "--keep-others")
    with turns_at(path):
        process = subprocess.Popen((*command, "--output", str(path)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=6)  # it starts in a second, and then waits for its turn
        write_baseline(with_others(promote(cell(8)), read_baseline(path)), path)
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, f"mean_difference-layer20: added\n{path}: 3 cells\n")
    assert [entry.layer for entry in read_baseline(path).cells] == [3, 8, 20]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["baseline.json", "results"]
