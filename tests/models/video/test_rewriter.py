"""A film's prompts rewritten to one for the whole scene."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from longtake.models.folder import read_json, write_json
from longtake.models.video.load import load_generator
from longtake.models.video.rewriter import FILE, PromptRewriter, load_rewriter
from longtake.models.video.text_setting import TextSetting
from longtake.streaming import Event, StreamError
from longtake.training.dataset import CHANGE, SCENE
from longtake.training.lexicon import lexicon
from longtake.training.prompts import build_tokenizer, story
from longtake.training.valley.captions import values_of
from longtake.training.valley.script import CHANGES
from longtake.training.valley.world import HIDDEN, draw_change, sample_scenes

LEXICON = lexicon()
BALL = "a small red ball bounces on the grass with a blue tree"
SEEN = "a small red ball bounces on the grass with a blue tree in the background"
BOAT = "a white boat sails on the lake"
DUCKS = "a duck with a red duck behind it"


@pytest.fixture(scope="module")
def rewriter():
    return PromptRewriter(LEXICON)


@pytest.mark.parametrize(
    ("prompts", "whole"),
    [
        # Scenes, as sentences and as lists, in any case and punctuation.
        (["a small red ball bounces on the lawn"], "a small red ball bounces on the grass"),
        (["A Small, RED ball... bounces on the lawn!"], "a small red ball bounces on the grass"),
        (["red ball, grass, night, bouncing"], "a red ball bounces on the grass, at night"),
        (["red ball grass night bouncing"], "a red ball bounces on the grass, at night"),
        (["a green car drives on the water at night, a yellow duck in the background"],
         "a green car rolls on the water with a yellow duck in the background, at night"),
        (["with a pink star there is a slow car"], "a slow car with a pink star in the background"),
        (["a duck and a duck at dusk"], "a duck with a duck in the background, at sunset"),
        (["duck, house, snow"], "a duck with a house in the background, while it snows"),
        (["a bird in front of a tree"], "a bird with a tree in the background"),
        (["a rubber duck jumps slowly up and down"], "a duck bounces slowly"),
        (["on a foggy night, a boat rests in the snow"],
         "a boat rests on the snow, at night in the fog"),
        (["a star under the stars"], "a star, at night under a clear sky"),
        (["a fast ball rests"], "a ball rests"),
        (["slowly moving on the sand, a car"], "a car rolls slowly on the sand"),
        (["a red duck on its own"], "a red duck alone"),
        (["it is snowing. a yellow rocket flies in circles"],
         "a yellow rocket circles, while it snows"),
        (["it is a sunny day and a red ball bounces"],
         "a red ball bounces, by day under a clear sky"),
        (["a meadow with a red house"], "a red house on the grass"),
        (["a meadow with a red house", "a ball bounces"],
         "a ball bounces on the grass with a red house in the background"),
        (["a bird flies over the sea while the camera pans right"],
         "a bird circles on the water, the camera pans right"),
        (["the camera moves left as a ball bounces"], "a ball bounces, the camera pans left"),
        (["a duck on the ocean at dawn"], "a duck on the water, at sunset"),
        (["a stormy night, a tree in the park"], "a tree on the grass, at night in the rain"),
        # Changes.
        ([BALL, "now it is night"], f"{SEEN}, at night"),
        ([BALL, "it’s snowing, and it’s a car now"],  # noqa: RUF001
         SEEN.replace("ball", "car") + ", while it snows"),
        ([BALL, "suddenly, let it snow"], f"{SEEN}, while it snows"),
        ([BALL, "slowly night falls"], f"{SEEN}, at night"),
        ([f"{BALL} in the rain", "the sky clears"], f"{SEEN}, under a clear sky"),
        ([f"{BALL} in the rain", "no more rain"], f"{SEEN}, under a clear sky"),
        ([f"{BALL} at night in the mist", "stop the fog"], f"{SEEN}, at night under a clear sky"),
        ([BALL, "the camera moves slowly to the left"], f"{SEEN}, the camera pans left"),
        ([f"{BALL}, panning left", "stop the camera"], f"{SEEN}, the camera is still"),
        ([BALL, "move it to the beach"], SEEN.replace("grass", "sand")),
        ([BALL, "snow covers the ground, it snows"],
         f"{SEEN.replace('grass', 'snow')}, while it snows"),
        ([BOAT, "make the boat green"], "a green boat rolls on the water"),
        ([BOAT, "it turns orange"], "an orange boat rolls on the water"),
        ([BOAT, "the boat turns into a car"], "a white car rolls on the water"),
        ([BOAT, "make it a big red house"], "a big red house rolls on the water"),
        ([BOAT, "turn into a car"], "a white car rolls on the water"),
        ([BOAT, "it is now a car"], "a white car rolls on the water"),
        ([BOAT, "it is raining and it gets dark"],
         "a white boat rolls on the water, at night in the rain"),
        ([BOAT, "it bounces next to a tree"],
         "a white boat bounces on the water with a tree in the background"),
        ([BOAT, "sunrise"], "a white boat rolls on the water, by day"),
        ([BOAT, "replace the boat with a cube"], "a white cube rolls on the water"),
        ([BOAT, "faster"], "a white boat rolls fast on the water"),
        ([BOAT, "slow it down"], "a white boat rolls slowly on the water"),
        ([BOAT, "slow the boat down"], "a white boat rolls slowly on the water"),
        ([BOAT, "stop"], "a white boat rests on the water"),
        ([BOAT, "it stops sailing and shrinks"], "a small white boat rests on the water"),
        ([BOAT, "bigger, blue"], "a big blue boat rolls on the water"),
        ([BOAT, "it flies away"], "a white boat flies away and back on the water"),
        # The companion.
        ([f"{BOAT} with a duck", "remove the duck"], "a white boat rolls on the water alone"),
        ([f"{BOAT} with a duck", "the duck goes away"], "a white boat rolls on the water alone"),
        ([BOAT, "no duck"], "a white boat rolls on the water alone"),
        ([BOAT, "remove the boat"], "a white boat rolls on the water"),
        ([BOAT, "add a red tree in the background"],
         "a white boat rolls on the water with a red tree in the background"),
        ([BOAT, "a duck appears"], "a white boat rolls on the water with a duck in the background"),
        ([BOAT, "a car appears"], "a white boat rolls on the water"),
        ([BALL, "make the tree green"], SEEN.replace("blue", "green")),
        ([BALL, "make the tree bigger"], SEEN),
        ([BALL, "the tree turns pink and the ball turns white"],
         SEEN.replace("blue", "pink").replace("red", "white")),
        ([BALL, "make the ball pink and the tree white"],
         SEEN.replace("red", "pink").replace("blue", "white")),
        ([BALL, "replace the tree with a house"], SEEN.replace("tree", "house")),
        ([BALL, "add a star and make it yellow"], SEEN.replace("blue tree", "yellow star")),
        ([BALL, "remove the tree", "add a house"],
         "a small red ball bounces on the grass with a house in the background"),
        *(([BALL, "remove the tree", back], SEEN.replace("blue ", ""))
          for back in ("bring the tree back", "the tree comes back", "a tree returns")),
        # What has no motion is not told of as if it had, nor taken for what has.
        ([BALL, "the tree moves"], SEEN),
        ([BALL, "the tree rolls fast"], SEEN),
        ([BALL, "add a house and make it roll"], SEEN.replace("tree", "house")),
        ([BALL, "paint the tree pink and roll"],
         SEEN.replace("blue", "pink").replace("bounces", "rolls")),
        # Of two at once, and of one twice.
        ([BALL, "the tree and the ball turn green"],
         SEEN.replace("blue", "green").replace("red", "green")),
        ([BALL, "make the ball and the tree pink"],
         SEEN.replace("red", "pink").replace("blue", "pink")),
        *(([BALL, both], SEEN.replace("red", "green").replace("blue", "green"))
          for both in ("both turn green", "everything turns green", "make them green",
                       "both the ball and the tree are green")),
        ([BALL, "they shrink and roll"], SEEN.replace("bounces", "rolls")),
        ([BALL, "remove the tree", "both turn green"],
         "a small green ball bounces on the grass alone"),
        ([BALL, "the tree and the ball roll"], SEEN.replace("bounces", "rolls")),
        ([BALL, "the tree grows and turns pink"], SEEN.replace("blue", "pink")),
        ([BALL, "the tree turns pink and it snows"],
         f"{SEEN.replace('blue', 'pink')}, while it snows"),
        ([BALL, "replace everything with a pink fish"], SEEN.replace("red ball", "pink fish")),
        # What is said of the scenery is of neither.
        *(([BALL, said], SEEN) for said in (
            "the grass turns green", "make the sky green", "the background moves",
            "the grass grows", "the sun grows", "the grass stops")),
        ([BALL, "the sky turns red"], f"{SEEN}, at sunset"),
        ([BALL, "turn green on the sand"],
         SEEN.replace("red", "green").replace("the grass", "the sand")),
        # A noun alone is what is there already, "a" noun is another.
        ([BALL, "pink tree"], SEEN.replace("blue", "pink")),
        ([BALL, "a pink cube"], SEEN.replace("red ball", "pink cube")),
        # Which way a thing goes is not the camera's.
        *(([BALL, way], SEEN) for way in (
            "push the ball to the right", "move it left", "move the tree left")),
        ([BALL, "the ball rolls to the right"], SEEN.replace("bounces", "rolls")),
        ([BALL, "it moves to the left and the camera pans right"],
         f"{SEEN.replace('bounces', 'rolls')}, the camera pans right"),
        ([BALL, "move to the left"], f"{SEEN}, the camera pans left"),
        # Two of a kind, and what pronouns are for.
        ([DUCKS, "the other duck turns blue"], "a duck with a blue duck in the background"),
        ([DUCKS, "make the duck blue"], "a blue duck with a red duck in the background"),
        ([DUCKS, "remove the other one"], "a duck alone"),
        ([DUCKS, "the duck becomes a star, then it turns green"],
         "a green star with a red duck in the background"),
        ([DUCKS, "the other one becomes a tree", "it rolls"],
         "a duck rolls with a red tree in the background"),
        # Several in a row; a later scene leaves what it does not name.
        ([BALL, "night falls", "it snows", "the ball turns into a fish", "make it pink"],
         f"{SEEN.replace('red ball', 'pink fish')}, at night while it snows"),
        ([BALL, "it stops", "faster", "it rolls"], SEEN.replace("bounces", "rolls fast")),
        ([f"{BALL} at night", "a big green cube by day"],
         f"{SEEN.replace('small red ball', 'big green cube')}, by day"),
        (["night falls", "a ball"], "a ball, at night"),
        (["add a red ball"], "a red ball"),
        # What is not understood.
        ([BALL, "a philosophical mood"], SEEN),
        ([BALL, ", , ,"], SEEN),
        ([BALL, "..."], SEEN),
        (["Something ELSE", "quite, Else "], "quite, Else "),
        ([", ,"], ", ,"),
        (["", "a ball"], "a ball"),
    ],
)  # fmt: skip
def test_prompts_become_one(prompts, whole, rewriter):
    assert rewriter(prompts) == whole
    assert rewriter([rewriter(prompts)]) == whole


@pytest.mark.parametrize("style", [SCENE, CHANGE])
def test_the_films_of_training_are_understood(style, rewriter):
    generator, rng = torch.Generator().manual_seed(style), random.Random(style)
    words = set(build_tokenizer().get_vocab())
    told_of, right, invented = 0, 0, []
    for _ in range(200):
        scenes = [sample_scenes(1, generator)]
        for _ in range(rng.randrange(4)):
            scenes.append(draw_change(scenes[-1], CHANGES, generator))
        rows = [scene.attributes[0].tolist() for scene in scenes]
        prompts, told = story(rows, style, rng)
        state, truth = rewriter.fold(prompts), values_of(rows[-1])
        # What a film hid for a while may have changed without a word.
        hidden = {
            name
            for name, (other, value) in HIDDEN.items()
            if any(values_of(row)[other] == value for row in rows)
        }
        told_of += len(told - hidden)
        right += sum(state.get(name) == truth[name] for name in told - hidden)
        invented += [
            (prompts, name)
            for name, value in state.items()
            if name not in hidden and value != truth[name]
        ]
        whole = rewriter(prompts)
        assert rewriter([whole]) == whole
        assert rewriter.fold([whole]) == state
        assert set(whole.replace(",", " , ").split()) <= words
    assert right >= 0.99 * told_of, invented
    assert len(invented) <= 0.01 * told_of, invented


def test_every_word_that_can_be_said_is_known():
    words = set(build_tokenizer().get_vocab())
    said = [value.say for values in LEXICON.attributes.values() for value in values.values()]
    said += [LEXICON.beside.format(new="an a"), *LEXICON.attributes["speed"]]
    assert set(" ".join(said).split()) <= words


def test_the_bundled_models_is_written_from_these_words():
    bundled = load_rewriter(Path(__file__).parents[3] / "weights" / "valley")
    assert bundled is not None
    assert bundled.lexicon == LEXICON


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A model folder that has a rewriter."""
    copy = shutil.copytree(tiny_model, tmp_path / "model")
    write_json(copy / FILE, asdict(LEXICON))
    write_json(copy / "streaming.json", read_json(copy / "streaming.json") | {"prompts": 3})
    return copy


