"""Generators of random weights: their speed is that of trained ones of the same shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from longtake.app.catalogue import sizes_of
from longtake.kernels import Kernels, bind, fastest_attention
from longtake.models.quantization import SCALE_SUFFIX, quantize
from longtake.models.video.codec import VideoCodec
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.memory import FilmSizes
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text import TextEncoder
from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig
from longtake.models.video.transformer import TransformerConfig, WanTransformer
from longtake.models.video.wan_codec import WanCodec

DecoderName = Literal["none", "tiny_decoder", "wan_vae"]


@dataclass(frozen=True)
class Shape:
    """Of a model.

    Attributes:
        transformer: its config.
        streaming: the picture, the chunk, the cache, the steps.
        tiny_decoder: sizes of the fast decoder.
        wan_vae: what differs from diffusers' defaults, which are Wan 2.1's decoder.
    """

    transformer: TransformerConfig
    streaming: StreamingConfig
    tiny_decoder: TinyCodecConfig
    wan_vae: dict[str, Any] = field(default_factory=dict)

    def measured(
        self, device: torch.device, dtype: torch.dtype, *, fp8: bool = False
    ) -> dict[str, str]:
        """The attention that the loader would choose."""
        sizes = FilmSizes(self.transformer, NoDecoder(), self.streaming, dtype)
        return fastest_attention(sizes.attention_shape, device, dtype, fp8=fp8)


def wan_shape() -> Shape:
    """LongLive's: Wan 2.1 1.3B at 480x832, 3 latent frames a chunk, sink 3 and window 9."""
    sizes = sizes_of("longlive")
    return Shape(
        TransformerConfig(**sizes["transformer"]),
        StreamingConfig(**sizes["streaming"]),
        # TAEHV's sizes are the defaults; it drops the three frames that Wan's first latent lacks.
        TinyCodecConfig(frames_to_trim=3),
    )


def toy_shape() -> Shape:
    """A shape that any machine computes at once; it measures nothing."""
    return Shape(
        TransformerConfig(2, 12, ffn_dim=32, num_layers=2, text_dim=16, freq_dim=16),
        StreamingConfig(
            width=32, height=32, rate=16, chunk=2, sink=2, window=4, steps=2, shift=5.0,
            text_length=8,
        ),
        TinyCodecConfig(
            blocks=1, encoder_channels=(4,) * 4, decoder_channels=(4,) * 4, frames_to_trim=3
        ),
        {"base_dim": 4},
    )  # fmt: skip


@dataclass(frozen=True)
class NoDecoder:
    """A codec that gives no pictures: with it a film is the transformer's part alone.

    Attributes:
        temporal: pixel frames a latent frame would give.
        spatial: pixels a latent, along each side.
        channels: of a latent frame.
        encodes: nothing.
        int8: nor does it compute.
    """

    temporal: int = 4
    spatial: int = 8
    channels: int = 16
    encodes: bool = False
    int8: bool = False

    def frames_of(self, latents: int) -> int:  # noqa: ARG002
        """None."""
        return 0

    def encode_clip(self, frames: Tensor) -> Tensor:
        """Never asked for, as it does not encode."""
        raise NotImplementedError

    def decode_bytes(self, height: int, width: int, dtype: torch.dtype, latents: int) -> int:  # noqa: ARG002
        """None."""
        return 0

    def start(self) -> None:
        """No state."""

    def decode(self, latents: Tensor, state: None) -> tuple[Tensor, None]:  # noqa: ARG002
        """No frames."""
        return latents.new_empty(1, 0, 3, 0, 0), None

    def save(self, state: None) -> tuple[dict[str, Tensor], dict[str, Any]]:  # noqa: ARG002
        """Nothing."""
        return {}, {}

    def load(self, tensors: object, values: object) -> None:
        """No state."""


def random_generator(
    shape: Shape,
    kernels: Kernels,
    device: torch.device,
    dtype: torch.dtype,
    *,
    int8: bool,
    fp8_cache: bool = False,
    seed: int = 0,
) -> VideoGenerator:
    """A generator without a decoder; see :func:`with_decoder`.

    Its text encoder is a stand-in of one narrow layer.

    Args:
        shape: of it.
        kernels: the bound operations.
        device: for the weights.
        dtype: for the weights.
        int8: whether the transformer's blocks compute in int8.
        fp8_cache: whether films keep keys and values in 8-bit floating point.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    with torch.device("meta"):
        transformer = WanTransformer(shape.transformer, kernels, int8=int8)
    _fill(transformer, device, dtype)
    transformer.eval().settle(device)
    encoder = UMT5EncoderModel(small_text(shape)).eval().requires_grad_(requires_grad=False)
    length = shape.streaming.text_length
    text = TextEncoder(encoder.to(device, dtype), word_tokenizer(), length)
    parts = (transformer, NoDecoder(), text, shape.streaming, kernels)
    return VideoGenerator(*parts, device, dtype, fp8_cache=fp8_cache)


def small_text(shape: Shape) -> UMT5Config:
    """A text encoder of one narrow layer, whose embeddings are as wide as the model takes them."""
    width = shape.transformer.text_dim
    return UMT5Config(vocab_size=2, d_model=width, d_kv=8, d_ff=8, num_heads=1, num_layers=1)


def word_tokenizer() -> Tokenizer:
    """One that knows no word."""
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def random_decoder(
    shape: Shape, name: DecoderName, device: torch.device, dtype: torch.dtype
) -> VideoCodec:
    """A decoder by its name, laid out in memory as the loader does."""
    if name == "none":
        return NoDecoder()
    if name == "tiny_decoder":
        tiny = TinyCodec(shape.tiny_decoder).eval().requires_grad_(requires_grad=False)
        return tiny.to(dtype).settle(device)
    from diffusers import AutoencoderKLWan  # noqa: PLC0415 (it takes a second)

    vae = AutoencoderKLWan(**shape.wan_vae).eval().requires_grad_(requires_grad=False)
    # The plain method: diffusers' own warns of parts to be kept in float32, and names none.
    kernels = bind(device, dtype)
    return WanCodec(nn.Module.to(vae, device, dtype), kernels.norm_silu_write)


def with_decoder(
    generator: VideoGenerator, codec: VideoCodec, config: StreamingConfig | None = None
) -> VideoGenerator:
    """A generator that shares all but the decoder, and how it streams where `config` is given."""
    parts = (generator.text_encoder, config or generator.config, generator.kernels)
    where = (generator.device, generator.dtype)
    kept = generator.sizes.fp8_cache
    return VideoGenerator(generator.transformer, codec, *parts, *where, fp8_cache=kept)


def random_weight(name: str, shape: torch.Size, device: torch.device) -> Tensor:
    """A float32 parameter with which activations stay as large as they are.

    Args:
        name: of the parameter; vectors of weights are ones, those of biases zeros.
        shape: of it.
        device: on which it is drawn.
    """
    if len(shape) > 1:
        fan_in: int = math.prod(shape[1:])
        return torch.randn(shape, device=device) / math.sqrt(fan_in)
    return torch.full(shape, float(name.endswith("weight")), device=device)


def _fill(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Draw the parameters of a module on the meta device, one at a time."""
    expected = dict(module.named_parameters())
    found: dict[str, Tensor] = {}
    for name, parameter in expected.items():
        if name.endswith(SCALE_SUFFIX):
            continue  # comes with its weight
        drawn = random_weight(name, parameter.shape, device)
        if name + SCALE_SUFFIX in expected:
            found |= quantize({name: drawn})
        else:
            found[name] = drawn.to(dtype)
    module.load_state_dict(found, assign=True)
    module.requires_grad_(requires_grad=False)
