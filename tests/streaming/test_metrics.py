"""Measurements, against values worked out by hand."""

from __future__ import annotations

import pytest

from longtake.streaming import Event, InputFrame, Summary
from longtake.streaming.metrics import RECENT_CHUNKS, Metrics


def test_nothing_measured_reads_as_zeros():
    metrics = Metrics(opened=5.0)
    assert metrics.rate == 0.0
    assert metrics.percentile(0.5) == 0.0
    assert (metrics.first_media, metrics.reaction, metrics.reaction_max) == (0.0, 0.0, 0.0)


def test_the_rate_leaves_the_first_chunk_out():
    metrics = Metrics(opened=0.0)
    metrics.media(9.0, 4)
    metrics.chunk(9.0)
    assert metrics.rate == 0.0
    for now in (9.5, 10.0):
        metrics.media(now, 1)
        metrics.media(now, 3)
        metrics.chunk(0.5)
    assert metrics.rate == 8.0
    assert metrics.units == 12
    assert metrics.chunks == 3
    assert metrics.first_media == 9.0


def test_percentiles_are_of_recent_chunks_the_first_left_out():
    metrics = Metrics(opened=0.0)
    for cost in (100.0, 5.0, 1.0, 4.0, 2.0, 3.0):
        metrics.chunk(cost)
    assert [metrics.percentile(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1, 2, 3, 4, 5]
    for _ in range(RECENT_CHUNKS):
        metrics.chunk(0.5)
    assert metrics.percentile(1.0) == 0.5


def test_a_reaction_runs_from_acceptance_to_the_first_media_made_under_it():
    metrics = Metrics(opened=0.0)
    metrics.applied(0.5)
    metrics.media(1.0, 4)
    metrics.chunk(0.5)
    assert metrics.reaction == 0.0
    metrics.applied(1.25)
    metrics.media(2.0, 1)
    metrics.media(3.0, 3)
    assert metrics.reaction == 0.75
    metrics.applied(3.0)
    metrics.media(3.5, 1)
    assert metrics.reaction == 0.5
    assert metrics.reaction_max == 0.75


def test_media_of_no_units_counts_as_the_first_media():
    metrics = Metrics(opened=0.0)
    metrics.media(1.0, 0)
    metrics.media(2.0, 0)
    metrics.media(3.0, 4)
    assert metrics.first_media == 1.0


def test_a_summary_of_a_running_session(engine_on_fake_time, fake_time, fake_model):
    # A chunk: 0.1 s, 0.1 s (one unit), 0.2 s (three units).
    costs = (0.1, 0.1, 0.2)
    model = fake_model(on_step=lambda state: fake_time.advance(costs[state.step]))
    session = engine_on_fake_time.open(model, "sea", 1, outbox=100)
    fake_time.advance(1.0)
    for _ in range(3 * 3):
        engine_on_fake_time.run_once()
        fake_time.advance(0.5)
    session.submit(Event("prompt", "lake", at=60.0))
    assert session.summary() == Summary(
        chunks=3,
        units=12,
        rate=pytest.approx(8 / 0.8),
        first_media=pytest.approx(1.7),
        chunk_p50=pytest.approx(0.4),
        chunk_p95=pytest.approx(0.4),
        reaction=0.0,
        reaction_max=0.0,
        outbox=9,
        controls=1,
        dropped=0,
    )


@pytest.mark.parametrize(
    ("submitted_after_steps", "at", "reaction"),
    [
        # Steps take 0.1 s; a chunk has three and shows something after its second.
        (3, 0.0, 0.2),
        (4, 0.0, 0.4),
        (5, 0.0, 0.3),
        # Its time is the start of the third chunk, within the making of the second.
        (0, 1.0, 0.5),
        # Before the first chunk there is nothing that it could change.
        (0, 0.0, 0.0),
    ],
)
def test_reactions_of_immediate_and_scheduled_prompts(
    engine_on_fake_time, fake_time, fake_model, submitted_after_steps, at, reaction
):
    model = fake_model(on_step=lambda state: fake_time.advance(0.1))
    session = engine_on_fake_time.open(model, "sea", 1, outbox=100)
    for step in range(12):
        if step == submitted_after_steps:
            session.submit(Event("prompt", "lake", at))
        engine_on_fake_time.run_once()
    summary = session.summary()
    assert summary.reaction == pytest.approx(reaction)
    assert summary.reaction_max == summary.reaction


def test_a_reaction_is_measured_from_the_event_that_was_applied(
    engine_on_fake_time, fake_time, fake_model
):
    model = fake_model(on_step=lambda state: fake_time.advance(0.1))
    session = engine_on_fake_time.open(model, "sea", 1, outbox=100)
    engine_on_fake_time.run_once()
    session.submit(Event("prompt", "lake"))
    engine_on_fake_time.run_once()
    session.submit(Event("prompt", "night", at=60.0))
    for _ in range(3):
        engine_on_fake_time.run_once()
    assert session.summary().reaction == pytest.approx(0.4)


def test_dropped_frames_and_waiting_media_are_counted(engine, fake_model):
    session = engine.open(fake_model(frames=1), "sea", 1, live_input=True)
    for index in range(session.inputs.capacity + 3):
        session.feed(InputFrame(index / 8, index))
    for _ in range(3):
        engine.run_once()
    summary = session.summary()
    assert (summary.dropped, summary.outbox, summary.chunks) == (3, 3, 1)