def load(path, text=None):
    return load_generator(path, torch.device("cpu"), torch.float32, text=text)


def test_a_folder_has_the_rewriter_of_its_file(folder, tiny_model, rewriter):
    prompts = ["a red ball on grass", "it snows"]
    whole = rewriter(prompts)
    expected = load(tiny_model).text_encoder([whole])
    for text in (None, TextSetting(offload="text")):
        encoder = load(folder, text).text_encoder
        # What is offloaded reads without padding.
        torch.testing.assert_close(encoder(prompts), expected)
        assert encoder.tokens("a red  ball") == load(tiny_model).text_encoder.tokens("a red ball")
    assert load(tiny_model).text_encoder.rewriter is None
    assert not torch.equal(load(tiny_model).text_encoder(prompts), expected)


def test_a_film_keeps_prompts_as_typed_and_goes_on_from_what_was_saved(folder):
    generator = load(folder)
    state = generator.open("A red ball, on grass!", 3)
    for prompt in ("make it blue", "it snows", "night falls"):
        generator.apply(state, Event("prompt", prompt))
    # Only so many are kept as the folder says, and what the oldest two say together.
    assert state.prompts == ("a blue ball on the grass", "it snows", "night falls")
    again = load(folder).load(*generator.save(state))
    assert again.prompts == state.prompts
    whole = load(folder).open("a blue ball on grass, night, it snows", 3)
    assert torch.equal(state.embeddings, whole.embeddings)
    assert torch.equal(again.embeddings, whole.embeddings)


