"""Properties of the cache policy, and a plain list of entries to compare it with."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.streaming import Budget, Recent, Rule, Span

KINDS = ("prompt", "vision", "text")


@st.composite
def rules(draw):
    return {
        kind: Rule(
            draw(st.integers(0, 6)),
            draw(st.none() | st.integers(0, 8)),
            draw(st.integers(-1, 2)),
        )
        for kind in KINDS
    }


@st.composite
def spans(draw):
    """Disjoint spans of every kind, in any order; indices of different kinds may coincide."""
    found = []
    for kind in KINDS:
        position = 0
        for gap, length in draw(
            st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=6)
        ):
            found.append(Span(position + gap, length, kind))
            position += gap + length
    return draw(st.permutations(found))


@st.composite
def incoming(draw):
    return [Span(1_000, length, kind) for kind in KINDS if (length := draw(st.integers(0, 10))) > 0]


def entries(spans, kind):
    return [index for span in spans if span.kind == kind for index in range(span.start, span.stop)]


def keep_entries(held, rule, arriving):
    """The same rule on a list of single entries."""
    if rule.window is None:
        return held
    sink, rest = held[: rule.sink], held[rule.sink :]
    arriving -= min(arriving, rule.sink - len(sink))
    room = max(0, rule.window - arriving)
    return sink + rest[max(0, len(rest) - room) :]


@given(rules(), spans(), incoming())
def test_it_keeps_what_a_plain_list_of_entries_would(rules, spans, incoming):
    kept = Budget(rules).keep(spans, incoming)
    for kind, rule in rules.items():
        arriving = len(entries(incoming, kind))
        assert entries(kept, kind) == keep_entries(sorted(entries(spans, kind)), rule, arriving)


@given(rules(), spans(), incoming())
def test_kept_spans_are_a_subset_in_cache_order_disjoint_and_merged(rules, spans, incoming):
    kept = Budget(rules).keep(spans, incoming)
    order = [(rules[span.kind].rank, span.start) for span in kept]
    assert order == sorted(order)
    for kind in KINDS:
        mine = [span for span in kept if span.kind == kind]
        assert set(entries(mine, kind)) <= set(entries(spans, kind))
        assert all(before.stop < after.start for before, after in pairwise(mine))
    assert all(span.length > 0 for span in kept)


@given(rules(), spans(), incoming())
def test_sinks_always_stay_and_no_kind_exceeds_its_budget(rules, spans, incoming):
    kept = Budget(rules).keep(spans, incoming)
    for kind, rule in rules.items():
        held, stay = sorted(entries(spans, kind)), entries(kept, kind)
        assert stay[: rule.sink] == held[: rule.sink]
        if rule.window is None:
            assert stay == held
            continue
        arriving = len(entries(incoming, kind))
        assert len(stay) <= rule.sink + rule.window
        if len(held) >= rule.sink:
            assert len(stay) <= rule.sink + max(0, rule.window - arriving)
        elif len(held) + arriving >= rule.sink:
            assert len(stay) + arriving <= max(rule.sink + rule.window, len(held) + arriving)


@given(rules(), spans(), incoming())
def test_keeping_twice_is_keeping_once(rules, spans, incoming):
    budget = Budget(rules)
    once = budget.keep(spans, incoming)
    assert budget.keep(once, incoming) == once


@given(rules(), spans(), incoming(), st.randoms(use_true_random=False))
def test_the_order_in_which_spans_are_listed_does_not_matter(rules, spans, incoming, random):
    budget = Budget(rules)
    shuffled = random.sample(spans, len(spans))
    assert set(budget.keep(shuffled, incoming)) == set(budget.keep(spans, incoming))


@given(
    sink=st.integers(0, 6),
    window=st.integers(1, 12),
    chunks=st.lists(st.integers(1, 4), min_size=1, max_size=30),
)
def test_a_stream_holds_its_first_and_its_newest_frames(sink, window, chunks):
    budget = Budget({"frame": Rule(sink, window)})
    held: tuple[Span, ...] = ()
    made = 0
    for chunk in chunks:
        new = Span(made, chunk)
        held = (*budget.keep(held, [new]), new)
        made += chunk
        newest = range(max(0, made - max(window, chunk)), made)
        assert set(entries(held, "frame")) == {*range(min(sink, made)), *newest}


def test_the_generators_budget_by_hand():
    budget = Budget({"frame": Rule(sink=3, window=9)})
    assert budget.keep([Span(0, 12)], [Span(12, 3)]) == (Span(0, 3), Span(6, 6))
    assert budget.keep([Span(0, 3), Span(6, 9)], [Span(15, 3)]) == (Span(0, 3), Span(9, 6))
    assert budget.keep([Span(0, 2)], [Span(2, 3)]) == (Span(0, 2),)
    assert budget.keep([Span(0, 12)]) == (Span(0, 12),)


def test_the_captioners_budget_moves_old_words_ahead_of_the_vision():
    budget = Budget(
        {"prompt": Rule(rank=0), "text": Rule(2, 2, rank=1), "vision": Rule(0, 3, rank=2)}
    )
    held = [
        Span(0, 4, "prompt"),
        Span(4, 5, "vision"),
        Span(9, 3, "text"),
        Span(12, 2, "vision"),
        Span(14, 3, "text"),
    ]
    assert budget.keep(held) == (
        Span(0, 4, "prompt"),
        Span(9, 2, "text"),
        Span(15, 2, "text"),
        Span(8, 1, "vision"),
        Span(12, 2, "vision"),
    )


@pytest.mark.parametrize("where", ["held", "incoming"])
def test_a_kind_without_a_rule_is_an_error_that_names_it(where):
    budget = Budget({"frame": Rule()})
    stranger = [Span(0, 1, "sound")]
    with pytest.raises(KeyError, match="sound"):
        budget.keep(stranger if where == "held" else [], stranger if where == "incoming" else [])


@pytest.mark.parametrize(("sink", "window"), [(-1, None), (0, -1), (3, -2)])
def test_a_rule_that_makes_no_sense_is_refused(sink, window):
    with pytest.raises(ValueError, match=r"^(sink is -1|window is (-1|-2));"):
        Rule(sink, window)


def test_recent_spans_are_kept_whole_by_where_they_begin():
    budget = Budget({"turn": Recent(16), "text": Rule(rank=-1)})
    turns = [Span(start, 4, "turn") for start in (0, 4, 8, 12)]
    assert budget.keep(turns, [Span(16, 4, "turn")]) == tuple(turns[1:])
    assert budget.keep(turns, [Span(17, 4, "turn")]) == tuple(turns[2:])
    assert budget.keep(turns) == tuple(turns)
    words = Span(90, 2, "text")
    assert budget.keep([*turns, words], [Span(60, 4, "turn")]) == (words,)


@given(
    reach=st.integers(1, 40),
    turns=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=9),
)
def test_whatever_is_within_reach_of_the_newest_end_is_kept(reach, turns):
    spans, position = [], 0
    for gap, length in turns:
        spans.append(Span(position + gap, length, "turn"))
        position = spans[-1].stop
    kept = Budget({"turn": Recent(reach)}).keep(spans)
    assert list(kept) == [span for span in spans if position - span.start <= reach]


def test_a_reach_of_nothing_is_refused():
    with pytest.raises(ValueError, match="reach is 0"):
        Recent(0)


def test_an_empty_cache_keeps_nothing():
    assert Budget({"frame": Rule(3, 9)}).keep([], [Span(0, 3)]) == ()
