"""The benchmark runs and says what it is read for; its numbers are the machine's."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_throughput_prints_every_number():
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "throughput.py",
         "--algorithm=bc", "--transitions=20000", "--members=2", "--updates=5", "--turns=1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    *_, memory, last = run.stdout.splitlines()
    numbers = json.loads(last)
    assert set(numbers) == {
        "loop", "compiled", "population", "peak",
        "compiled / loop", "population / compiled", "compiled / peak",
    }  # fmt: skip
    assert all(math.isfinite(number) and number > 0 for number in numbers.values())
    # One copy for three members and two populations: 20,000 rows of 11 + 3 + 1 + 1 + 11 numbers of 4 bytes.
    held, size = re.fullmatch(
        r"data on the device: (\S+) MiB for 3 members, the dataset: (\S+) MiB", memory
    ).groups()
    assert held == size == f"{20_000 * 27 * 4 / 2**20:.1f}"
