"""With eviction, the captioner is a list of raw keys, each rotated anew for every token."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from longtake.streaming import Event

ROUNDS = 40


@dataclass
class Entry:
    """One token that is remembered: what it is part of, and each layer's raw key and value."""

    token: int
    part: str
    turn: int
    cell: tuple[int, int, int] | None
    keys: list[Tensor]
    values: list[Tensor]


class NaiveWatcher:
    """One token at a time, in plain lists; nothing is ever rotated in place.

    Knows of the captioner's model the weights alone, and of its policy the sizes.
    """

    def __init__(self, captioner, instruction):
        self.model = captioner.network.model
        self.template, self.settings = captioner.template, captioner.settings
        self.step = captioner.processor.temporal_patch_size * 2 / self.settings.fps
        self.entries: list[Entry] = []
        self.waiting: list[tuple[int, str, int, tuple[int, int, int] | None]] = []
        self.turns: list[tuple[float, float]] = []
        self.wait(self.template.prompt(instruction), "prompt")
        self.wait(self.template.closing, "closing")

    def wait(self, ids, part, turn=-1):
        self.waiting += [(token, part, turn, None) for token in ids]

    def new_instruction(self, instruction):
        """The new message's keys depend on itself alone, for it stands first."""
        fresh = [(token, "prompt", -1, None) for token in self.template.prompt(instruction)]
        others = [entry for entry in self.entries if entry.part != "prompt"]
        self.entries = []
        for each in fresh:
            self.forward(each)
        self.entries += others

    def begin_round(self, start, end):
        number, last = len(self.turns), len(self.turns) - 1
        gone = {
            turn
            for turn, (began, _) in enumerate(self.turns)
            if began < end - self.settings.vision_seconds and turn != last
        }
        moved = set()
        for turn in sorted(gone):
            words = [e for e in self.entries if e.turn == turn and e.part == "word"]
            self.entries = [e for e in self.entries if e.turn != turn]
            at = [e.part for e in self.entries].index("closing") if self.entries else 0
            for word in words:
                word.part, word.turn = "text", -1
            self.entries[at:at] = words
            moved |= {id(word) for word in words}
        text = [e for e in self.entries if e.part == "text"]
        sink, window = self.settings.text_sink, self.settings.text_window
        rest = text[sink:]
        forgotten = {id(e) for e in rest[: max(0, len(rest) - window)]}
        self.entries = [e for e in self.entries if id(e) not in forgotten]
        self.turns.append((start, end))
        return number, [e for e in self.entries if id(e) in moved]

    def reread(self, words):
        """Logits after words that moved, run once more as the text that they are now."""
        first = next(place for place, entry in enumerate(self.entries) if entry is words[0])
        rest = self.entries[first + len(words) :]
        del self.entries[first:]
        logits = [self.forward((word.token, "text", -1, None)) for word in words]
        self.entries += rest
        return logits[-1]

    def read_turn(self, number, turn, features):
        """Logits after the head of a turn."""
        for index, token in enumerate(turn.head):
            seen = index - turn.vision_at
            cell = None
            if 0 <= seen < turn.grid.tokens:
                row, column = divmod(seen % (turn.grid.rows * turn.grid.columns), turn.grid.columns)
                cell = (seen // (turn.grid.rows * turn.grid.columns), row, column)
            self.waiting.append((token, "head", number, cell))
        return self.read_waiting(features)

    def read_waiting(self, features=None):
        seen, logits = 0, None
        for each in self.waiting:
            vision = None
            if each[3] is not None:
                vision, seen = features[seen], seen + 1
            logits = self.forward(each, vision)
        self.waiting = []
        return logits

    def positions(self):
        """Of every entry, contiguous from 0, by walking over them."""
        place, block, top, found = 0.0, None, 0.0, []
        for entry in self.entries:
            if entry.cell is None:
                if block is not None:
                    place, block = top + 1, None
                found.append((place, place, place))
                place += 1
            else:
                if block is None:
                    block, top = place, place
                time, row, column = entry.cell
                found.append((block + time * self.step, block + row, block + column))
                top = max(top, *found[-1])
        return torch.tensor(found)

    def forward(self, each, vision=None):
        token, part, turn, cell = each
        language = self.model.model.language_model
        entry = Entry(token, part, turn, cell, [], [])
        self.entries.append(entry)
        cos, sin = self.rotations()
        hidden = language.embed_tokens.weight[token] if vision is None else vision
        for layer in language.layers:
            attention = layer.self_attn
            normed = layer.input_layernorm(hidden)
            query = attention.q_proj(normed).view(-1, attention.head_dim)
            entry.keys.append(attention.k_proj(normed).view(-1, attention.head_dim))
            entry.values.append(attention.v_proj(normed).view(-1, attention.head_dim))
            number = len(entry.keys) - 1
            keys = torch.stack([e.keys[number] for e in self.entries], 1)  # [heads, entries, dim]
            values = torch.stack([e.values[number] for e in self.entries], 1)
            keys = keys * cos + turned(keys) * sin
            query = query * cos[-1] + turned(query) * sin[-1]
            groups = len(query) // len(keys)
            keys, values = (x.repeat_interleave(groups, 0) for x in (keys, values))
            weights = ((keys @ query[:, :, None])[..., 0] * attention.scaling).softmax(-1)
            mixed = (weights[:, None] @ values)[:, 0].reshape(-1)
            hidden = hidden + attention.o_proj(mixed)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.model.lm_head(language.norm(hidden))

    def rotations(self):
        """[entries, head_dim] each: the first 2 pairs by time, 3 by height, 3 by width."""
        frequencies = 10_000.0 ** (-torch.arange(0, 16, 2) / 16)
        axes = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])
        angles = self.positions()[:, axes] * frequencies
        angles = torch.cat((angles, angles), -1)
        return angles.cos(), angles.sin()


