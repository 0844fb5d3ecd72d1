"""Tiny models, and the naive references that the fast code is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partialmethod
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from longtake.kernels import Kernels, bind
from longtake.kernels.registry import OPERATIONS
from longtake.models.video.film_state import FilmState
from longtake.models.video.generator import StreamingConfig, VideoGenerator
from longtake.models.video.kv_cache import CacheSettings, KVCache
from longtake.models.video.radial import radial_map
from longtake.models.video.self_attention import Norms
from longtake.models.video.text import TextEncoder
from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig
from longtake.models.video.transformer import TransformerConfig, WanTransformer

CPU = torch.device("cpu")
GRID = (2, 3)
TEXT_DIM = 16
TRANSFORMER = TransformerConfig(
    num_attention_heads=2,
    attention_head_dim=14,
    ffn_dim=24,
    num_layers=2,
    in_channels=4,
    out_channels=4,
    text_dim=TEXT_DIM,
    freq_dim=16,
)
CODEC = TinyCodecConfig(
    latent_channels=4,
    patch_size=2,
    blocks=1,
    encoder_channels=(8, 8, 8),
    encoder_pool=(2, 1),
    encoder_stride=(2, 1),
    decoder_channels=(8, 8, 8),
    decoder_scale=(1, 2),
    decoder_grow=(2, 1),
    latents_mean=(0.1, -0.2, 0.0, 0.3),
    latents_std=(1.5, 0.5, 1.0, 2.0),
)
STREAMING = StreamingConfig(
    width=GRID[1] * 2 * CODEC.spatial,
    height=GRID[0] * 2 * CODEC.spatial,
    rate=16,
    chunk=3,
    sink=3,
    window=9,
    steps=2,
    shift=5.0,
    text_length=12,
)


class PlainAttention:
    """Self-attention spelt out in float64: raw keys in lists, rotated and masked on every call.

    Args:
        grid: rows and columns of tokens in a frame.
        positions: the time position of each frame of the forward.
        groups: the group of each frame; a frame sees its own group and those before it. None
            lets every frame see every other.
        past: for each layer the raw keys and values of earlier frames, seen by all.
        past_positions: the time position of each of those frames.
        hidden: for each layer what tokens of the forward do not see of all keys, or None.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        positions: Sequence[int],
        groups: Sequence[int] | None = None,
        past: Sequence[tuple[Tensor, Tensor]] | None = None,
        past_positions: Sequence[int] = (),
        hidden: Sequence[Tensor | None] | None = None,
    ) -> None:
        self.grid = grid
        self.hidden = hidden
        self.positions, self.past_positions = list(positions), list(past_positions)
        self.groups = groups
        self.past = past
        self.made: list[tuple[Tensor, Tensor]] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:
        assert layer == len(self.made)
        q, k = _normed(q, norms.q, norms.eps), _normed(k, norms.k, norms.eps)
        self.made.append((k, v))
        if self.past is not None:
            k, v = (torch.cat(pair, 1) for pair in zip(self.past[layer], (k, v), strict=True))
        queries = _rotate(q, self.positions, self.grid)
        keys = _rotate(k, self.past_positions + self.positions, self.grid)
        scores = torch.einsum("bqhd,bkhd->bhqk", queries, keys) / q.shape[-1] ** 0.5
        if self.groups is not None:
            own = torch.tensor(self.groups).repeat_interleave(self.grid[0] * self.grid[1])
            hidden = own[:, None] < own[None, :]
            scores[..., k.shape[1] - len(own) :].masked_fill_(hidden, -torch.inf)
        if self.hidden and self.hidden[layer] is not None:
            scores.masked_fill_(self.hidden[layer], -torch.inf)
        out = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.double())
        return out.to(q.dtype)


