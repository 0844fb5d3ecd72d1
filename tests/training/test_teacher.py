"""The teacher's forward, and who learns from it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounter

from longtake.models.video.kv_cache import CacheSettings, KVCache
from longtake.models.video.radial import RadialSettings
from longtake.models.video.settings import StreamingConfig
from longtake.training import tune
from longtake.training.attention import RememberingAttention
from longtake.training.denoiser import (
    Flow,
    chunk_attention,
    compile_blocks,
    load_denoiser,
)
from longtake.training.prompts import build_tokenizer, tokens, told_and_not
from longtake.training.rollout import Rollout, sample_chunk
from longtake.training.teacher import Teacher

TOY = Path(__file__).parents[1] / "toy.json"
RunStage = Callable[..., None]
STREAMING = StreamingConfig(**json.loads(TOY.read_text())["streaming"])


@pytest.mark.parametrize("radial", [None, RadialSettings(8, 0.2, dense_layers=0, dense_steps=0)])
def test_training_attention_equals_the_cache(built: Path, radial: RadialSettings | None) -> None:
    """Every noisy chunk of a training forward is what the cached model makes of it."""
    streaming = replace(STREAMING, radial=radial)
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    transformer, cpu = denoiser.transformer, torch.device("cpu")
    draw = torch.Generator().manual_seed(0)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=draw)
    clean, noisy = (torch.randn(1, 8, 8, 9, 16, generator=draw) for _ in range(2))
    embeddings = torch.randn(1, 48, 16, generator=draw)
    timesteps = torch.tensor([[700.0, 700, 300, 300, 900, 900, 500, 500]])
    counts = {"clean": 3, "noisy": 4, "first": 0}
    attention = chunk_attention(transformer, streaming, (9, 16), **counts)
    sizes = (streaming.sink, streaming.window, streaming.chunk)
    settings = CacheSettings(*sizes, radial=radial)
    cache = KVCache(transformer.config, settings, (9, 8), transformer.kernels, cpu, torch.float32)
    with torch.no_grad():
        expected = Flow(transformer)(clean[:, :, :6], noisy, timesteps, embeddings, attention)
        prompt = transformer.encode_text(embeddings)
        for start in range(0, 8, 2):
            cache.stage(range(start, start + 2))
            part = slice(start, start + 2)
            out = transformer(noisy[:, :, part], timesteps[:, part], prompt, cache)
            torch.testing.assert_close(out, expected[:, :, part], atol=1e-4, rtol=1e-4)
            transformer(clean[:, :, part], 0 * timesteps[:, part], prompt, cache)
            cache.commit()
        last = chunk_attention(transformer, streaming, (9, 16), clean=3, noisy=1, first=3)
        end = (clean[:, :, :6], noisy[:, :, 6:], timesteps[:, 6:], embeddings)
        alone = Flow(transformer)(*end, last)
        torch.testing.assert_close(alone, expected[:, :, 6:], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="chunk 4 cannot follow 3"):
        chunk_attention(transformer, streaming, (9, 16), clean=3, noisy=1, first=4)


@pytest.mark.parametrize("dense", [{"dense_layers": 1}, {"dense_steps": 1}])
def test_radial_attention_is_trained_everywhere_or_nowhere(
    built: Path, dense: dict[str, int]
) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    radial = RadialSettings(8, **{"dense_layers": 0, "dense_steps": 0} | dense)
    streaming, counts = replace(STREAMING, radial=radial), {"clean": 0, "noisy": 1, "first": 0}
    with pytest.raises(ValueError, match="all layers and steps, or in none"):
        chunk_attention(denoiser.transformer, streaming, (9, 16), **counts)


class _Straight(torch.nn.Module):
    """In place of a `Flow`: straight to a place of each prompt's own, however noisy it is here."""

    def forward(self, clean, noisy, timesteps, embeddings, attention):
        place = embeddings.mean((1, 2))[:, None, None, None, None]
        return (noisy - place) / (timesteps / 1000)[:, None, :, None, None]


