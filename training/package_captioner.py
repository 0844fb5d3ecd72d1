"""The trained captioner as a folder of `weights/`: in bfloat16, with its card."""

from __future__ import annotations

import argparse
from pathlib import Path

from longtake.training.package import write_manifest
from longtake.training.witness import load_captioner, read_description, save_captioner

NAME = "witness"
CARD = """# Witness

The bundled captioner: a Qwen2.5-VL of {millions:.1f} million parameters, with a tokenizer of its \
own. It watches the small drawn world of the bundled generator, four frames a second, and says in \
plain English what is there, what it does and what changes, second by second; and it answers \
questions about that and about what has been.

- **Knows:** what [valley](../valley/README.md) knows, in sentences of some hundred words.
- **Does not know:** anything else. Of a camera's picture it says that it does not know this \
world, and what colour, light and motion there is.

`training/captioner.py` made it, on renders only. The weights are stored in bfloat16. Apache-2.0.
"""


def package_captioner(captioner: Path, config: Path, out: Path) -> None:
    """Write `out/witness` from the stage's folder, and list `out` anew in its `SHA256SUMS`.

    `config`: what the stage was run with.
    """
    model, tokenizer = load_captioner(captioner)
    save_captioner(model.bfloat16(), tokenizer, read_description(config), out / NAME)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    (out / NAME / "README.md").write_text(CARD.format(millions=millions), "utf-8")
    write_manifest(out)


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--captioner", type=Path, required=True, help="folder of the stage")
    result.add_argument("--config", type=Path, default=Path(__file__).with_name("captioner.json"))
    result.add_argument("--out", type=Path, required=True, help="folder like `weights` to write to")
    return result


if __name__ == "__main__":
    options = parser().parse_args()
    package_captioner(options.captioner, options.config, options.out)
