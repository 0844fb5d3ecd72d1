"""What the captioner says, remembers and forgets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from longtake.models.vlm.positions import text_positions
from longtake.models.vlm.settings import MAX_TEXT
from longtake.models.vlm.words import Words
from longtake.streaming import Event, InputFrame, StreamError

STRANGE = ["\nTime=3.0-4.0s", " é😀", "<|im_start|>user\n", "previous text\n", " ... but no", "née"]


def told(media):
    return "".join(words.text for words, _ in media)


def script(captioner, text):
    """Make the next rounds' words these, one text a round, each followed by silence."""
    template = captioner.template
    captioner.network.script = [
        token for words in text for token in (*template.encode(words), template.silence)
    ]


def test_words_come_piece_by_piece_and_the_last_piece_brings_the_time(captioner, video, watch):
    rounds = watch(captioner, captioner.open("", 1), video(4))
    for number, media in enumerate(rounds):
        pieces = [words for words, _ in media]
        assert all(isinstance(words, Words) and words.kind == "caption" for words in pieces)
        assert {(words.start, words.end) for words in pieces} == {(number, number + 1)}
        assert [words.final for words in pieces] == [False] * (len(media) - 1) + [True]
        assert [units for _, units in media] == [0] * (len(media) - 1) + [2]
        assert all(words.text for words in pieces[:-1])
        assert len(pieces) <= captioner.spec.burst
    assert max(map(len, rounds)) > 1


def test_silence_is_one_empty_piece(captioner, video, watch):
    script(captioner, ["", ""])
    rounds = watch(captioner, captioner.open("", 1), video(2))
    silence = [[(Words("", second, second + 1, "caption", True), 2)] for second in (0.0, 1.0)]
    assert rounds == silence


def test_pieces_joined_are_the_whole_text_whatever_it_holds(make_captioner, video, watch):
    captioner = make_captioner(round_tokens=60)
    # " ..." itself ends a round; nothing else does.
    texts = [text for text in STRANGE if " ..." not in text]
    script(captioner, texts)
    rounds = watch(captioner, captioner.open("", 1), video(len(texts)))
    assert [told(media) for media in rounds] == texts
    assert not any("\ufffd" in words.text for media in rounds for words, _ in media)


def test_what_is_cut_within_a_character_is_told_as_it_is(make_captioner, video, watch):
    captioner = make_captioner(round_tokens=2)
    script(captioner, ["😀"])
    (media, *_) = watch(captioner, captioner.open("", 1), video(1))
    assert told(media) == captioner.template.tokenizer.decode(captioner.template.encode("😀")[:2])


def test_words_that_look_like_the_chats_frame_are_forgotten_as_any(make_captioner, video, watch):
    captioner = make_captioner(round_tokens=60, text_sink=1000)
    texts = [text for text in STRANGE if " ..." not in text]
    script(captioner, texts + ["x"] * 4)
    state = captioner.open("", 1)
    watch(captioner, state, video(len(texts) + 4))
    old = captioner.template.tokenizer.decode(state.context.text)
    # Three seconds are watched still, and the last of them is yet to come.
    assert old == "".join(texts) + "x" * (4 - 3)
    assert [turn.start for turn in state.context.turns] == [len(texts) + n for n in (1, 2, 3)]


def test_the_told_clock_may_begin_anew_and_the_true_one_goes_on(make_captioner, video, watch):
    captioner = make_captioner(clock_seconds=2)
    state = captioner.open("", 1)
    rounds = watch(captioner, state, video(6))
    assert [media[-1][0].start for media in rounds] == list(range(6))
    turns = state.context.turns
    assert [turn.start for turn in turns] == [3, 4, 5]
    heads = [captioner.template.tokenizer.decode(turn.head) for turn in turns]
    for head, span in zip(heads, ["1.0-2.0", "0.0-1.0", "1.0-2.0"], strict=True):
        assert f"Time={span}s" in head
    plain = make_captioner()
    state = plain.open("", 1)
    watch(plain, state, video(6))
    assert "Time=5.0-6.0s" in plain.template.tokenizer.decode(state.context.turns[-1].head)


def test_of_old_words_the_first_and_the_newest_stay(captioner, video, watch):
    letters = [chr(ord("a") + n) for n in range(24)]
    script(captioner, letters)
    state = captioner.open("", 1)
    watch(captioner, state, video(24))
    moved = letters[:21]
    settings = captioner.settings
    kept = moved[: settings.text_sink] + moved[-settings.text_window :]
    assert captioner.template.tokenizer.decode(state.context.text) == "".join(kept)


def test_without_a_text_window_no_old_word_stays(make_captioner, video, watch):
    captioner = make_captioner(text_sink=0, text_window=0)
    state = captioner.open("", 1)
    watch(captioner, state, video(8))
    assert state.context.text == []
    assert state.context.moved > 0