def test_a_teacher_leads_from_every_level_to_where_its_guidance_points(built: Path) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    tokenizer = build_tokenizer()
    words = tokens(tokenizer, [["a red ball"], ["a blue duck"]], 48, 0.0, random.Random(0))
    silent = tokens(tokenizer, [[""], [""]], 48, 0.0, random.Random(0))
    noisy = torch.randn(2, 8, 4, 9, 16, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([[1.0, 1.0, 0.5, 0.5], [0.75, 0.75, 1.0, 1.0]])
    attention = chunk_attention(denoiser.transformer, STREAMING, (9, 16), clean=1, noisy=2, first=0)
    both = [torch.stack(each) for each in zip(words, silent, strict=True)]
    with torch.no_grad():
        said, unsaid = (denoiser.embed(*each).mean((1, 2)) for each in (words, silent))
    for guide in (1.0, 3.0):
        teacher = Teacher(denoiser, guide, 4)
        teacher.flow = _Straight()
        end = teacher.endpoint(noisy[:, :, :2], noisy, sigma, both, attention)
        place = (unsaid + guide * (said - unsaid))[:, None, None, None, None]
        torch.testing.assert_close(end, place.expand_as(end), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("clean", "first"), [(0, 0), (2, 0), (2, 1), (2, 2)])
def test_clean_chunks_are_remembered_as_they_would_be_seen(
    built: Path, clean: int, first: int
) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    counts = {"clean": clean, "noisy": 1 + clean - first, "first": first}
    attention = chunk_attention(denoiser.transformer, STREAMING, (9, 16), **counts)
    draw = torch.Generator().manual_seed(0)
    context = torch.randn(2, 8, 2 * clean, 9, 16, generator=draw)
    embeddings = torch.randn(2, 7, denoiser.text.config.d_model, generator=draw)
    flow, memory = Flow(denoiser.transformer), RememberingAttention(attention, 2)
    given = context
    for level in (1000.0, 500.0, 250.0):
        noisy = torch.randn(2, 8, 2 * counts["noisy"], 9, 16, generator=draw)
        timesteps = torch.full(noisy.shape[:3:2], level)
        with torch.no_grad():
            expected = flow(context, noisy, timesteps, embeddings, attention)
            got = flow(given, noisy, timesteps, embeddings, memory)
        torch.testing.assert_close(got, expected)
        given = context[:, :, :0]


def _compile(module: torch.nn.Module, backend: CompileCounter, *, dynamic: bool, **_: object):
    module._compiled_call_impl = torch.compile(module._call_impl, dynamic=dynamic, backend=backend)


def test_a_memory_does_not_make_every_layer_a_compilation_of_its_own(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    counts = {"clean": 1, "noisy": 1, "first": 1}
    attention = chunk_attention(denoiser.transformer, STREAMING, (9, 16), **counts)
    compiled = CompileCounter()
    torch.compiler.reset()
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(_compile, compiled))
    compile_blocks(denoiser)
    with torch.no_grad():
        latents = torch.randn(1, 8, 2, 9, 16)
        embeddings = torch.randn(1, 7, denoiser.text.config.d_model)
        memory = RememberingAttention(attention, len(denoiser.transformer.blocks))
        Flow(denoiser.transformer)(latents, latents, torch.zeros(1, 2), embeddings, memory)
    # What is before the attention, and what is after.
    assert compiled.frame_count == 2


def test_a_student_is_taught(built: Path, tmp_path: Path, run_stage: RunStage) -> None:
    taught = ("--teacher", str(built / "generator"), "--solver", "2")
    run_stage(built, "generator", tmp_path, *taught)
    student, teacher = (
        load_file(folder / "model.safetensors") for folder in (tmp_path, built / "generator")
    )
    assert any(not torch.equal(value, teacher[key]) for key, value in student.items())


def test_a_rollout_sees_its_sinks_and_the_newest(built: Path) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    draw = torch.Generator().manual_seed(0)
    films = Rollout(denoiser.transformer, STREAMING, (8, 9, 16), 2, draw)
    made = []
    for _ in range(6):
        latents = films.sample(torch.randn(2, 48, 16, generator=draw))
        assert latents.shape == (2, 8, 2, 9, 16)
        films.append(latents)
        made.append(latents)
    # A sink of one chunk, and of the window's three the two before the one to be made.
    torch.testing.assert_close(films.context, torch.cat([made[0], *made[-2:]], 2))
    assert films.attention.clean == films.attention.first == 3


def test_a_rollouts_first_chunk_is_made_in_as_many_steps_as_in_use(built: Path) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    draw = torch.Generator().manual_seed(0)
    streaming = replace(STREAMING, steps=2, opening=3)
    films = Rollout(denoiser.transformer, streaming, (8, 9, 16), 2, draw)
    counts = []
    for _ in range(3):
        counts.append((len(films.schedule.levels), len(films.noises())))
        films.append(films.sample(torch.randn(2, 48, 16, generator=draw)))
    assert counts == [(3, 3), (2, 2), (2, 2)]


def test_a_chunk_is_sampled_from_its_noises_and_level_by_level(built: Path) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    streaming = replace(STREAMING, opening=None)
    draw = torch.Generator().manual_seed(0)
    films = Rollout(denoiser.transformer, streaming, (8, 9, 16), 2, draw)
    noises, embeddings = films.noises(), torch.randn(2, 48, 16, generator=draw)
    given = (films.context.bfloat16(), noises, embeddings, films.attention)
    latents, inputs = sample_chunk(films.flow, films.schedule, *given)
    assert torch.equal(inputs[0], noises[0])
    levels = films.schedule.levels
    for index, sigma in enumerate(levels):
        steps = torch.full((2, 2), 1000 * sigma)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            flow = films.flow(given[0], inputs[index], steps, embeddings, films.attention)
        clean = inputs[index] - sigma * flow.float()
        if index + 1 < len(levels):
            then = torch.lerp(clean, noises[index + 1], levels[index + 1])
            torch.testing.assert_close(inputs[index + 1], then)
    torch.testing.assert_close(latents, clean)


def test_guidance_leads_away_from_nothing_or_from_what_was_told_before() -> None:
    stories = [["a red ball"], ["a red ball", "it turns blue", "night falls"]] * 50
    told, away = told_and_not(stories, random.Random(0))
    assert told == stories
    assert all(each == [""] for each in away[::2])
    assert 10 < away[1::2].count([""]) < 40
    assert away[1::2].count(["a red ball", "it turns blue"]) == 50 - away[1::2].count([""])


def test_films_are_rolled_out_with_a_switch_now_and_then() -> None:
    films = tune.Films(3, 30, STREAMING, 0)
    fewest, most = tune.PAUSE
    lengths, switches, words = [], list[list[int]](), torch.empty(0)
    for _ in range(600):
        ids, _ = films.advance()
        if films.chunk == 1:
            lengths.append(films.length)
            switches.append([])
        elif not torch.equal(ids, words):
            switches[-1].append(films.chunk - 1)
        words = ids
    assert min(lengths) >= 5
    assert max(lengths) <= 30
    assert len(set(lengths)) > 10
    assert {film[0] for film in switches if film} <= set(range(1, most + 1))
    pauses = {after - before for film in switches for before, after in pairwise(film)}
    assert {fewest, most} <= pauses <= set(range(fewest, most + 1))


def test_a_student_is_tuned_on_its_own_films(built: Path, tmp_path: Path) -> None:
    folder = str(built / "generator")
    options = ["--steps", "8", "--no-compile", "--device", "cpu", "--batch", "2", "--solver", "2"]
    options += ["--init", folder, "--teacher", folder, "--out", str(tmp_path), "--longest", "5"]
    tune.train(tune.parser().parse_args(options))
    student, teacher = (
        load_file(each / "model.safetensors") for each in (tmp_path, built / "generator")
    )
    assert any(not torch.equal(value, teacher[key]) for key, value in student.items())
    chunks = [json.loads(line)["chunk"] for line in (tmp_path / "log.jsonl").open()]
    assert chunks == [1, 2, 3]
