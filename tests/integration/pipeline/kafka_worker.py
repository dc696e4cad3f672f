"""A worker process for tests: serves one topic, writes what it handled into a file line by line, behaves as told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from smw import pipeline
from smw.errors import RecordError
from smw.pipeline import kafka
from smw.pipeline.kafka import KafkaStream
from smw.pipeline.ports import Entry

BROKERS, STREAM, BEHAVIOUR, LOG = sys.argv[1:5]
own = pipeline.Pipeline(kafka_brokers=BROKERS, claim_idle_s=1.5)
log = Path(LOG).open("a", buffering=1)  # noqa: SIM115 - it lives as long as the process


class Dying(KafkaStream):
    """Dies beside a dead letter: before it is stored, or between that and the commit of its record."""

    async def dead(self, record, letter):
        if BEHAVIOUR == "die-before-letter":
            os._exit(9)
        await self._writer.append(f"{self.name}.dlq", [Entry(letter.to_bytes(), record.key)])
        os._exit(9)


if BEHAVIOUR.startswith("die-"):
    kafka.KafkaStream = Dying


@own.stream_process(STREAM, retry=pipeline.Retry(times=2, first=0.01))
async def handle(event: int, ctx: pipeline.RecordContext):
    if BEHAVIOUR == "crash" and event == 3:
        log.write(f"crash {event}\n")
        os._exit(9)
    await asyncio.sleep(0.01)
    if BEHAVIOUR.startswith("die-") and event == 3:
        raise RecordError("X-1", "not this one")
    log.write(f"done {event} {ctx.key}\n")


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.stop)
    print("ready", flush=True)
    await own.serve(STREAM, until_empty=BEHAVIOUR == "crash")
    await own.aclose()
    print("left", flush=True)


asyncio.run(main())
