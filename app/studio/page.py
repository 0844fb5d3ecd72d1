"""The studio's page: a Gradio app around our own live view."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import gradio as gr
from fastapi import FastAPI, Query
from fastapi.staticfiles import StaticFiles

from longtake.app.api import Model
from longtake.app.wire import MAX_PROMPT

HERE = Path(__file__).parent
EXAMPLES = (
    "a red ball bounces on green grass on a sunny day",
    "night falls and it starts to snow",
    "a small blue car drives over the sand at sunset",
    "a big yellow duck sails on the water by night",
    "it starts to rain",
    "make it blue",
)
_HEAD = """
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="studio/studio.css">
<script type="module" src="studio/studio.js"></script>
"""


def mount_page(app: FastAPI, model: Model) -> FastAPI:
    """Add the page, its files and the routes it asks to a server.

    Args:
        app: has a ``/stream`` that speaks the protocol. What is added to it later is hidden by
            the page, which answers every path that is not taken.
        model: that makes the films; asked for the words it knows.

    Returns:
        The app.
    """

    @app.get("/spelling")
    def spelling(
        text: Annotated[str, Query(max_length=MAX_PROMPT)],
    ) -> dict[str, dict[str, str | None]]:
        """Words that the model never met, each with the nearest it knows; in a thread."""
        return {"unknown": model.unknown_words(text)}

    app.mount("/studio", StaticFiles(directory=HERE / "static"))
    known = [example for example in EXAMPLES if not model.unknown_words(example)] or EXAMPLES[:1]
    return gr.mount_gradio_app(
        app,
        _blocks(known),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=_theme(),
        head=_HEAD,
    )


def _blocks(examples: Sequence[str]) -> gr.Blocks:
    with gr.Blocks(title="Longtake", analytics_enabled=False, fill_width=True) as blocks:
        stage = (HERE / "stage.html").read_text("utf-8")
        opening = f'<longtake-stage data-prompt="{html.escape(examples[0])}">'
        gr.HTML(stage.replace("<longtake-stage>", opening), apply_default_css=False)
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
        color_accent="*primary_700",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_950",
    )