@pytest.fixture
def drawn(rewriter):
    """What is read of a ball on grass with some seeds, as states."""

    def fold(*prompts):
        told = ["a ball on grass", *prompts]
        return [rewriter.fold([rewriter(told, seed)]) for seed in range(99)]

    return fold


def test_what_no_prompt_tells_of_is_drawn_by_the_seed(drawn, rewriter):
    states = drawn()
    assert states == drawn()
    for state in states:
        assert (state["shape"], state["ground"]) == ("ball", "grass")
        hidden = {name for name, (other, value) in HIDDEN.items() if state[other] == value}
        assert state.keys() == LEXICON.attributes.keys() - hidden
    for name, values in LEXICON.attributes.items():
        shares = Counter(state.get(name) for state in states)
        if name not in {"shape", "ground"}:
            assert values.keys() <= shares.keys()
        if name in LEXICON.usual:
            assert shares[LEXICON.usual[name]] > 40
    # Nothing else, where nothing is understood; and nothing at all where a folder does not say so.
    assert rewriter(["quite, Else "], 5) == rewriter.say(rewriter.draw(5))
    silent = PromptRewriter(replace(LEXICON, usual={}))
    assert silent(["a ball"], 5) == "a ball"


def test_what_is_drawn_stays_whatever_is_told(drawn):
    for before, after in zip(drawn(), drawn("a red star", "night falls"), strict=True):
        told = {"shape": "star", "colour": "red", "time": "night"}
        assert after == before | told


