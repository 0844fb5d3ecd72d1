"""``models``: what is known and what is here; to fetch and to remove."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from longtake.app.asking import agreed
from longtake.app.catalogue import Known, find_model, known_models, models_folder
from longtake.app.outputs import unwritable
from longtake.streaming import StreamError


def list_models(options: argparse.Namespace) -> int:
    """Run the command.

    Args:
        options: as the command line's parser gives them.

    Returns:
        The exit code: 0.

    Raises:
        StreamError: there is no such model, or the network or the disk fails.
    """
    if options.action == "pull":
        _pull(find_model(options.name), options.source)
    elif options.action == "remove":
        _remove(find_model(options.name), options.yes)
    else:
        _list()
    return 0


def _list() -> None:
    models = known_models()
    width = max(len(model.name) for model in models)
    print(f"{'MODEL':{width}}  {'SIZE':>8}  {'LICENCE':16}  WHERE")
    for model in models:
        size = f"{(model.size or model.disk_bytes()) / 1e9:,.2f} GB"
        print(f"{model.name:{width}}  {size:>8}  {model.licence:16}  {_state(model)}")
        limit = "" if model.commercial else " (not for commercial use)"
        print(f"{'':{width}}  {model.what}{limit}")
    print(f"\nmodels are put into {models_folder()}; to fetch one: models pull NAME")


def _state(model: Known) -> str:
    missing = model.missing()
    if not missing:
        return str(model.folder)
    if model.disk_bytes():
        return f"{model.folder}, not whole: it lacks {', '.join(missing)}"
    return "not here"


def _pull(model: Known, source: Path | None) -> None:
    if model.bundled:
        print(f"{model.name} is bundled: {model.folder}")
        return
    print(model.terms(), file=sys.stderr)
    # The hub's library takes a second to load.
    from longtake.app.pull import copy, pull  # noqa: PLC0415

    if source is None:
        pull(model)
    elif source.is_dir():
        copy(model, source)
    else:
        raise StreamError("no_download", f"there is no folder {source}", "give another place")
    use = f"--model {model.name}" if model.captioner else "`convert` makes a model folder of it"
    print(f"{model.name} is in {model.folder}: {use}")


def _remove(model: Known, sure: bool) -> None:
    if model.bundled:
        problem = f"{model.name} is bundled"
        raise StreamError("bad_model", problem, "only models that were fetched are removed")
    if not model.folder.is_dir():
        print(f"{model.name} is not here")
        return
    size = f"{model.disk_bytes() / 1e9:,.2f} GB"
    if not sure and not agreed(f"Remove {model.name}, {size}, from {model.folder}?"):
        print("nothing was removed")
        return
    try:
        shutil.rmtree(model.folder)
    except OSError as error:
        raise unwritable(model.folder, error, "remove it by hand") from None
    print(f"removed {model.name}, {size}")
