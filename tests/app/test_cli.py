"""What all commands share."""

from __future__ import annotations

import subprocess
import sys


def test_whoever_reads_no_further_is_left_in_peace():
    code = "from longtake.app.cli import main; raise SystemExit(main(['models']))"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)
    process.stderr.close()
