"""Published weights become a model folder with the outputs of what they were, or nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from torch.nn import functional as F

from longtake.models.folder import load_weights, read_json, read_tensors, write_json
from longtake.models.video import convert
from longtake.models.video.convert import plan_conversion
from longtake.models.video.load import load_generator
from longtake.models.video.lora import read_lora
from longtake.models.video.originals import recognise
from longtake.streaming import StreamError

HEAD_DIM = 14


@pytest.fixture
def flow_of(cpu_kernels, naive):
    """What the transformer of a converted folder makes of some noise."""

    def flow_of(folder, latents, text, timestep):
        part = folder / "transformer"
        loaded = fill(convert.empty_transformer(part, cpu_kernels), part)
        frames, height, width = latents.shape[2:]
        attention = naive.PlainAttention((height // 2, width // 2), range(frames))
        times = torch.full((1, frames), timestep)
        return loaded(latents, times, loaded.encode_text(text), attention)

    return flow_of


def fill(module, folder):
    return load_weights(module, folder, torch.float32)


@pytest.fixture
def same_flow(flow_of):
    """Checks that a converted folder's transformer is diffusers' model."""

    def check(folder, model):
        torch.manual_seed(1)
        latents, text = torch.randn(1, 16, 3, 4, 6), torch.randn(1, 7, 12)
        for timestep in (1000.0, 625.0, 0.0):
            expected = model(latents, torch.tensor([timestep]), text).sample
            assert expected.std() > 0.1
            assert (flow_of(folder, latents, text, timestep) - expected).abs().max() < 1e-4

    return check


@pytest.fixture
def check_film(tiny, run_chunk):
    """Checks that a converted folder makes a small film."""

    def check(folder):
        small = {"width": 32, "height": 32, "text_length": 12}
        path = folder / "streaming.json"
        write_json(path, read_json(path) | small)
        generator = load_generator(folder, tiny.device, torch.float32)
        state = generator.open("a red ball", 3)
        first, second = run_chunk(generator, state), run_chunk(generator, state)
        assert (first.shape, second.shape) == ((9, 32, 32, 3), (12, 32, 32, 3))
        assert second.float().std() > 1

    return check


def test_wans_own_folder_becomes_a_model_that_makes_films(
    make, wan_original, wan_parts, same_flow, check_film
):
    folder = make(wan_original, head_dim=None)
    same_flow(folder, wan_parts.transformer)
    check_film(folder)


def test_codec_decodes_as_diffusers_does(make, wan_original, wan_parts, tiny):
    folder = make(wan_original)
    codec = convert.empty_codec(folder / "vae", ["diffusers", "AutoencoderKLWan"])
    fill(codec.vae, folder / "vae")
    torch.manual_seed(2)
    latents = torch.randn(1, 16, 3, 2, 3)
    config = wan_parts.vae.config
    mean, std = (
        torch.tensor(each).view(1, 16, 1, 1, 1)
        for each in (config.latents_mean, config.latents_std)
    )
    expected = (wan_parts.vae.decode(latents * std + mean).sample.transpose(1, 2) + 1) / 2
    decoded, _ = codec.decode(latents)
    assert expected.std() > 0.01
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-4)


def plain_umt5(state, ids):
    """Wan's text encoder spelt out, for up to 8 tokens, whose distances have a bucket each."""
    x = state["token_embedding.weight"][ids]
    distance = torch.arange(len(ids)) - torch.arange(len(ids))[:, None]
    buckets, heads = state["blocks.0.pos_embedding.embedding.weight"].shape
    bucket = distance.abs() + (distance > 0) * (buckets // 2)

    def norm(x, name):
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * state[f"{name}.weight"]

    for block in ("blocks.0", "blocks.1"):
        h = norm(x, f"{block}.norm1")
        q, k, v = (
            (h @ state[f"{block}.attn.{name}.weight"].T).unflatten(-1, (heads, -1))
            for name in "qkv"
        )
        scores = torch.einsum("qhd,khd->hqk", q, k)
        scores += state[f"{block}.pos_embedding.embedding.weight"][bucket].permute(2, 0, 1)
        attended = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
        x = x + attended @ state[f"{block}.attn.o.weight"].T
        h = norm(x, f"{block}.norm2")
        gate = F.gelu(h @ state[f"{block}.ffn.gate.0.weight"].T, approximate="tanh")
        x = x + (gate * (h @ state[f"{block}.ffn.fc1.weight"].T)) @ (
            state[f"{block}.ffn.fc2.weight"].T
        )
    return norm(x, "norm")


def test_text_encoder_is_wans(make, wan_original):
    folder = make(wan_original)
    model = fill(convert.empty_text_encoder(folder / "text_encoder"), folder / "text_encoder")
    model.tie_weights()
    state = torch.load(wan_original / "models_t5_umt5-xxl-enc-bf16.pth", weights_only=True)
    ids = torch.tensor([3, 4, 5, 5, 1])
    expected = plain_umt5(state, ids)
    got = model(input_ids=ids[None]).last_hidden_state[0]
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_names_and_sizes_of_wan_1_3b_are_the_published_ones(published):
    with torch.device("meta"):
        model = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30)
    names = published.originals(model, published.TRANSFORMER)
    assert len(names) == 825
    assert {"blocks.29.cross_attn.norm_k.weight", "head.modulation"} <= names.keys()
    layout = recognise(names)
    renamed = layout.rename(names)
    assert renamed.keys() == dict(model.named_parameters()).keys()
    config = layout.config({name: names[bare] for name, bare in renamed.items()}, 128)
    config = {name: value for name, value in config.items() if name in model.config}
    assert config == {name: model.config[name] for name in config}
    assert config["num_attention_heads"] == 12