def _normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Over all heads together, in float64, rounded as stored keys are."""
    wide = x.double()
    rms = (wide.square().mean((-2, -1), keepdim=True) + eps).sqrt()
    return (wide / rms * weight.double().view(x.shape[-2:])).to(x.dtype)


def _rotate(x: Tensor, positions: Sequence[int], grid: tuple[int, int]) -> Tensor:
    """Rotary positions as complex numbers, in float64 (Wan 2.1: channels shared over t, h, w)."""
    head_dim = x.shape[-1]
    space = 2 * (head_dim // 6)
    points = torch.cartesian_prod(
        torch.tensor(positions), torch.arange(grid[0]), torch.arange(grid[1])
    ).double()
    angles = torch.cat(
        [
            points[:, axis, None] / 10_000 ** (torch.arange(0, dim, 2).double() / dim)
            for axis, dim in enumerate((head_dim - 2 * space, space, space))
        ],
        1,
    )
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.view_as_real(turned).flatten(-2)


class NaiveFilm:
    """What a cache means: nothing is ever thrown away, each forward picks what it may see.

    Args:
        transformer: runs the forwards.
        settings: how far the film looks back.
        grid: rows and columns of tokens in a frame.
    """

    def __init__(
        self, transformer: WanTransformer, settings: CacheSettings, grid: tuple[int, int] = GRID
    ) -> None:
        self.transformer = transformer
        self.settings = settings
        self.grid = grid
        self.frames: list[int] = []
        self.raw: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def forward(
        self,
        latents: Tensor,
        frames: Sequence[int],
        timestep: float,
        text: Sequence[tuple[Tensor, Tensor]],
        *,
        commit: bool = False,
        groups: Sequence[int] | None = None,
        dense: bool = False,
    ) -> Tensor:
        """Run new frames beside the retained ones; ``commit`` adds them to the film."""
        film = self.frames + list(frames)
        sink, window = self.settings.sink, self.settings.window
        seen = film[:sink] + film[sink:][-window:]
        absolute = self.settings.positions == "absolute"
        position = {frame: frame if absolute else rank for rank, frame in enumerate(seen)}
        past = [frame for frame in seen if frame in self.frames]
        attention = PlainAttention(
            self.grid,
            [position[frame] for frame in frames],
            groups,
            [
                tuple(torch.cat(each, 1) for each in zip(*layer, strict=True))
                for layer in zip(*(self.raw[frame] for frame in past), strict=True)
            ]
            or None,
            [position[frame] for frame in past],
            None if dense else self._hidden(list(frames), past + list(frames)),
        )
        timesteps = torch.full((1, len(frames)), float(timestep))
        out = self.transformer(latents, timesteps, text, attention)
        if commit:
            tokens = self.grid[0] * self.grid[1]
            for index, frame in enumerate(frames):
                part = slice(index * tokens, (index + 1) * tokens)
                self.raw[frame] = [(k[:, part], v[:, part]) for k, v in attention.made]
            self.frames = film
        return out

    def _hidden(self, frames: list[int], seen: list[int]) -> list[Tensor | None] | None:
        """What radial attention leaves out, token for token, for each layer."""
        radial, tokens = self.settings.radial, self.grid[0] * self.grid[1]
        if radial is None:
            return None
        sinks, chunk = seen[: self.settings.sink], self.settings.chunk
        blocks = radial_map(frames, seen, sinks, chunk, tokens, radial)
        in_frame = -(-tokens // radial.block)
        block_of = [
            index * in_frame + place // radial.block
            for index in range(len(seen))
            for place in range(tokens)
        ]
        hidden = torch.ones(len(frames) * tokens, len(seen) * tokens, dtype=torch.bool)
        for row, query in enumerate(block_of[: len(hidden)]):
            some = set(blocks.keys[query, : blocks.counts[query]].tolist())
            hidden[row] = torch.tensor([block not in some for block in block_of])
        layers = len(self.transformer.blocks)
        return [None if layer < radial.dense_layers else hidden for layer in range(layers)]

    def forget(self, but: Sequence[int] = ()) -> None:
        """Drop every frame except some."""
        self.frames = [frame for frame in self.frames if frame in but]


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session", params=["reference", "cpu"])
def kernels(request) -> Kernels:
    """Both sets of operations that run on a CPU."""
    every = OPERATIONS if request.param == "reference" else ()
    return bind(CPU, torch.float32, dict.fromkeys(every, "reference"))


@pytest.fixture(scope="session")
def cpu_kernels() -> Kernels:
    """What a CPU gets where the set does not matter."""
    return bind(CPU, torch.float32)


@pytest.fixture(scope="session")
def naive() -> SimpleNamespace:
    """The references: ``PlainAttention`` and ``NaiveFilm``."""
    return SimpleNamespace(PlainAttention=PlainAttention, NaiveFilm=NaiveFilm)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """The tiny configs that tests vary with ``dataclasses.replace``."""
    return SimpleNamespace(
        grid=GRID, transformer=TRANSFORMER, codec=CODEC, streaming=STREAMING, device=CPU
    )


@pytest.fixture(scope="session")
def make_transformer() -> Callable[..., WanTransformer]:
    """A random transformer whose output depends strongly on all of its inputs."""

    def make(kernels: Kernels, seed: int = 0, **changes) -> WanTransformer:
        torch.manual_seed(seed)
        model = WanTransformer(replace(TRANSFORMER, **changes), kernels)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim < 2 and not name.endswith("bias"):
                    parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
                elif parameter.ndim == 2:
                    parameter.mul_(2)
        return model.eval().requires_grad_(requires_grad=False)

    return make


@pytest.fixture(scope="session")
def wrap_forwards() -> Callable[..., None]:
    """Puts a function around every forward of every transformer, whatever it is for.

    It gets the method and its arguments: the transformer, the latents, their modulation and more.
    """

    def wrap(patch: pytest.MonkeyPatch, around: Callable[..., object]) -> None:
        for name in ("flow", "remember"):
            real = getattr(WanTransformer, name)
            wrapped = partialmethod(lambda self, real, *given: around(real, self, *given), real)
            patch.setattr(WanTransformer, name, wrapped)

    return wrap


@pytest.fixture(scope="session")
def make_cache() -> Callable[..., KVCache]:
    """A cache for a transformer on the tiny grid."""

    def make(transformer: WanTransformer, settings: CacheSettings, **more: bool) -> KVCache:
        config, ops = transformer.config, transformer.kernels
        return KVCache(config, settings, GRID, ops, CPU, torch.float32, **more)

    return make


@pytest.fixture(scope="session")
def make_latents() -> Callable[..., Tensor]:
    """Random latent frames on the tiny grid."""

    def make(frames: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (1, TRANSFORMER.in_channels, frames, 2 * GRID[0], 2 * GRID[1])
        return torch.randn(shape, generator=generator)

    return make


@pytest.fixture(scope="session")
def make_text() -> Callable[..., list[tuple[Tensor, Tensor]]]:
    """A random prompt's keys and values."""

    def make(transformer: WanTransformer, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        shape = (1, STREAMING.text_length, transformer.config.text_dim)
        with torch.no_grad():
            return transformer.encode_text(torch.randn(shape, generator=generator))

    return make


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[], Tokenizer]:
    """A tokenizer that gives each byte a token and ends with ``</s>``."""

    def make() -> Tokenizer:
        words = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
        vocabulary = {word: index for index, word in enumerate(words)}
        tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
        return tokenizer

    return make


