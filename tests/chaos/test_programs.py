"""Random programs of workers keep every promise: see program.py for what is checked.

Each runs in a process of its own, for a second, or for `--chaos-minutes` in all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from helpers import ROOT

PROGRAM = Path(__file__).with_name("program.py")
MODES = {
    "calm": (),
    "collected": ("gc",),
    "switched": ("gc", "switch"),
    "forked": ("switch", "fork"),
}
# A fork copies the interpreter's own locks on dicts and lists as they are, and only
# builds with the GIL have none. See docs/limits.md.
FORKS = hasattr(os, "fork") and not sysconfig.get_config_var("Py_GIL_DISABLED")


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            mode,
            marks=pytest.mark.skipif(
                "fork" in flags and not FORKS,
                reason="without the GIL a fork copies locked dicts: the interpreter itself hangs",
            ),
        )
        for mode, flags in MODES.items()
    ],
)
def test_random_programs_keep_every_promise(mode: str, pytestconfig: pytest.Config) -> None:
    """No on_close is missed, doubled or beside a poll; no thread and no core is left."""
    minutes: float = pytestconfig.getoption("--chaos-minutes")
    seconds = minutes * 60 / len(MODES) or 1.0
    seed = 20261123 if not minutes else int.from_bytes(os.urandom(4))
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), str(seed), str(seconds), *MODES[mode]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])},
        capture_output=True,
        text=True,
        timeout=seconds + 150,
        check=False,
    )
    told = f"seed {seed}, mode {mode}: {result.stdout}\n{result.stderr}"
    assert (result.returncode, result.stderr) == (0, ""), told
    assert result.stdout.startswith("ok "), told
