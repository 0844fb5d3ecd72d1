"""Overlapped-chunk training data: what a captioner remembers, and what it is to say to it.

A whole clip is 24 seconds of video with a turn a second, as one plain causal sequence: hardly
longer than what streaming keeps, so training meets the attention and the positions that streaming
has, without training on long videos (StreamingVLM, Xu et al. 2025, section 3.2). What was said
before the clip stands in `previous text`, cut to sink and window as streaming cuts it. What the
assistant says is learned, and less so how the previous text goes on: it tells of one scene again
and again, and who foresees it has learned to find what was said, and to copy it.

By turns with those, openings are learned: a few seconds of many clips, most of them seen without a
word before them. In a whole clip most of what is told again could be copied from what was said;
here it has to be seen. The others are asked about what was said, which cannot be seen any more.

And echoes: sentences and then the same ones in another order, with no video at all. To answer what
happened a minute ago is to find some words far back and to copy them, which a model of this size
did not learn from questions alone, and learns from echoes in minutes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import Dataset

from longtake.models.vlm.context import Context
from longtake.models.vlm.settings import Settings
from longtake.models.vlm.turns import Grid, Template
from longtake.training.clips import SECONDS, Clips, draw_clips
from longtake.training.loop import rank
from longtake.training.pictures import Bank
from longtake.training.probe import labels
from longtake.training.stories import OPENING, Story, opening, sentences, whole
from longtake.training.valley.world import NAMES

OPENINGS = 6
"""Openings in a step for one whole clip in another: as many seconds."""
ECHOES = 4
"""Echoes in a third, likewise: about as many tokens."""
KINDS = {"whole": (1, SECONDS), "openings": (OPENINGS, OPENING), "echoes": (ECHOES, 0)}
"""What steps are of, by turns: how many for each clip of a batch, and the seconds they show."""


@dataclass(frozen=True)
class Example:
    """One clip as tokens.

    `ids`: int64 [L]; `positions`: float32 [L, 3]; `vision`: int64, where the vision tokens stand;
    `said`: int64, where what the assistant says stands, and `told`: where the previous text does
    that can be foreseen, each one's predecessor being what it is predicted from; `starts`: int64
    [rounds], the first place of `said` in each; `scenes`: int64 [rounds, 11], see `probe.labels`.
    """

    ids: Tensor
    positions: Tensor
    vision: Tensor
    said: Tensor
    told: Tensor
    starts: Tensor
    scenes: Tensor


@dataclass(frozen=True)
class ChunkBatch:
    """What one step is trained on.

    `ids`: int64 [B, L], padded on the right; `positions`: float32 [3, B, L]; `vision`, `said`,
    `told`, `starts`: int64, indices into the flattened [B * L]; `scenes`: int64 [B, seconds, 11];
    `numbers`, `places`: int64 [B], the clips in the ring; `firsts`: int64 [B], the second of each
    at which it begins; `seconds`: how many are shown, 0 where nothing is; `size`: height and width
    that frames are resized to.
    """

    ids: Tensor
    positions: Tensor
    vision: Tensor
    said: Tensor
    told: Tensor
    starts: Tensor
    scenes: Tensor
    numbers: Tensor
    places: Tensor
    firsts: Tensor
    seconds: int
    size: tuple[int, int]

    def pin_memory(self) -> ChunkBatch:
        """In memory from which copies to a GPU need no waiting."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> ChunkBatch:
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> ChunkBatch:
        return ChunkBatch(
            change(self.ids),
            change(self.positions),
            change(self.vision),
            change(self.said),
            change(self.told),
            change(self.starts),
            change(self.scenes),
            change(self.numbers),
            change(self.places),
            change(self.firsts),
            self.seconds,
            self.size,
        )


