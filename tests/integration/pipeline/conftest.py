"""Streams of a test's own, and pipelines over the shared Kafka."""

from __future__ import annotations

import itertools

import pytest

from smw import pipeline
from tests.services import kafka

numbers = itertools.count()


@pytest.fixture
def stream():
    """A stream name of the test's own."""
    return f"integration{next(numbers)}"


@pytest.fixture
async def on_kafka(kafka_server):
    """Make pipelines on the shared broker and close them afterwards."""
    made = []

    def pipelines(**options):
        made.append(pipeline.Pipeline({"kafka_brokers": kafka_server.url, "claim_idle_s": 1.5, **options}))
        return made[-1]

    yield pipelines
    for own in made:
        await own.aclose()
    kafka.collected()
