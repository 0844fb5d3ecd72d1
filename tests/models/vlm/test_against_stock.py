"""While nothing is evicted, the captioner is transformers' own forward over the whole chat."""

from __future__ import annotations

import pytest
import torch

from longtake.streaming import Event

ENOUGH = {"vision_seconds": 1000.0, "repetition_penalty": 1.0}


@pytest.fixture
def watched(make_captioner, video, watch):
    """A captioner that watched some rounds, and its state."""

    def run(rounds, *, instruction="speak of snow", **changes):
        captioner = make_captioner(**ENOUGH, **changes)
        state = captioner.open(instruction, 7)
        frames = video(rounds * captioner.settings.round_seconds, fps=captioner.settings.fps)
        watch(captioner, state, frames, {2: [Event("ask", "what bounces?")]})
        return captioner, state, frames

    return run


def stock_inputs(captioner, state, frames):
    """What transformers' model takes for the same chat."""
    ids = torch.tensor([state.context.ids()])
    settings, processor = captioner.settings, captioner.processor
    each = settings.round_frames
    rounds = [frames[index : index + each] for index in range(0, len(frames), each)]
    pictures = [torch.stack([torch.from_numpy(frame.data) for frame in part]) for part in rounds]
    grid = state.context.turns[0].grid
    merge = processor.merge_size
    size = [grid.times, grid.rows * merge, grid.columns * merge]
    return {
        "input_ids": ids,
        "pixel_values_videos": torch.cat([processor.patches(part) for part in pictures]),
        "video_grid_thw": torch.tensor([size] * len(rounds)),
        "second_per_grid_ts": torch.tensor(
            [processor.temporal_patch_size / settings.fps] * len(rounds)
        ),
        "mm_token_type_ids": 2 * (ids == captioner.template.vision).int(),
    }


@pytest.mark.parametrize("round_seconds", [1.0, 2.0])
def test_logits_are_those_of_one_full_forward(watched, round_seconds):
    captioner, state, frames = watched(8, round_seconds=round_seconds)
    model = captioner.network.model
    model.model.rope_deltas = None
    with torch.inference_mode():
        stock = model(**stock_inputs(captioner, state, frames)).logits[0]
    read, differences = 0, []
    for ids, _, logits in captioner.network.reads:
        read += len(ids)
        differences.append((logits - stock[read - 1]).abs().max().item())
    assert len(differences) > 30
    assert stock.abs().max() > 1  # so that the bound says something
    assert max(differences) < 1e-5 * stock.abs().max()


@pytest.mark.parametrize("round_seconds", [1.0, 2.0])
def test_positions_are_get_rope_indexs(watched, round_seconds):
    captioner, state, frames = watched(4, round_seconds=round_seconds)
    inputs = stock_inputs(captioner, state, frames)
    stock, _ = captioner.network.model.model.get_rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        video_grid_thw=inputs["video_grid_thw"],
        second_per_grid_ts=inputs["second_per_grid_ts"],
    )
    assert torch.equal(state.context.positions().T, stock[:, 0].double())


def test_positions_told_to_the_cache_are_the_contexts(watched):
    captioner, state, _ = watched(5)
    told = torch.cat([positions for _, positions, _ in captioner.network.reads])
    assert torch.equal(told, state.context.positions()[: len(told)])
    assert len(told) == state.cache.length == state.written


def test_eight_frames_a_second_keep_their_order_in_time(watched):
    captioner, state, _ = watched(2, fps=8.0)
    turn = state.context.turns[0]
    first = len(state.context.prompt) + len(captioner.template.closing) + turn.vision_at
    times = state.context.positions()[first : first + turn.grid.tokens, 0] - first
    assert times.unique().tolist() == [0.0, 0.5, 1.0, 1.5]


def test_the_template_is_the_models_chat(watched):
    captioner, state, _ = watched(3, instruction="speak of\nsnow")
    template = captioner.template
    said = [template.tokenizer.decode(turn.words) for turn in state.context.turns]
    pads = "<|video_pad|>" * state.context.turns[0].grid.tokens
    users = [
        f"Time={start:.1f}-{start + 1:.1f}s<|vision_start|>{pads}<|vision_end|>{question}"
        for start, question in ((0, ""), (1, ""), (2, "\nwhat bounces?"))
    ]
    chat = "<|im_start|>system\nYou are a helpful assistant.\nspeak of\nsnow<|im_end|>\n"
    chat += "<|im_start|>previous text\n<|im_end|>\n"
    for user, words in zip(users, said, strict=True):
        chat += f"<|im_start|>user\n{user}<|im_end|>\n"
        chat += f"<|im_start|>assistant\n{words} ...<|im_end|>\n"
    told = template.tokenizer.decode(state.context.ids(), skip_special_tokens=False)
    assert told == chat