def turned(x):
    low, high = x.chunk(2, -1)
    return torch.cat((-high, low), -1)


@pytest.mark.parametrize("gap", [0.0, 5.0])
@pytest.mark.parametrize("reread", [False, True])
@torch.inference_mode()
def test_logits_are_a_naive_lists_through_evictions(make_captioner, video, watch, gap, reread):
    captioner = make_captioner(reread=reread)
    state = captioner.open("speak of snow", 7)
    naive = NaiveWatcher(captioner, "speak of snow")
    frames = video(ROUNDS)
    frames = frames[:60] + [type(f)(f.time + gap, f.data) for f in frames[60:]]
    events = {4: [Event("ask", "what bounces?")], 12: [Event("prompt", "of rain, at length")]}
    differences, sizes, evicted = [], [], 0
    for number in range(ROUNDS):
        recorder = captioner.network
        recorder.reads.clear()
        part = frames[2 * number : 2 * number + 2]
        watch(captioner, state, part, {0: events.get(number, [])})
        turn = state.context.turns[-1]
        pictures = torch.stack([torch.from_numpy(frame.data) for frame in part])
        patches = captioner.processor.patches(pictures)
        features = recorder.see(patches, turn.grid, captioner.processor.merge_size)
        mine = [logits for _, _, logits in recorder.reads]
        if number == 12:
            mine.pop(0)
            naive.new_instruction("of rain, at length")
        before = len(naive.entries)
        index, moved = naive.begin_round(turn.start, turn.end)
        evicted += before - len(naive.entries)
        if reread and moved:
            differences.append((mine.pop(0) - naive.reread(moved)).abs().max().item())
        theirs = naive.read_turn(index, turn, features)
        for step, logits in enumerate(mine):
            differences.append((logits - theirs).abs().max().item())
            if step + 1 < len(mine):
                naive.wait([turn.words[step]], "word", index)
                theirs = naive.read_waiting()
        naive.wait(turn.words[len(mine) - 1 :], "word", index)
        naive.wait(turn.tail, "tail", index)
        sizes.append(state.written)
        held = [entry.token for entry in naive.entries]
        assert held == state.context.ids()[: len(held)]
    assert len(differences) > 3 * ROUNDS
    assert evicted > 20 * ROUNDS
    assert max(differences) < 1e-5 * theirs.abs().max()
