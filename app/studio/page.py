"""The studio's page: a Gradio app around our own live view."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import gradio as gr
from fastapi import FastAPI, Query
from fastapi.staticfiles import StaticFiles

from longtake.app.api import Model
from longtake.app.studio.bigger import bigger_model
from longtake.app.studio.calm import Calm
from longtake.app.studio.stored_takes import add_take_routes
from longtake.app.studio.watches import NO_CAPTIONER
from longtake.app.takes import TakesFolder
from longtake.app.wire import MAX_PROMPT
from longtake.weights import GENERATOR

HERE = Path(__file__).parent
# Those with a word that the model does not know are left out; the first is what a film begins with.
EXAMPLES = (
    "a red ball bounces on green grass on a sunny day",
    "night falls and it starts to snow",
    "a small blue car drives over the sand at sunset",
    "a big yellow duck swims on the lake in the morning",
    "fog covers the field",
    "the camera pans slowly to the right",
    "make it blue",
    "it stops",
)
# Gradio's queue looks for work a thousand times a second, on the event loop that carries the film.
# The page gives it none.
QUEUE_SECONDS = 10.0
BUNDLED = "a tiny bundled model of a drawn world, not a general text-to-video model"
_HEAD = """
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="studio/studio.css">
<link rel="stylesheet" href="studio/stage.css">
<link rel="stylesheet" href="studio/prompt.css">
<link rel="stylesheet" href="studio/drawer.css">
<link rel="stylesheet" href="studio/witness.css">
<script type="module" src="studio/studio.js"></script>
<script type="module" src="studio/drawer.js"></script>
<script type="module" src="studio/witness.js"></script>
<script type="module" src="studio/tabs.js"></script>
"""


def mount_page(app: FastAPI, model: Model, takes: TakesFolder, *, watches: bool = False) -> FastAPI:
    """Add the page, its files and the routes it asks to a server.

    Args:
        app: has a ``/stream`` that speaks the protocol. What is added to it later is hidden by
            the page, which answers every path that is not taken.
        model: that makes the films; asked for the words it knows. With the bundled one the page
            tells of it, and of a bigger one where that would fit.
        takes: where they are recorded.
        watches: whether the server has a captioner.

    Returns:
        The app.
    """

    @app.get("/spelling")
    def spelling(
        text: Annotated[str, Query(max_length=MAX_PROMPT)],
    ) -> dict[str, dict[str, str | None]]:
        """Words that the model never met, each with the nearest it knows; in a thread."""
        return {"unknown": model.unknown_words(text)}

    add_take_routes(app, takes)
    app.add_middleware(Calm)
    app.mount("/studio", StaticFiles(directory=HERE / "static"))
    examples = [each for each in EXAMPLES if not model.unknown_words(each)] or EXAMPLES[:1]
    about = card = ""
    if model.folder == GENERATOR:
        about, card = BUNDLED, bigger_model(model.generator.device, model.generator.dtype)
    blocks = _blocks(examples, about, card, watches=watches)
    gr.mount_gradio_app(
        app,
        blocks,
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        # Nothing is uploaded through Gradio, but it has a route for it.
        max_file_size=0,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        favicon_path=str(HERE / "static" / "icon.svg"),
        theme=_theme(),
        head=_HEAD,
    )
    queue = blocks._queue
    queue.sleep_when_free = queue.progress_update_sleep_when_free = QUEUE_SECONDS
    return app


def _blocks(examples: Sequence[str], about: str, card: str, *, watches: bool) -> gr.Blocks:
    """The frame: our stage and the witness beside it, and one closed drawer."""
    data = {"prompt": examples[0], "examples": json.dumps(examples), "about": about}
    attributes = "".join(f' data-{name}="{html.escape(value)}"' for name, value in data.items())
    tabs, stage, witness, drawer = (
        (HERE / f"{name}.html").read_text("utf-8")
        for name in ("tabs", "stage", "witness", "drawer")
    )
    if not watches:
        why = html.escape(f"{NO_CAPTIONER.message}: {NO_CAPTIONER.hint}")
        witness = witness.replace("<longtake-witness", f'<longtake-witness data-lacks="{why}"')
    blocks: gr.Blocks = gr.Blocks(title="Longtake", analytics_enabled=False, fill_width=True)
    with blocks:
        opening = f"<longtake-stage{attributes}"
        stage = stage.replace("<longtake-stage", opening, 1)
        gr.HTML(tabs + stage + witness, apply_default_css=False)
        with gr.Accordion("More", open=False, elem_classes="lt-more"):
            end = "</longtake-drawer>"
            gr.HTML(drawer.replace(end, card + end), apply_default_css=False)
    return blocks


def _theme() -> gr.themes.Base:
    """Warm greys and one accent, in light and dark; system fonts, so that none is fetched."""
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Base(
        primary_hue="orange", neutral_hue="stone", font=fonts, font_mono=["ui-monospace"]
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_200",
        background_fill_secondary_dark="*neutral_800",
        border_color_primary="*neutral_300",
        border_color_primary_dark="*neutral_700",
    )