def test_a_film_is_read_with_what_its_seed_draws_unless_pictures_begin_it(folder):
    generator = load(folder)
    rewriter, encoder = generator.text_encoder.rewriter, generator.text_encoder

    def text(prompts, draws):
        assert generator.reads(prompts, draws) == rewriter(prompts, draws)
        return encoder([rewriter(prompts, draws)])

    for seed in (1, 2):
        state = generator.open("a ball", seed)
        torch.testing.assert_close(state.embeddings, text(["a ball"], seed))
        generator.apply(state, Event("prompt", "it snows"))
        torch.testing.assert_close(state.embeddings, text(["a ball", "it snows"], seed))
        tensors, values = generator.save(state)
        torch.testing.assert_close(load(folder).load(tensors, values).embeddings, state.embeddings)
        # One that was saved when nothing was drawn goes on as it was.
        del values["draws"]
        told = text(["a ball", "it snows"], None)
        torch.testing.assert_close(load(folder).load(tensors, values).embeddings, told)
    frames = generator.start_frames(1)
    size = (generator.config.height, generator.config.width, 3)
    state = generator.open("a ball", 1)
    generator.begin_with(state, torch.zeros(frames, *size, dtype=torch.uint8))
    torch.testing.assert_close(state.embeddings, text(["a ball"], None))
    torch.testing.assert_close(state.text, generator.transformer.encode_text(state.embeddings))


