from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = "import os, sys; print(os.environ.get('GOMP_SPINCOUNT')); assert 'torch' in sys.modules"
API = f"import longtake, sys; assert 'torch' not in sys.modules; longtake.open; {ASK}"
# The command line imports torch only after the options are known to be sound.
CLI = f"from longtake.app.cli import main; main(['generate', '--prompt', '']); {ASK}"


@pytest.mark.parametrize("code", [API, CLI])
@pytest.mark.parametrize(
    ("said", "then"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_are_told_to_spin_little_before_torch_is_there(code, said, then):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_WAIT"))}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env=kept | said, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, then), done.stderr