@pytest.mark.parametrize("prefix", ["model.", "model._fsdp_wrapped_module.", ""])
@pytest.mark.parametrize("entry", ["generator_ema", "generator"])
def test_generators_of_training_are_the_transformer(
    prefix, entry, original, make, wan_parts, same_flow, tmp_path
):
    wrapped = {f"{prefix}{name}": tensor for name, tensor in original.items()}
    if prefix.count("."):
        wrapped = {
            name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module."): tensor
            for name, tensor in wrapped.items()
        }
    torch.save({entry: wrapped, "step": 700}, tmp_path / "trained.pt")
    plan = plan_conversion([tmp_path / "trained.pt"], head_dim=HEAD_DIM)
    assert plan.remarks == [f"{tmp_path / 'trained.pt'}: {entry} is used; left out are step"]
    assert plan.missing == ["vae", "text_encoder", "tokenizer"]
    folder = make(tmp_path / "trained.pt")
    same_flow(folder, wan_parts.transformer)
    streaming = read_json(folder / "streaming.json")
    assert (streaming["sink"], streaming["window"]) == (
        (0, 21) if entry == "generator_ema" else (3, 9)
    )


def test_the_average_is_taken_where_there_are_both(original, tmp_path):
    other = {name: tensor + 1 for name, tensor in original.items()}
    torch.save({"generator": other, "generator_ema": original}, tmp_path / "both.pt")
    plan = plan_conversion([tmp_path / "both.pt"], head_dim=HEAD_DIM)
    tensors = plan.parts["transformer"].tensors
    assert torch.equal(tensors["patch_embedding.bias"], original["patch_embedding.bias"])


def test_longlive_is_its_base_with_its_lora(
    original, published, make, wan_parts, same_flow, tmp_path
):
    torch.save({"generator": {f"model.{n}": t for n, t in original.items()}}, tmp_path / "base.pt")
    lora = published.make_lora(wan_parts.transformer)
    assert len(lora) == 2 * 10 * 2
    peft = {
        "base_model.model." + published.original_name(name, published.TRANSFORMER): tensor
        for name, tensor in lora.items()
    }
    torch.save({"generator_lora": peft, "critic_lora": peft, "step": 3000}, tmp_path / "lora.pt")
    read = read_lora(tmp_path / "lora.pt")
    folder = make(tmp_path / "base.pt", lora=read)
    tuned = published.make_transformer()
    published.add_lora(tuned, lora)
    same_flow(folder, tuned)
    remarks = plan_conversion([tmp_path / "base.pt"], read, HEAD_DIM).remarks
    assert remarks == [f"{read.path}: left out are critic_lora, step"]


