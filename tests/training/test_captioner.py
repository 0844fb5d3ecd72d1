"""The captioner's stage as a toy, and what it hands to the model."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from longtake.models.vlm.load import load_captioner
from longtake.models.vlm.turns import Grid
from longtake.streaming import Event, InputFrame
from longtake.training import captioner, witness
from longtake.training.caption_metrics import speak
from longtake.training.chunks import ECHOES, collate
from longtake.training.clips import draw_clips
from longtake.training.package_captioner import package_captioner
from longtake.training.pictures import draw_bank
from longtake.training.stories import LONG_AFTER, OPENING, Story, opening, sentences, whole
from longtake.training.valley.hearing import Listener
from longtake.training.valley.narration import Said
from longtake.training.valley.questions import ABOUT_PAST
from longtake.training.vision import see
from longtake.training.witness import (
    build_captioner,
    frame_processor,
    make_tokenizer,
    read_description,
)

TOY = Path(__file__).parents[1] / "toy_captioner.json"
BUNDLED = Path(captioner.__file__).with_name("captioner.json")
# A step of each kind.
OPTIONS = ["--steps", "3", "--batch", "2", "--sets", "1", "--set-size", "4", "--pictures", "3"]
OPTIONS += ["--device", "cpu", "--no-compile", "--config", str(TOY), "--reuse", "1"]
Stage = Callable[..., None]


@pytest.fixture(scope="module")
def stage() -> Stage:
    def run(out: Path, *more: str) -> None:
        captioner.train(captioner.parser().parse_args([*OPTIONS, "--out", str(out), *more]))

    return run


@pytest.fixture(scope="module")
def trained(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner")
    stage(folder)
    return folder


@pytest.fixture(scope="module")
def batches() -> captioner.Chunks:
    return chunks_with("--reuse", "0.2")


def chunks_with(*more: str) -> captioner.Chunks:
    described = read_description(TOY)
    options = captioner.parser().parse_args([*OPTIONS, "--out", "unused", *more])
    bank = draw_bank(3, torch.Generator().manual_seed(0))
    tokenizer = make_tokenizer(described)
    return captioner.make_batches(options, described, tokenizer, bank, frame_processor(described))


def test_resumed_it_ends_with_the_same_weights(trained: Path, stage: Stage, tmp_path: Path) -> None:
    stage(tmp_path, "--pause", "1")
    stage(tmp_path, "--resume")
    straight, resumed = (load_file(path / "model.safetensors") for path in (trained, tmp_path))
    assert straight.keys() == resumed.keys()
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()]
    assert steps == [1, 2, 3]


def test_an_opening_has_nothing_before_it_or_is_asked_about_that() -> None:
    bank = draw_bank(3, torch.Generator().manual_seed(0))
    clips = draw_clips(8, 0, 0, len(bank))
    place = int(clips.starts.argmax())
    first = int(clips.starts[place])
    assert first
    stories = [opening(clips, place, 2, bank, random.Random(i)) for i in range(60)]
    recalled = [each for each in stories if each.history]
    assert 30 < len(recalled) < 55
    assert all(each.start == len(each.history) == first + 2 for each in recalled)
    assert all(not each.start for each in stories if not each.history)
    assert all(len(each.said) == OPENING for each in stories)
    kinds = {said.asked.kind for each in recalled for said in each.said if said.asked}
    assert kinds
    assert kinds <= set(ABOUT_PAST)


def test_a_whole_clip_is_asked_late_what_was_before_it_or_of_anything() -> None:
    bank = draw_bank(3, torch.Generator().manual_seed(0))
    clips = draw_clips(64, 0, 0, len(bank))
    begun = [place for place, start in enumerate(clips.starts.tolist()) if start]
    stories = [whole(clips, place, bank, random.Random(place)) for place in begun]
    recalled = 0
    for story in stories:
        asked = {k: said.asked.kind for k, said in enumerate(story.said) if said.asked}
        if asked and set(asked.values()) <= set(ABOUT_PAST):
            recalled += 1
            assert min(asked) >= LONG_AFTER
            answers = [said.words for said in story.said if said.asked]
            assert len(answers) == len(set(answers))
    assert recalled > len(begun) / 4


def test_its_folder_is_read_by_the_application_and_by_transformers(trained: Path) -> None:
    loaded = load_captioner(trained, torch.device("cpu"), torch.float32)
    assert loaded.settings.fps == 2
    tokenizer = AutoTokenizer.from_pretrained(trained)
    text = "Is there a dinosaur, or a größeres Tier?"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_batched_encoder_is_transformers_own() -> None:
    described = read_description(BUNDLED)
    model = build_captioner(described, make_tokenizer(described))
    processor = frame_processor(described)
    frames = torch.randint(256, (8, 160, 224, 3), dtype=torch.uint8)
    patches, grid = processor.patches(frames), torch.tensor([[4, 10, 14]])
    with torch.no_grad():
        wanted = model.model.visual(patches, grid_thw=grid).pooler_output
        torch.testing.assert_close(see(model.model.visual, patches, 10, 14), wanted)


def test_what_is_learned_is_what_the_assistant_says(batches: captioner.Chunks) -> None:
    tokenizer = batches.writer.template.tokenizer
    example = batches[0]
    flat = example.ids.flatten()
    text = tokenizer.decode(flat[example.said].tolist(), skip_special_tokens=False)
    rounds = text.split(" ...<|im_end|>")
    assert len(rounds) == 2 * 24 + 1
    assert not any("|" in words or "Time" in words for words in rounds)
    assert any(words.endswith(".") for words in rounds)
    before = tokenizer.decode([int(flat[example.said[0] - 1])])
    assert before == "\n"
    assert (flat[example.vision] == batches.writer.template.vision).all()
    # 24 seconds of one group of 1x2 tokens in each of two clips.
    assert len(example.vision) == 2 * 24 * 2


def test_how_the_previous_text_goes_on_is_learned_but_across_the_cut(
    batches: captioner.Chunks,
) -> None:
    writer = batches.writer
    template, settings = writer.template, writer.settings
    words = ["A small red ball on the sand alone, on a sunny day.", "It starts to snow."]
    said = [Said("", {})]
    story = Story(said, words, 2)
    grid = Grid(batches.groups, 1, 2)
    example = writer.example(story, grid)
    told = [token for each in words for token in template.encode(each)]
    assert example.ids[example.told].tolist() == told
    assert not set(example.told.tolist()) & set(example.said.tolist())
    assert not len(writer.example(Story(said, (), 0), grid).told)

    long = Story(said, words * 20, 40)
    kept = writer._cut(told * 20)
    example = writer.example(long, grid)
    after = settings.text_sink
    assert example.ids[example.told].tolist() == kept[:after] + kept[after + 1 :]


def test_an_echo_says_everything_twice(batches: captioner.Chunks) -> None:
    writer, rng = batches.writer, random.Random(0)
    template, most = writer.template, writer.settings.text_sink + writer.settings.text_window
    drawn = draw_clips(8, 0, 0, 3)
    for number in range(30):
        told = [sentence for sentence, _ in zip(sentences(drawn, rng), range(9), strict=False)]
        assert all(listened(sentence) for sentence in told)
        example = writer.echo(iter(told), random.Random(number))
        assert not len(example.vision)
        assert not len(example.said)
        again = example.ids[example.told].tolist()
        first = example.ids[example.told - len(again)].tolist()
        assert len(first) == len(again) <= max(most // 2, len(template.encode(told[0])))
        assert sorted(first) == sorted(again)
        assert "".join(told).startswith(template.tokenizer.decode(first))
    batch = batches[2]
    assert (batch.seconds, len(batch.vision), len(batch.ids)) == (0, 0, 2 * ECHOES)


def listened(sentence: str) -> bool:
    """Whether it means something to who marks captions."""
    listener = Listener()
    return bool(listener.hear(sentence)) and not listener.lost


def test_padding_changes_nothing_that_is_learned(batches: captioner.Chunks) -> None:
    """Nor do the other clips of a batch: each one alone gives the same logits."""
    described = read_description(TOY)
    processor = frame_processor(described)
    model = build_captioner(described, batches.writer.template.tokenizer).eval()
    batch = next(batch for batch in map(batches.__getitem__, range(0, 30, 3)) if _padded(batch.ids))
    frames = torch.randint(256, (2 * 48, *batch.size, 3), dtype=torch.uint8)
    with torch.no_grad():
        both = logits_of(model, batch, processor.patches(frames))
        for row in range(2):
            start, width = row * batch.ids.shape[1], batch.ids.shape[1]
            mine = (batch.said >= start) & (batch.said < start + width)
            alone = _alone(batch, row)
            patches = processor.patches(frames[48 * row : 48 * (row + 1)])
            single = logits_of(model, alone, patches)
            torch.testing.assert_close(both[mine], single, atol=1e-5, rtol=1e-4)


def logits_of(model: Any, batch: captioner.ChunkBatch, patches: torch.Tensor) -> torch.Tensor:
    last, _ = captioner.read(captioner.Learner(model), batch, patches)
    logits: torch.Tensor = model.lm_head(last[batch.said - 1])
    return logits


def _padded(ids: torch.Tensor) -> bool:
    return bool((ids[:, -1] == 0).any())


def _alone(batch: captioner.ChunkBatch, row: int) -> captioner.ChunkBatch:
    width = batch.ids.shape[1]
    length = int((batch.ids[row] != 0).nonzero().max()) + 1

    def mine(places: torch.Tensor) -> torch.Tensor:
        inside = (places >= row * width) & (places < (row + 1) * width)
        return places[inside] - row * width

    return captioner.ChunkBatch(
        batch.ids[row : row + 1, :length],
        batch.positions[:, row : row + 1, :length],
        mine(batch.vision),
        mine(batch.said),
        mine(batch.told),
        mine(batch.starts),
        batch.scenes[row : row + 1],
        batch.numbers[row : row + 1],
        batch.places[row : row + 1],
        batch.firsts[row : row + 1],
        batch.seconds,
        batch.size,
    )


def test_steps_may_be_of_one_kind(batches: captioner.Chunks) -> None:
    chunks = chunks_with("--kinds", "echoes")
    assert [chunks[step].seconds for step in range(3)] == [0, 0, 0]
    assert [batches[step].seconds for step in range(3)] == [24, OPENING, 0]


def test_batches_and_clips_are_made_from_their_numbers_alone(batches: captioner.Chunks) -> None:
    first, again, other = batches[3], batches[3], batches[5]
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.places, again.places)
    assert not torch.equal(first.places, other.places)
    # A set is used for a step here, and then gives way.
    assert batches[0].numbers.tolist() == [0, 0]
    assert set(batches[1].numbers.tolist()) == {1}


def test_everything_that_is_seen_and_said_is_trained(trained: Path) -> None:
    described = read_description(TOY)
    torch.manual_seed(0)
    begun = build_captioner(described, make_tokenizer(described)).state_dict()
    model, _ = witness.load_captioner(trained)
    for name, value in model.state_dict().items():
        assert not torch.equal(value, begun[name]), name


def test_training_shows_what_streaming_remembers(trained: Path, batches: captioner.Chunks) -> None:
    """Word for word and position for position, long after the first words were forgotten."""
    watcher = load_captioner(trained, torch.device("cpu"), torch.float32)
    drawn = draw_clips(4, 0, 0, 3)
    story = next(
        story
        for place in range(3)
        for story in (whole(drawn, place, batches.bank, random.Random(k)) for k in range(99))
        if not story.history and any(said.asked for said in story.said)
    )
    template, script = watcher.template, [said.words for said in story.said]
    state, chosen = watcher.open("", 0), iter(())

    def choose(*_: object) -> int:
        return next(chosen)

    watcher._choose = choose
    pixels = torch.randint(256, (24, 2, 32, 64, 3), dtype=torch.uint8)
    for second, said in enumerate(story.said):
        if said.asked:
            watcher.apply(state, Event("ask", said.asked.question))
        for index, frame in enumerate(pixels[second]):
            watcher.apply(state, InputFrame(second + index / 2, frame))
        chosen = iter([*template.encode(script[second]), template.silence])
        assert speak(watcher, state) == script[second]
    kept = len(state.context.turns)
    assert kept == 8
    left = Story(story.said[-kept:], script[:-kept], 24 - kept)
    example = batches.writer.example(left, state.context.turns[0].grid)
    assert example.ids.tolist() == state.context.ids()
    assert torch.equal(example.positions, state.context.positions().float())


def test_a_chunk_gives_the_logits_that_streaming_gives(
    trained: Path, batches: captioner.Chunks
) -> None:
    watcher = load_captioner(trained, torch.device("cpu"), torch.float32)
    model, _ = witness.load_captioner(trained)
    words = ["A small red ball on the sand alone, on a sunny day.", "", "The camera stops."]
    pixels = torch.randint(256, (3, 2, 32, 64, 3), dtype=torch.uint8)
    state, template, logits = watcher.open("", 0), watcher.template, []
    chosen = iter([t for text in words for t in [*template.encode(text), template.silence]])

    def choose(_state: object, found: torch.Tensor, *_rest: object) -> int:
        logits.append(found)
        return next(chosen)

    watcher._choose = choose
    for second in range(3):
        for index, frame in enumerate(pixels[second]):
            watcher.apply(state, InputFrame(second + index / 2, frame))
        assert speak(watcher, state) == words[second]
    story = Story([Said(text, {}) for text in words], (), 0)
    example = batches.writer.example(story, state.context.turns[0].grid)
    batch = collate([example], [(0, 0, 0)], 3, (32, 64))
    patches = watcher.processor.patches(pixels.flatten(0, 1))
    with torch.no_grad():
        learned = logits_of(model, batch, patches)
    # The end of a turn is learned as well, but nobody has to choose it.
    free = batch.ids.flatten()[batch.said] != template.end
    torch.testing.assert_close(learned[free], torch.stack(logits), atol=1e-4, rtol=1e-4)


def test_an_example_cuts_old_words_as_streaming_does(batches: captioner.Chunks) -> None:
    writer = batches.writer
    text = list(range(300, 420))
    kept = writer._cut(text)
    assert kept == text[:16] + text[-48:]
    assert writer._cut(text[:64]) == text[:64]


def test_the_bundled_sizes_stay_below_ten_megabytes() -> None:
    described = read_description(BUNDLED)
    model = build_captioner(described, make_tokenizer(described))
    assert 2 * captioner.count(model)["all"] < 9_500_000


def test_it_is_packaged_in_bfloat16_with_its_card(trained: Path, tmp_path: Path) -> None:
    package_captioner(trained, TOY, tmp_path)
    folder = tmp_path / "witness"
    weights = load_file(folder / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert "Qwen2.5-VL" in (folder / "README.md").read_text()
    assert "witness/model.safetensors" in (tmp_path / "SHA256SUMS").read_text()
    assert load_captioner(folder, torch.device("cpu"), torch.float32).settings.temperature == 0
