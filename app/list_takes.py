"""``takes``: what was saved as it was made; to list, to export and to remove."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from longtake.app.asking import agreed
from longtake.app.export import export
from longtake.app.repeat import command_line
from longtake.app.stored import StoredTake
from longtake.app.takes import TakesFolder

PROMPT_COLUMNS = 50
_STATES = {"open": "being made", "finished": "finished", "interrupted": "interrupted"}


def list_takes(options: argparse.Namespace) -> int:
    """Run the command.

    Args:
        options: as the command line's parser gives them.

    Returns:
        The exit code: 0.

    Raises:
        StreamError: something in the options does not fit, or the disk fails.
    """
    folder = TakesFolder(options.folder)
    if options.export:
        name, file = options.export[0], Path(options.export[1])
        take = folder.find(name)
        if kept := export(take, file, options.last):
            print(f"{file} was there already; it is now {kept}", file=sys.stderr)
        print(f"{file}: from the take {name}")
    elif options.command_line:
        line, remarks = command_line(folder.find(options.command_line))
        print(line)
        for remark in remarks:
            print(f"not the same: {remark}", file=sys.stderr)
    elif options.keep:
        folder.keep(options.keep)
        print(f"{options.keep} is kept until you remove it")
    elif options.clean is not None:
        _clean(folder, options.clean, options.yes)
    else:
        _list(folder)
    return 0


def _list(folder: TakesFolder) -> None:
    takes = folder.takes()
    print(_total(takes, folder))
    if not takes:
        return
    width = max(len(take.name) for take in takes)
    print(f"\n{'TAKE':{width}}  {'LENGTH':>9}  {'SIZE':>9}  {'STATE':17}  FIRST PROMPT")
    for take in takes:
        state = f"{_STATES[take.state]}{', kept' if take.kept else ''}"
        length, size = f"{take.seconds:.1f} s", _megabytes(take.size)
        print(f"{take.name:{width}}  {length:>9}  {size:>9}  {state:17}  {_shortened(take.prompt)}")


def _clean(folder: TakesFolder, names: Sequence[str], sure: bool) -> None:
    if names:
        takes = [folder.find(name) for name in dict.fromkeys(names)]
    else:
        takes = [take for take in folder.takes() if take.state != "open" and not take.kept]
    if not takes:
        print(f"there is nothing to remove in {folder.path}")
        return
    total = _total(takes, folder)
    if not sure and not agreed(f"Remove {total}?"):
        print("nothing was removed")
        return
    for take in takes:
        folder.remove(take.name)
    print(f"removed {total}")


def _total(takes: Sequence[StoredTake], folder: TakesFolder) -> str:
    count = "1 take" if len(takes) == 1 else f"{len(takes)} takes"
    return f"{count}, {_megabytes(sum(take.size for take in takes))}, in {folder.path}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _shortened(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= PROMPT_COLUMNS else line[: PROMPT_COLUMNS - 1] + "…"