@pytest.mark.parametrize("reread", [False, True])
def test_old_words_are_plain_text_where_they_are_read_again(make_captioner, video, watch, reread):
    captioner = make_captioner(reread=reread, text_sink=1000)
    state = captioner.open("", 1)
    watch(captioner, state, video(12))
    text = captioner.template.prompt("") + state.context.text
    assert len(state.context.text) > 20
    plain = captioner.network.cache()
    plain.reserve(len(text))
    with torch.inference_mode():
        captioner.network.read(text, text_positions(len(text)), plain)
    for mine, read in zip(state.cache.layers, plain.layers, strict=True):
        keys = torch.allclose(mine.keys[:, :, : len(text)], read.keys, atol=1e-3)
        values = torch.allclose(mine.values[:, :, : len(text)], read.values, atol=1e-3)
        # What the first layer makes of a token depends on nothing else.
        assert (keys and values) == (reread or mine is state.cache.layers[0])


def test_a_question_is_answered_once_in_its_second(captioner, video, watch):
    state = captioner.open("", 1)
    rounds = watch(captioner, state, video(6), {2: [Event("ask", "what bounces?")]})
    kinds = [{words.kind for words, _ in media} for media in rounds]
    assert kinds == [{"caption"}, {"caption"}, {"answer"}, *[{"caption"}] * 3]
    assert rounds[2][-1][0].final


def test_a_question_is_never_answered_with_silence(captioner, video, watch):
    # One round takes two of them: a word in place of silence, and the end.
    script(captioner, [""] * 4)
    rounds = watch(captioner, captioner.open("", 1), video(3), {1: [Event("ask", "what bounces")]})
    assert [bool(told(media)) for media in rounds] == [False, True, False]


def test_the_instruction_and_the_answer_stay_and_the_question_goes(make_captioner, video, watch):
    captioner = make_captioner(text_sink=1000)
    decode = captioner.template.tokenizer.decode
    script(captioner, ["a", " a ball", "b", "c", "d", "e", "f"])
    state = captioner.open("speak of balls", 1)
    watch(captioner, state, video(7), {1: [Event("ask", "what bounces?")]})
    told = decode(state.context.ids(), skip_special_tokens=False)
    assert "You are a helpful assistant.\nspeak of balls" in told
    assert "previous text\na a ballb" in told
    assert "what bounces?" not in told


def test_a_new_instruction_takes_the_place_of_the_old(captioner, video, watch):
    state = captioner.open("speak of balls", 1)
    watch(captioner, state, video(8), {6: [Event("prompt", "speak of snow, at length")]})
    told = captioner.template.tokenizer.decode(state.context.ids(), skip_special_tokens=False)
    assert told.startswith("<|im_start|>system\nYou are a helpful assistant.\nspeak of snow, at")
    assert "balls" not in told
    assert told.count("previous text") == 1


def test_an_instruction_before_the_first_round_is_as_if_opened_with(make_captioner, video, watch):
    first, second = make_captioner(), make_captioner()
    watch(first, first.open("speak of snow", 1), video(3))
    watch(second, second.open("", 1), video(3), {0: [Event("prompt", "speak of snow")]})
    for mine, theirs in zip(first.network.reads, second.network.reads, strict=True):
        assert mine[0] == theirs[0]
        assert torch.equal(mine[2], theirs[2])


def test_marks_that_people_type_are_ordinary_text(captioner, video, watch):
    state = captioner.open("<|im_end|>", 1)
    watch(captioner, state, video(1), {0: [Event("ask", "<|video_pad|><|im_start|>")]})
    template, ids = captioner.template, state.context.ids()
    assert ids.count(template.vision) == state.context.turns[0].grid.tokens
    assert ids.count(template.end) == 4  # system, previous text, user, assistant


def test_marks_are_never_said(make_captioner, video, watch):
    captioner = make_captioner(temperature=2.0)
    state = captioner.open("", 1)
    watch(captioner, state, video(30))
    said = [token for turn in state.context.turns for token in turn.words] + state.context.text
    marks = captioner.template.tokenizer.get_added_tokens_decoder()
    assert len(said) > 20
    assert not set(said) & set(marks)


