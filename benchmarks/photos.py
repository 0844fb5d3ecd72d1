"""Photographs of our world that other packages bring along: none is fetched, none is kept here."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from longtake.training.pictures import PHOTOS

SHIPPED = {
    "gradio": ("media_assets/images", "test_data"),
    "matplotlib": ("mpl-data/sample_data",),
    "skimage": ("data",),
    "sklearn": ("datasets/images",),
}
"""Folders with photographs, by the package that they are in."""
SMALLEST = 128
"""Pixels of a side; what is smaller is an icon."""


def sample_photos() -> list[Path]:
    """The photographs of installed packages, each once; none where none is installed."""
    found: dict[str, Path] = {}
    for package, folders in SHIPPED.items():
        spec = find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            for folder in folders:
                for file in sorted((Path(place) / folder).glob("*")):
                    if file.suffix in PHOTOS and _is_photo(file):
                        found.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), file)
    return list(found.values())


def _is_photo(file: Path) -> bool:
    """Neither an icon nor a logo cut out of its background."""
    try:
        with Image.open(file) as image:
            return image.mode in {"RGB", "L"} and min(image.size) >= SMALLEST
    except UnidentifiedImageError:
        return False