def plain_taehv(state, latents, grows):
    """TAEHV's decoder spelt out, on [time, channels, height, width]."""

    def conv(x, name, padding=1):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding)

    x = conv((latents / 3).tanh() * 3, "decoder.1").relu()
    for stage, grow in enumerate(grows):
        first = 3 + 6 * stage
        for block in range(first, first + 3):
            past = torch.cat((torch.zeros_like(x[:1]), x[:-1]))
            h = conv(torch.cat((x, past), 1), f"decoder.{block}.conv.0").relu()
            h = conv(h, f"decoder.{block}.conv.2").relu()
            x = (conv(h, f"decoder.{block}.conv.4") + x).relu()
        x = F.interpolate(x, scale_factor=2)
        channels = x.shape[1]
        more = conv(x, f"decoder.{first + 4}.conv", padding=0)[:, -grow * channels :]
        x = more.reshape(-1, channels, *x.shape[2:])
        x = conv(x, f"decoder.{first + 5}")
    return conv(x.relu(), "decoder.22").clamp(0, 1)


@pytest.mark.parametrize("first", [1, 2], ids=["its own frames", "a grow that is cut"])
def test_taehv_becomes_a_tiny_codec(first, published, make, tmp_path):
    state = published.make_taehv(grows=(first, 2, 2))
    torch.save(state, tmp_path / "taew2_1.pth")
    folder = make(tmp_path / "taew2_1.pth")
    assert read_json(folder / "model_index.json")["vae"] == ["longtake", "TinyCodec"]
    codec = fill(convert.empty_codec(folder / "vae", ["longtake", "TinyCodec"]), folder / "vae")
    torch.manual_seed(3)
    latents = torch.randn(1, 16, 3, 2, 3)
    expected = plain_taehv(state, latents[0].transpose(0, 1), (1, 2, 2))[3:]
    decoded, _ = codec.decode(latents)
    assert decoded.shape == (1, 9, 3, 16, 24)
    assert expected.std() > 0.02
    torch.testing.assert_close(decoded[0], expected, rtol=0, atol=1e-4)


def test_of_two_sources_the_later_gives_the_part(
    wan_original, published, make, same_flow, check_film, tmp_path
):
    other = published.make_transformer(seed=8)
    tensors = published.originals(other, published.TRANSFORMER)
    torch.save({"generator_ema": tensors}, tmp_path / "self_forcing.pt")
    torch.save(published.make_taehv(), tmp_path / "taew2_1.pth")
    sources = [wan_original, tmp_path / "self_forcing.pt", tmp_path / "taew2_1.pth"]
    plan = plan_conversion(sources, head_dim=HEAD_DIM)
    assert plan.missing == []
    assert len([remark for remark in plan.remarks if "takes the place of" in remark]) == 2
    folder = make(*sources)
    same_flow(folder, other)
    assert read_json(folder / "streaming.json")["window"] == 21
    assert read_json(folder / "model_index.json")["vae"] == ["longtake", "TinyCodec"]
    check_film(folder)


def test_bits_are_kept_there_and_back(make, wan_original, original, published, tmp_path):
    folder = make(wan_original)
    written = dict(read_tensors(folder / "transformer"))
    back = {published.original_name(n, published.TRANSFORMER): t for n, t in written.items()}
    assert back.keys() == original.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in original.items())
    again = make(folder, name="again")
    for part in ("transformer", "vae", "text_encoder"):
        first, second = (dict(read_tensors(each / part)) for each in (folder, again))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    for file in ("model_index.json", "streaming.json", "tokenizer/tokenizer.json"):
        assert (folder / file).read_bytes() == (again / file).read_bytes()