def test_sampling_depends_on_the_seed_alone(make_captioner, video, watch):
    captioner = make_captioner(temperature=1.5, top_k=20)
    runs = [watch(captioner, captioner.open("", seed), video(5)) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_temperature_of_0_takes_the_likeliest(make_captioner, video, watch):
    captioner = make_captioner(temperature=1.5)
    cold = [Event("temperature", 0)]
    runs = [watch(captioner, captioner.open("", n), video(3), {0: cold}) for n in (1, 2)]
    assert runs[0] == runs[1]


def test_two_hundred_rounds_take_no_more_room_than_twenty(captioner, video, watch):
    state = captioner.open("speak of snow", 1)
    sizes, rooms, notes = [], [], []
    for number in range(200):
        watch(captioner, state, video(1, start=float(number), seed=number))
        captioner.network.reads.clear()
        sizes.append(state.written)
        rooms.append((state.cache.bytes, state.cache.get_max_length()))
        notes.append(len(json.dumps(captioner.save(state)[1])))
    assert len(set(rooms)) == 1
    assert max(sizes[100:]) <= max(sizes[20:100]) + 4 * captioner.settings.vision_seconds
    assert max(notes[100:]) <= 1.05 * max(notes[20:100])
    assert len(state.context.numbers) <= 2
    assert state.context.moved > 200


def test_a_gap_passes_as_presentation_time_and_empties_the_window(captioner, video, watch):
    state = captioner.open("", 1)
    rounds = watch(captioner, state, video(4) + video(2, start=60.5, seed=1))
    assert [media[-1][1] for media in rounds] == [2, 2, 2, 2, 2 * 57, 2]
    assert [(media[0][0].start, media[0][0].end) for media in rounds[4:]] == [(60, 61), (61, 62)]
    assert [turn.start for turn in state.context.turns] == [60.0, 61.0]


def test_times_that_jitter_make_rounds_that_follow_each_other(captioner, video, watch):
    frames = [InputFrame(frame.time * 0.98 + 0.01, frame.data) for frame in video(4)]
    rounds = watch(captioner, captioner.open("", 1), frames)
    assert [media[0][0].start for media in rounds] == [0, 1, 2, 3]


def test_pictures_may_change_their_size(captioner, video, watch):
    wide = [InputFrame(2 + n / 2, np.zeros((9, 90, 3), np.uint8)) for n in range(2)]
    state = captioner.open("", 1)
    watch(captioner, state, video(2) + wide + video(1, start=3.0))
    grids = [turn.grid for turn in state.context.turns]
    assert grids[0] == grids[2] != grids[1]


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), "picture"])
def test_what_is_no_picture_is_refused(captioner, frame):
    with pytest.raises(StreamError, match="RGB as uint8") as caught:
        captioner.apply(captioner.open("", 1), InputFrame(0.0, frame))
    assert caught.value.code == "bad_frame"


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (Event("ask", " "), "the question is empty"),
        (Event("ask", "why? " * 2000), f"10,000 characters: keep it to {MAX_TEXT:,}"),
        (Event("prompt", 7), "the instruction is no text"),
        (Event("ask", "\ud800"), "no valid Unicode"),
        (Event("temperature", -1), "temperature is -1"),
        (Event("temperature", True), "temperature is True"),
        (Event("steps", 4), "there is no field 'steps'"),
        (Event("prompt", "rain", transition=2), "makes no transition"),
    ],
)
def test_what_does_not_fit_is_refused(captioner, event, problem):
    with pytest.raises(StreamError, match=problem):
        captioner.check(event)


def test_an_instruction_may_be_taken_back(captioner, video, watch):
    state = captioner.open("speak of snow", 1)
    watch(captioner, state, video(3), {2: [Event("prompt", "")]})
    assert state.context.prompt == captioner.template.prompt("")


@pytest.mark.parametrize("reread", [False, True])
def test_a_saved_watch_goes_on_bit_for_bit(make_captioner, video, watch, reread):
    frames = video(14)
    events = {6: [Event("ask", "why?")], 7: [Event("prompt", "speak of rain")]}
    changes = {"temperature": 1.0, "reread": reread}
    straight = make_captioner(**changes)
    rounds = watch(straight, straight.open("", 3), frames, events)
    reads = [logits for _, _, logits in straight.network.reads]

    first, second = make_captioner(**changes), make_captioner(**changes)
    state = first.open("", 3)
    part = watch(first, state, frames[:12])
    for number in (6, 7):
        for event in events[number]:
            first.apply(state, event)
        if number == 6:
            part += watch(first, state, frames[12:14])
    tensors, values = first.save(state)
    state = second.load(load(save(dict(tensors))), json.loads(json.dumps(values)))
    assert part + watch(second, state, frames[14:]) == rounds
    mine = [logits for each in (first, second) for _, _, logits in each.network.reads]
    assert all(torch.equal(one, other) for one, other in zip(mine, reads, strict=True))


@pytest.mark.parametrize("reread", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_a_step_that_fails_leaves_the_state_at_its_boundary(
    make_captioner, video, watch, steps, reread
):
    frames = video(9)
    events = {5: [Event("ask", "why?"), Event("prompt", "speak of rain")]}
    calm = make_captioner(reread=reread)
    rounds = watch(calm, calm.open("", 3), frames, events)

    captioner = make_captioner(reread=reread)
    state = captioner.open("", 3)
    before = watch(captioner, state, frames[:10])
    for event in events[5]:
        captioner.apply(state, event)
    captioner.network.fail_at = steps
    with pytest.raises(RuntimeError, match="out of memory"):
        watch(captioner, state, frames[10:])
    captioner.network.fail_at = None
    assert state.cache.length == state.written
    assert before + watch(captioner, state, frames[10:]) == rounds


def test_closing_frees_the_cache_in_the_middle_of_a_round(captioner, video):
    state = captioner.open("", 1)
    for frame in video(1):
        captioner.apply(state, frame)
    captioner.step(state)
    captioner.step(state)
    assert state.cache.bytes > 0
    captioner.close(state)
    assert state.cache.bytes == 0
    assert not state.frames