@pytest.fixture(scope="session")
def make_text_encoder(make_tokenizer) -> Callable[..., TextEncoder]:
    """A random text encoder over bytes."""

    def make(length: int = STREAMING.text_length, seed: int = 0) -> TextEncoder:
        torch.manual_seed(seed)
        config = UMT5Config(
            vocab_size=make_tokenizer().get_vocab_size(),
            d_model=TEXT_DIM,
            d_kv=8,
            d_ff=24,
            num_layers=1,
            num_heads=2,
        )
        return TextEncoder(UMT5EncoderModel(config).eval(), make_tokenizer(), length)

    return make


@pytest.fixture(scope="session")
def make_codec() -> Callable[..., TinyCodec]:
    """A random tiny codec whose pictures are neither black nor white."""

    def make(seed: int = 0, **changes) -> TinyCodec:
        torch.manual_seed(seed)
        codec = TinyCodec(replace(CODEC, **changes))
        with torch.no_grad():
            codec.decoder[-1].bias.add_(0.5)
        return codec.eval().requires_grad_(requires_grad=False)

    return make


@pytest.fixture(scope="session")
def make_generator(
    cpu_kernels, make_transformer, make_codec, make_text_encoder
) -> Callable[..., VideoGenerator]:
    """A whole tiny generator; keyword arguments change its streaming config."""

    def make(codec: object | None = None, **changes) -> VideoGenerator:
        return VideoGenerator(
            make_transformer(cpu_kernels),
            codec or make_codec(),
            make_text_encoder(),
            replace(STREAMING, **changes),
            cpu_kernels,
            CPU,
            torch.float32,
        )

    return make


@pytest.fixture(scope="session")
def run_chunk() -> Callable[[VideoGenerator, FilmState], Tensor]:
    """Steps to the next boundary; gives the chunk's frames in one tensor."""

    def run(generator: VideoGenerator, state: FilmState) -> Tensor:
        frames = []
        while True:
            step = generator.step(state)
            for payload, units in step.media:
                assert len(payload) == units
                frames.append(payload)
            if step.boundary:
                return torch.cat(frames)

    return run
