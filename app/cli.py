"""The command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module

from longtake.app.options import parser
from longtake.app.threads import limit_spinning
from longtake.streaming import StreamError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
COMMANDS = {
    "serve": ("longtake.app.serve", "serve"),
    "caption": ("longtake.app.caption", "caption"),
    "takes": ("longtake.app.list_takes", "list_takes"),
    "models": ("longtake.app.list_models", "list_models"),
    "convert": ("longtake.app.convert", "convert"),
    "doctor": ("longtake.app.doctor", "doctor"),
    "bench": ("longtake.benchmarks.bench", "bench"),
}
"""Where each is run, but for ``generate``, which is told when it all began."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns the exit code: 0, 2 for what the user can mend, 130 for Ctrl-C, and 141 where what reads
    the output reads no more, as `head` does.

    Without a command it is ``serve``.
    """
    began = time.perf_counter()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help"}):
        given.insert(0, "serve")
    options = parser().parse_args(given)
    # A polite kill ends a film as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = _run(options, began)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Nothing more can be said, not even what is still to be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    except StreamError as error:
        print(f"longtake: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        made = " before there was a first frame" if options.command == "generate" else ""
        print(f"longtake: stopped{made}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(options: argparse.Namespace, began: float) -> int:
    limit_spinning()
    # Torch and the rest load here, so that --help and mistyped options answer at once.
    if options.command == "generate":
        from longtake.app.generate import generate  # noqa: PLC0415

        return generate(options, began)
    module, name = COMMANDS[options.command]
    run: Callable[[argparse.Namespace], int] = getattr(import_module(module), name)
    return run(options)
