"""The chat that a captioner continues: its turns, token by token, as training and streaming see it.

Qwen2.5's chat template with StreamingVLM's one extra role, ``previous text``, for words whose
video is no longer kept::

    <|im_start|>system\\nYou are a helpful assistant.\\nSTANDING INSTRUCTION<|im_end|>\\n
    <|im_start|>previous text\\nold words<|im_end|>\\n
    <|im_start|>user\\nTime=7.0-8.0s<|vision_start|><|video_pad|>...<|vision_end|>\\nQUESTION
        <|im_end|>\\n<|im_start|>assistant\\nnew words ...<|im_end|>\\n

(without the line breaks of this page). The standing instruction goes to the system message: of
the roles that StreamingVLM is trained with it is the only one that is never evicted, while the
first user turn, where it has its query, is gone after 16 seconds.

Tokens are counted where they are made, and nothing is ever found again by looking for token ids,
so words may hold anything, newlines and "Time=" included.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenizers import Tokenizer

from longtake.streaming import StreamError

SYSTEM = "You are a helpful assistant."
SILENCE = " ..."
MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
WHOSE = "give a Qwen2.5-VL's tokenizer"


@dataclass(frozen=True)
class Grid:
    """How a round's frames are laid out as tokens of the language model.

    Attributes:
        times: groups of ``temporal_patch_size`` frames.
        rows: of tokens in a group, after merging.
        columns: as ``rows``.
    """

    times: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.times * self.rows * self.columns


@dataclass
class Turn:
    """One round: what the user shows, and what the assistant says to it.

    Attributes:
        start: presentation time in seconds.
        end: as ``start``.
        grid: of the vision tokens.
        head: tokens up to where the assistant begins to speak.
        vision_at: index in ``head`` of the first vision token.
        asked: whether it holds a question, so that the words are its answer.
        words: said so far, without what marks the end.
        tail: the end mark and the rest, once all is said.
    """

    start: float
    end: float
    grid: Grid
    head: list[int]
    vision_at: int
    asked: bool = False
    words: list[int] = field(default_factory=list)
    tail: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """All tokens, in order."""
        return self.head + self.words + self.tail

    def __len__(self) -> int:
        return len(self.head) + len(self.words) + len(self.tail)


class Template:
    """Token ids of every part of the chat.

    What people type is encoded with the marks as ordinary text, so it cannot end a turn.

    Args:
        tokenizer: of the model folder; its padding, truncation and treatment of marks are set.
        clock_seconds: after which the times that are told begin anew; 0 for never.

    Attributes:
        silence: the token " ...", which ends every round's words.
        end: the token ``<|im_end|>``.
        closing: of a message, ``<|im_end|>\\n``.
        tail: of an assistant's turn, `` ...<|im_end|>\\n``.
        sayable: tokens that may be said: all but marks, and ``<|im_end|>``.

    Raises:
        StreamError: ``bad_model``: the tokenizer lacks a mark, or " ..." is not one token.
    """

    def __init__(self, tokenizer: Tokenizer, clock_seconds: float = 0.0) -> None:
        self.tokenizer, self._clock_seconds = tokenizer, clock_seconds
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        marks = map(self._mark, MARKS)
        self._begin, self.end, self._vision_start, self._vision_end, self.vision = marks
        silence = self.encode(SILENCE)
        if len(silence) != 1:
            problem = f'the tokenizer makes {len(silence)} tokens of " ..."'
            raise StreamError("bad_model", problem, WHOSE)
        self.silence = silence[0]
        self.closing = [self.end, *self.encode("\n")]
        self.tail = [self.silence, *self.closing]
        added = tokenizer.get_added_tokens_decoder()
        unsaid = {index for index, token in added.items() if token.special} - {self.end}
        self.sayable = sorted(set(tokenizer.get_vocab().values()) - unsaid)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, marks in it taken as ordinary characters."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def prompt(self, instruction: str) -> list[int]:
        """The system message and the beginning of the previous text.

        Args:
            instruction: standing; empty for none.
        """
        text = f"{SYSTEM}\n{instruction}" if instruction else SYSTEM
        system = [*self._message(f"system\n{text}"), *self.closing]
        return [*system, *self._message("previous text\n")]

    def turn(self, start: float, end: float, grid: Grid, question: str | None = None) -> Turn:
        """A round's turn, nothing said yet.

        Args:
            start: presentation time in seconds; told with one decimal.
            end: as ``start``.
            grid: of its vision tokens.
            question: to be answered in it.
        """
        told = start % self._clock_seconds if self._clock_seconds else start
        span = f"Time={told:.1f}-{told + end - start:.1f}s"
        time = [*self._message(f"user\n{span}"), self._vision_start]
        head = [*time, *[self.vision] * grid.tokens, self._vision_end]
        if question:
            head += self.encode(f"\n{question}")
        head += [*self.closing, *self._message("assistant\n")]
        return Turn(start, end, grid, head, len(time), asked=bool(question))

    def _mark(self, mark: str) -> int:
        index: int | None = self.tokenizer.token_to_id(mark)
        if index is None:
            raise StreamError("bad_model", f"the tokenizer lacks {mark}", WHOSE)
        return index

    def _message(self, text: str) -> list[int]:
        return [self._begin, *self.encode(text)]