def without(data, *keys):
    for key in keys[:-1]:
        data = data[key]
    del data[keys[-1]]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: without(data, "order"), "order"),
        (lambda data: data.update(order="{thing} {verb}"), "order"),
        (lambda data: data.update(beside="with {"), "beside"),
        (lambda data: data.update(more=1), "more"),
        (lambda data: data.update(words=[1]), "words"),
        (lambda data: without(data, "words", "it"), "words"),
        (lambda data: without(data, "attributes", "size"), "attributes"),
        (lambda data: without(data, "attributes", "time", "day", "say"), "attributes.time.day.say"),
        (lambda data: without(data, "attributes", "time", "day"), "time is never day"),
        (lambda data: without(data, "attributes", "companion", "none"), "companion is never none"),
        (lambda data: without(data, "attributes", "companion_colour", "red"), "is never red"),
        (lambda data: data["usual"].update(time="noon"), "usual: time is never noon"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(spoil, said, folder):
    data = read_json(folder / FILE)
    spoil(data)
    write_json(folder / FILE, data)
    check_refused(folder, said)


@pytest.mark.parametrize("text", ["", "[]", '{"order": '])
def test_a_file_that_is_no_json_is_refused_in_one_sentence(text, folder):
    (folder / FILE).write_text(text)
    check_refused(folder, FILE)


def check_refused(folder, said):
    with pytest.raises(StreamError) as caught:
        load(folder)
    assert caught.value.code == "bad_model"
    assert said in caught.value.message
    assert FILE in caught.value.message
    assert "\n" not in str(caught.value)
