"""The bundled captioner's parts from their description, and its folder.

A Qwen2.5-VL like any other but for its sizes: transformers' class, its own tokenizer in Qwen's
layout, the same files. 256x144 frames become 256x128, 16x8 patches or 32 tokens for two frames:
what Qwen's own rounding to whole tokens makes of them. It looks at four frames a second, not two:
a thing that bounces fast does so 1.3 times a second, which two frames cannot tell from 0.7.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from longtake.models.folder import write_json
from longtake.models.vlm.frames import FrameProcessor
from longtake.models.vlm.settings import Settings
from longtake.training.tokens import build_tokenizer

Described = Mapping[str, Any]
"""`captioner.json`: the sizes of tokenizer, text and vision, the processor's numbers, the settings
of streaming, and the sizes that frames are shown at in training."""
TEMPORAL, MERGE = 2, 2
"""Frames in a patch, and patches along a token's side: Qwen's."""
BICUBIC = 3
END, PAD = "<|im_end|>", "<|endoftext|>"


def read_description(path: Path) -> Described:
    """What a JSON file describes."""
    described: Described = json.loads(path.read_text("utf-8"))
    return described


def describe_processor(described: Described) -> dict[str, Any]:
    """`preprocessor_config.json`."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": described["vision"]["patch_size"],
        "temporal_patch_size": TEMPORAL,
        "merge_size": MERGE,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
        "resample": BICUBIC,
        **described["processor"],
    }


def frame_processor(described: Described) -> FrameProcessor:
    """What makes patches of frames."""
    return FrameProcessor.from_config(describe_processor(described))


def settings_of(described: Described) -> Settings:
    """What it is to be watched with."""
    return Settings(**described["streaming"])


def build_captioner(described: Described, tokenizer: Tokenizer) -> Any:  # noqa: ANN401
    """A `Qwen2_5_VLForConditionalGeneration` with random weights, float32."""
    ids = {name: tokenizer.token_to_id(name) for name in (END, PAD)}
    text = {
        **described["text"],
        "vocab_size": tokenizer.get_vocab_size(),
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
    }
    vision = {
        **described["vision"],
        "temporal_patch_size": TEMPORAL,
        "spatial_merge_size": MERGE,
        "out_hidden_size": described["text"]["hidden_size"],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.token_to_id("<|image_pad|>"),
        video_token_id=tokenizer.token_to_id("<|video_pad|>"),
        vision_start_token_id=tokenizer.token_to_id("<|vision_start|>"),
        vision_end_token_id=tokenizer.token_to_id("<|vision_end|>"),
        tie_word_embeddings=True,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids[END]
    model.generation_config.pad_token_id = ids[PAD]
    return model


def load_captioner(folder: Path) -> tuple[Any, Tokenizer]:
    """The model of such a folder in float32, and its tokenizer."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def make_tokenizer(described: Described) -> Tokenizer:
    """The tokenizer that a description asks for."""
    return build_tokenizer(described["tokenizer"]["vocab_size"])


def save_captioner(
    model: Any,  # noqa: ANN401
    tokenizer: Tokenizer,
    described: Described,
    folder: Path,
) -> None:
    """Write a folder that transformers and `models.vlm.load` read, in the model's dtype."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD}
    write_json(folder / "tokenizer_config.json", special)
    write_json(folder / "preprocessor_config.json", describe_processor(described))
    write_json(folder / "streaming.json", described["streaming"])
