"""``serve``: the studio, for a browser or a script."""

from __future__ import annotations

import argparse
import secrets
import socket
import ssl
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from longtake.app.model_options import model_arguments
from longtake.app.outputs import reason
from longtake.app.studio.guard import LOOPBACK
from longtake.app.studio.listening import listen
from longtake.app.studio.settings import StudioSettings
from longtake.streaming import StreamError

if TYPE_CHECKING:
    from longtake.app.api import Model
    from longtake.app.studio.watching import Captioners


def serve(options: argparse.Namespace) -> int:
    """Run the command until it is interrupted.

    Args:
        options: as the command line's parser gives them.

    Returns:
        The exit code.

    Raises:
        StreamError: something in the options does not fit, or the port is taken.
    """
    settings = StudioSettings(
        host=options.host,
        port=options.port,
        token=options.token or (None if options.host in LOOPBACK else secrets.token_urlsafe(16)),
        origins=tuple(options.origin),
        sessions=options.sessions,
        idle=options.idle,
    )
    tls = _tls(options.tls_cert, options.tls_key)
    with listen(settings) as listener:
        return _serve(options, settings, tls, listener)


def _serve(
    options: argparse.Namespace,
    settings: StudioSettings,
    tls: tuple[Path, Path] | None,
    listener: socket.socket,
) -> int:
    # These take seconds to load; a port that is taken is told before.
    from longtake.app.api import open_model  # noqa: PLC0415
    from longtake.app.studio.page import mount_page  # noqa: PLC0415
    from longtake.app.studio.server import Server, make_app  # noqa: PLC0415
    from longtake.app.takes import TakesFolder  # noqa: PLC0415

    takes = TakesFolder(options.takes)
    with open_model(**model_arguments(options)) as model:
        print(f"{model.folder.name} is loaded; takes are saved in {takes.path}", file=sys.stderr)
        captioners = _captioners(options, model)
        print(f"open {_address(settings, listener, bool(tls))}  (Ctrl-C ends it)", flush=True)
        app = make_app(model, settings, takes, captioners=captioners)
        app = mount_page(app, model, takes, watches=captioners is not None)
        Server(app, settings, tls).run(sockets=[listener])
    return 0


def _captioners(options: argparse.Namespace, model: Model) -> Captioners | None:
    """What watches for visitors, on the worker of the generator; None where there is nothing.

    It is loaded when somebody first watches; what cannot be one is told of before.
    """
    from longtake.app.catalogue import find_captioner  # noqa: PLC0415
    from longtake.app.studio.watching import Captioners  # noqa: PLC0415
    from longtake.app.witness import open_witness  # noqa: PLC0415
    from longtake.models.vlm.folder import check_source  # noqa: PLC0415
    from longtake.weights import CAPTIONER  # noqa: PLC0415

    if options.witness is not None:
        check_source(find_captioner(options.witness))
    elif not CAPTIONER.is_dir():
        return None
    load = partial(
        open_witness,
        options.witness,
        device=options.device,
        dtype=options.dtype,
        beside=model.engine,
    )
    return Captioners(load)


def _tls(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Both files, or None where there is neither."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        problem = "one of --tls-cert and --tls-key is missing"
        raise StreamError("bad_tls", problem, "give both, or neither")
    for path in (certificate, key):
        if not path.is_file():
            raise StreamError("bad_tls", f"there is no file {path}", "give files in PEM format")
    try:
        # A key that is locked is refused; OpenSSL would ask for its password otherwise.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        # In brackets Python says where in its own source.
        why = reason(error).partition(" (_")[0]
        problem = f"{certificate} and {key} are no certificate and its key ({why})"
        hint = "give files in PEM format that belong together, the key without a password"
        raise StreamError("bad_tls", problem, hint) from None
    return certificate, key


def _address(settings: StudioSettings, listener: socket.socket, is_secure: bool) -> str:
    """What a visitor opens; with the token, which the page turns into a cookie."""
    everywhere = settings.host in {"0.0.0.0", "::"}
    host = socket.gethostname() if everywhere else settings.host
    host = f"[{host}]" if ":" in host else host
    scheme = "https" if is_secure else "http"
    token = f"?token={quote(settings.token, safe='')}" if settings.token else ""
    return f"{scheme}://{host}:{listener.getsockname()[1]}/{token}"
