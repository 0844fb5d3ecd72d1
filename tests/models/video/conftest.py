"""Tiny random checkpoints in the layouts in which Wan 2.1 and what follows it are published."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from longtake.models.video.convert import plan_conversion, write_model
from longtake.streaming import StreamError

HEAD_DIM = 14
TEXT_DIM = 12
WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "ball"]
# diffusers' pattern -> Wan's, as Wan's own modules are built.
TRANSFORMER = {
    r"^condition_embedder\.time_embedder\.linear_1": "time_embedding.0",
    r"^condition_embedder\.time_embedder\.linear_2": "time_embedding.2",
    r"^condition_embedder\.text_embedder\.linear_1": "text_embedding.0",
    r"^condition_embedder\.text_embedder\.linear_2": "text_embedding.2",
    r"^condition_embedder\.time_proj": "time_projection.1",
    r"^scale_shift_table": "head.modulation",
    r"^proj_out": "head.head",
    r"\.attn1\.": ".self_attn.",
    r"\.attn2\.": ".cross_attn.",
    r"\.to_out\.0\.": ".o.",
    r"\.to_([qkv])\.": r".\1.",
    r"\.norm2\.": ".norm3.",
    r"\.ffn\.net\.0\.proj\.": ".ffn.0.",
    r"\.ffn\.net\.2\.": ".ffn.2.",
    r"\.scale_shift_table": ".modulation",
}
VAE = {
    r"^quant_conv": "conv1",
    r"^post_quant_conv": "conv2",
    r"\.conv_in\.": ".conv1.",
    r"\.norm_out\.": ".head.0.",
    r"\.conv_out\.": ".head.2.",
    r"\.mid_block\.resnets\.0": ".middle.0",
    r"\.mid_block\.attentions\.0": ".middle.1",
    r"\.mid_block\.resnets\.1": ".middle.2",
    r"\.down_blocks\.": ".downsamples.",
    r"\.conv_shortcut\.": ".shortcut.",
    r"(samples|middle)(.*)\.norm1\.": r"\1\2.residual.0.",
    r"(samples|middle)(.*)\.conv1\.": r"\1\2.residual.2.",
    r"(samples|middle)(.*)\.norm2\.": r"\1\2.residual.3.",
    r"(samples|middle)(.*)\.conv2\.": r"\1\2.residual.6.",
}
TEXT_ENCODER = {
    r"^shared\.": "token_embedding.",
    r"^encoder\.final_layer_norm": "norm",
    r"^encoder\.block\.": "blocks.",
    r"\.layer\.0\.layer_norm": ".norm1",
    r"\.layer\.0\.SelfAttention\.relative_attention_bias": ".pos_embedding.embedding",
    r"\.layer\.0\.SelfAttention": ".attn",
    r"\.layer\.1\.layer_norm": ".norm2",
    r"\.layer\.1\.DenseReluDense\.wi_0": ".ffn.gate.0",
    r"\.layer\.1\.DenseReluDense\.wi_1": ".ffn.fc1",
    r"\.layer\.1\.DenseReluDense\.wo": ".ffn.fc2",
}


def original_name(name: str, patterns: dict[str, str]) -> str:
    """What Wan calls a tensor of diffusers or transformers."""
    # Four modules in a row for each of diffusers' blocks: three residual ones, an upsampling.
    name = re.sub(
        r"\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)",
        lambda m: f".upsamples.{4 * int(m[1]) + (3 if m[2] == 'upsamplers' else int(m[3]))}",
        name,
    )
    for pattern, original in patterns.items():
        name = re.sub(pattern, original, name)
    return name


def originals(module: torch.nn.Module, patterns: dict[str, str]) -> dict[str, Tensor]:
    """A module's tensors by Wan's names."""
    tensors = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    return {original_name(name, patterns): tensor for name, tensor in tensors.items()}


def make_transformer(seed: int = 0, layers: int = 2) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=HEAD_DIM,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=40,
        num_layers=layers,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def make_vae(seed: int = 0) -> AutoencoderKLWan:
    torch.manual_seed(seed)
    return AutoencoderKLWan(base_dim=4).eval()


def make_text_encoder(seed: int = 0) -> UMT5EncoderModel:
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=len(WORDS), d_model=TEXT_DIM, d_kv=5, d_ff=20, num_layers=2, num_heads=3
    )
    return UMT5EncoderModel(config).eval()


def make_taehv(seed: int = 0, grows: tuple[int, ...] = (1, 2, 2)) -> dict[str, Tensor]:
    """The state of a TAEHV of 16 latent channels, whose stages are 8 or 6 channels wide."""
    torch.manual_seed(seed)
    state: dict[str, Tensor] = {}

    def conv(name: str, outputs: int, inputs: int, size: int = 3, *, bias: bool = True) -> None:
        state[f"{name}.weight"] = 0.3 * torch.randn(outputs, inputs, size, size)
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(outputs)

    def memory(part: str, first: int, width: int) -> None:
        for block in range(first, first + 3):
            for index, inputs in ((0, 2 * width), (2, width), (4, width)):
                conv(f"{part}.{block}.conv.{index}", width, inputs)

    conv("encoder.0", 6, 3)
    for index, pool in zip((2, 7, 12), (2, 2, 1), strict=True):
        conv(f"encoder.{index}.conv", 6, 6 * pool, 1, bias=False)
        conv(f"encoder.{index + 1}", 6, 6, bias=False)
        memory("encoder", index + 2, 6)
    conv("encoder.17", 16, 6)
    widths = (8, 6, 6, 6)
    conv("decoder.1", widths[0], 16)
    for stage, grow in enumerate(grows):
        first, width = 3 + 6 * stage, widths[stage]
        memory("decoder", first, width)
        conv(f"decoder.{first + 4}.conv", width * grow, width, 1, bias=False)
        conv(f"decoder.{first + 5}", widths[stage + 1], width, bias=False)
    conv("decoder.22", 3, widths[-1])
    return state


def make_lora(module: torch.nn.Module, rank: int = 3) -> dict[str, Tensor]:
    """Changes of all ten linear layers of every block, by diffusers' names."""
    torch.manual_seed(5)
    lora = {}
    for name, parameter in module.named_parameters():
        if name.startswith("blocks.") and name.endswith(".weight") and parameter.ndim == 2:
            layer = name.removesuffix(".weight")
            outputs, inputs = parameter.shape
            lora[f"{layer}.lora_A.weight"] = 0.3 * torch.randn(rank, inputs)
            lora[f"{layer}.lora_B.weight"] = 0.3 * torch.randn(outputs, rank)
    return lora