class Writer:
    """Turns narrated clips into tokens.

    `step`: between two groups of frames on the time axis of positions, see `vision_positions`.
    """

    def __init__(self, tokenizer: Tokenizer, settings: Settings, step: float) -> None:
        self.template = Template(tokenizer, settings.clock_seconds)
        self.settings, self.step = settings, step

    def example(self, story: Story, grid: Grid) -> Example:
        """One clip as tokens."""
        template = self.template
        turns = []
        for second, each in enumerate(story.said, story.start):
            question = each.asked.question if each.asked else None
            turn = template.turn(float(second), second + 1.0, grid, question)
            turn.words = template.encode(each.words) if each.words else []
            turn.tail = list(template.tail)
            turns.append(turn)
        words = [token for said in story.history for token in template.encode(said)]
        text = self._cut(words)
        prompt = template.prompt("")
        context = Context(prompt, template.closing, self.step, text, turns=turns)
        told = torch.arange(len(prompt), len(prompt) + len(text))
        if len(text) < len(words):
            # What follows the cut does not follow from what is before it.
            told = told[told != len(prompt) + self.settings.text_sink]
        ids = context.ids()
        offset = len(ids) - sum(map(len, turns))
        vision, learned, starts = [], [], []
        for turn in turns:
            first = offset + turn.vision_at
            vision.append(torch.arange(first, first + grid.tokens))
            # The words, " ..." and the mark of the end.
            first = offset + len(turn.head)
            starts.append(first)
            learned.append(torch.arange(first, first + len(turn.words) + 2))
            offset += len(turn)
        positions = context.positions().float()
        return Example(
            torch.tensor(ids),
            positions,
            torch.cat(vision),
            torch.cat(learned),
            told,
            torch.tensor(starts),
            torch.tensor([labels(said.scene) for said in story.said]),
        )

    def echo(self, sentences: Iterator[str], rng: random.Random) -> Example:
        """As much of a previous text as streaming keeps: sentences, and all of them once more."""
        template, settings = self.template, self.settings
        most = rng.randint(1, settings.text_sink + settings.text_window) // 2
        first = [template.encode(next(sentences))]
        while sum(map(len, first)) + len(more := template.encode(next(sentences))) <= most:
            first.append(more)
        again = rng.sample(first, len(first))
        text = [token for words in (*first, *again) for token in words]
        context = Context(template.prompt(""), template.closing, self.step, text)
        end = len(context.prompt) + len(text)
        nowhere = torch.empty(0, dtype=torch.long)
        told = torch.arange(end - len(text) // 2, end)
        ids, positions = torch.tensor(context.ids()), context.positions().float()
        return Example(ids, positions, nowhere, nowhere, told, nowhere, nowhere.view(0, len(NAMES)))

    def _cut(self, text: list[int]) -> list[int]:
        """The oldest words and the newest, as streaming keeps them."""
        sink, window = self.settings.text_sink, self.settings.text_window
        return text if len(text) <= sink + window else text[:sink] + text[len(text) - window :]


class Chunks(Dataset[ChunkBatch]):
    """The batch of every step, made from its number alone, in processes of their own.

    `kinds`: keys of `KINDS`; `sizes`: heights and widths of frames, by turns; `unit`: pixels of a
    token's side; `groups`: of frames in a second; `sets`, `set_size`: of the ring; `period`: steps
    after which a set gives way to the next.
    """

    def __init__(
        self,
        writer: Writer,
        bank: Bank,
        *,
        batch: int,
        seed: int,
        kinds: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        unit: int,
        groups: int,
        sets: int,
        set_size: int,
        period: int,
    ) -> None:
        self.writer, self.batch, self.seed = writer, batch, seed
        self.bank = Bank(bank.pictures[:0], bank.colours, bank.lights)
        self.kinds, self.sizes = tuple(kinds), tuple(sizes)
        self.unit, self.groups = unit, groups
        self.sets, self.set_size, self.period = sets, set_size, period
        self.words_seed = f"{seed}/{rank()}"
        self._drawn: dict[int, Clips] = {}

    def newest(self, step: int) -> int:
        """The newest set at a step."""
        return self.sets - 1 + step // self.period

    def __getitem__(self, step: int) -> ChunkBatch:
        rng = random.Random(f"{self.words_seed}/{step}")
        newest, kind = self.newest(step), self.kinds[step % len(self.kinds)]
        count, seconds = KINDS[kind]
        height, width = self.sizes[step // len(self.kinds) % len(self.sizes)]
        grid = Grid(self.groups, height // self.unit, width // self.unit)
        examples, sources = [], []
        for _ in range(self.batch * count):
            number, place = newest - rng.randrange(self.sets), rng.randrange(self.set_size)
            clips, first = self._set(number, newest), 0
            if kind == "echoes":
                example = self.writer.echo(sentences(clips, rng), rng)
            elif kind == "openings":
                first = rng.randrange(SECONDS - OPENING + 1)
                story = opening(clips, place, first, self.bank, rng)
                example = self.writer.example(story, grid)
            else:
                example = self.writer.example(whole(clips, place, self.bank, rng), grid)
            examples.append(example)
            sources.append((number, place, first))
        return collate(examples, sources, seconds, (height, width))

    def _set(self, number: int, newest: int) -> Clips:
        """A set of the ring; those that have left it are forgotten."""
        self._drawn = {k: drawn for k, drawn in self._drawn.items() if k > newest - self.sets}
        if number not in self._drawn:
            self._drawn[number] = draw_clips(self.set_size, number, self.seed, len(self.bank))
        return self._drawn[number]


def collate(
    examples: Sequence[Example],
    sources: Sequence[tuple[int, int, int]],
    seconds: int,
    size: tuple[int, int],
) -> ChunkBatch:
    """Pad examples on the right, where causal attention never looks back to.

    `sources`: of each, its `numbers`, `places` and `firsts`; see `ChunkBatch`.
    """
    longest = max(len(each.ids) for each in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    positions = torch.zeros(3, len(examples), longest)
    vision, said, told, starts = [], [], [], []
    for row, each in enumerate(examples):
        ids[row, : len(each.ids)] = each.ids
        positions[:, row, : len(each.ids)] = each.positions.T
        vision.append(each.vision + row * longest)
        said.append(each.said + row * longest)
        told.append(each.told + row * longest)
        starts.append(each.starts + row * longest)
    numbers, places, firsts = torch.tensor(sources).T
    return ChunkBatch(
        ids,
        positions,
        torch.cat(vision),
        torch.cat(said),
        torch.cat(told),
        torch.cat(starts),
        torch.stack([each.scenes for each in examples]),
        numbers.contiguous(),
        places.contiguous(),
        firsts.contiguous(),
        seconds,
        size,
    )