def test_dtype_and_bits_are_as_asked(make, wan_original, check_film):
    half = make(wan_original, dtype=torch.bfloat16, name="half")
    assert {t.dtype for _, t in read_tensors(half / "vae")} == {torch.bfloat16}
    bytes_ = make(wan_original, int8=True, name="bytes")
    stored = dict(read_tensors(bytes_ / "transformer"))
    assert stored["proj_out.weight"].dtype == torch.int8
    assert {t.dtype for _, t in read_tensors(bytes_ / "vae")} == {torch.float32}
    assert "quantization_config" in read_json(bytes_ / "text_encoder" / "config.json")
    assert "quantization_config" not in read_json(bytes_ / "vae" / "config.json")
    for folder in (half, bytes_):
        check_film(folder)


def test_files_are_sharded_as_they_come(make, wan_original, monkeypatch):
    monkeypatch.setattr(convert, "SHARD_BYTES", 40_000)
    folder = make(wan_original)
    index = read_json(folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json")
    files = {path.name for path in (folder / "transformer").glob("*.safetensors")}
    assert set(index["weight_map"].values()) == files
    assert len(files) > 2


def test_files_of_before_torch_1_6_are_read(original, make, wan_parts, same_flow, tmp_path):
    torch.save(original, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    same_flow(make(tmp_path / "old.pth"), wan_parts.transformer)


def test_nothing_is_written_over(make, refused, wan_original, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").touch()
    refused("bad_output", wan_original, words=["model exists already"])
    refused("bad_output", wan_original, words=["there is no folder"], name="no/where")


def test_full_disk_is_told_before_anything_is_written(refused, wan_original, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _: usage)
    refused("disk_full", wan_original, words=["0.0 GB free"])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_cut_leaves_nothing_half(error, make, wan_original, monkeypatch, tmp_path):
    def fail(_):
        raise error

    with pytest.raises((StreamError, KeyboardInterrupt)):
        make(wan_original, progress=fail)
    assert list(tmp_path.iterdir()) == []
    # What a kill left is taken away by the next one.
    (tmp_path / ".model.part").mkdir()
    (tmp_path / ".model.part" / "half").touch()
    make(wan_original)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


MEASURED = """
import resource, sys
from pathlib import Path
from diffusers import WanTransformer3DModel
from diffusers.loaders import single_file_utils
from longtake.models.video import convert

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

convert.SHARD_BYTES = 5_000_000
before = peak()
convert.write_model(convert.plan_conversion([Path(sys.argv[1])]), Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts in KiB")
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_memory_stays_near_one_copy(suffix, published, tmp_path):
    model = WanTransformer3DModel(
        num_attention_heads=4, attention_head_dim=128, text_dim=64, ffn_dim=2048, num_layers=7
    )
    tensors = published.originals(model, published.TRANSFORMER)
    size = sum(tensor.nbytes for tensor in tensors.values())
    path = tmp_path / f"big.{suffix}"
    (torch.save if suffix == "pt" else save_file)(tensors, path)
    command = [sys.executable, "-c", MEASURED, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert size > 120_000_000
    assert int(done.stdout) < 1.3 * size


def test_a_taehv_without_an_encoder_becomes_a_decoder_alone(published, make, tmp_path):
    state = published.make_taehv(grows=(2, 2, 2))
    alone = {name: tensor for name, tensor in state.items() if name.startswith("decoder.")}
    torch.save(alone, tmp_path / "decoder.pth")
    folder = make(tmp_path / "decoder.pth")
    codec = fill(convert.empty_codec(folder / "vae", ["longtake", "TinyCodec"]), folder / "vae")
    assert not codec.encodes
    assert codec.frames_of(3) == 9
    latents = torch.randn(1, 16, 3, 2, 3)
    expected = plain_taehv(state, latents[0].transpose(0, 1), (1, 2, 2))[3:]
    torch.testing.assert_close(codec.decode(latents)[0][0], expected, rtol=0, atol=1e-4)