def add_lora(module: torch.nn.Module, lora: dict[str, Tensor], scale: float = 1.0) -> None:
    """Applied plainly, in float64."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            layer = name.removesuffix(".weight")
            if (down := lora.get(f"{layer}.lora_A.weight")) is not None:
                change = lora[f"{layer}.lora_B.weight"].double() @ down.double()
                parameter.copy_(parameter.double() + scale * change)


def write_wan(folder: Path, parts: SimpleNamespace) -> Path:
    """The folder as Wan-AI publishes it, its transformer in two files."""
    (folder / "google" / "umt5-xxl").mkdir(parents=True)
    tensors = sorted(originals(parts.transformer, TRANSFORMER).items())
    half = len(tensors) // 2
    for number, some in enumerate((tensors[:half], tensors[half:]), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        save_file(dict(some), folder / file)
    (folder / "config.json").write_text('{"_class_name": "WanModel", "num_heads": 2}')
    text_encoder = originals(parts.text_encoder, TEXT_ENCODER)
    torch.save(text_encoder, folder / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(originals(parts.vae, VAE), folder / "Wan2.1_VAE.pth")
    words = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.save(str(folder / "google" / "umt5-xxl" / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def published() -> SimpleNamespace:
    """Makers of random parts, and of their checkpoints."""
    return SimpleNamespace(**globals())


@pytest.fixture(scope="session")
def wan_parts() -> SimpleNamespace:
    """Random parts by diffusers and transformers; not to be changed."""
    return SimpleNamespace(
        transformer=make_transformer(), vae=make_vae(), text_encoder=make_text_encoder()
    )


@pytest.fixture(scope="session")
def wan_original(wan_parts, tmp_path_factory) -> Path:
    """Wan 2.1's folder as it is published, with those parts."""
    return write_wan(tmp_path_factory.mktemp("published") / "Wan2.1-T2V-1.3B", wan_parts)


@pytest.fixture
def make(tmp_path):
    """Converts to a new folder."""

    def make(*sources, lora=None, head_dim=HEAD_DIM, name="model", **options):
        plan = plan_conversion([Path(source) for source in sources], lora, head_dim)
        write_model(plan, tmp_path / name, **options)
        return tmp_path / name

    return make


@pytest.fixture
def refused(make, tmp_path):
    """Checks that a conversion is refused in one sentence that holds some words, and is undone."""

    def check(code, *sources, words, **options):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(StreamError) as caught:
            make(*sources, **options)
        assert caught.value.code == code
        for word in words:
            assert str(word) in caught.value.message
        assert "\n" not in str(caught.value)
        assert caught.value.hint
        assert sorted(tmp_path.rglob("*")) == before

    return check


@pytest.fixture
def original(published, wan_parts):
    """The transformer's tensors by Wan's names, free to be changed."""
    return published.originals(wan_parts.transformer, published.TRANSFORMER)
