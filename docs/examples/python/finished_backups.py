"""Prints a line for each backup that has ended, as it ends, and goes on where it stopped when it is started again.

    pip install nats-py==2.16.0 msgpack==1.1.2
    python finished_backups.py nats://localhost:4222 finished.json
"""

import asyncio
import json
import os
import sys

import msgpack
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

STREAM = os.environ.get("STHENO_STREAM", "STHENO")
ENDED = {"backup.completed": "complete", "backup.failed": "failed"}


async def main(url, place):
    # Where we are, and the names of the jobs that have not ended yet: events speak of UIDs.
    state = {"sequence": 0, "jobs": {}}
    if os.path.exists(place):
        with open(place) as file:
            state = json.load(file)
    connection = await nats.connect(url)
    start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=state["sequence"] + 1)
    log = await connection.jetstream().subscribe("stheno.v1.>", stream=STREAM, ordered_consumer=True, config=start)
    async for message in log.messages:
        envelope = msgpack.unpackb(message.data)
        for event in envelope["events"]:
            data = event["data"]
            if event["type"] == "observed.backup_job":
                state["jobs"][data["meta"]["uid"]] = data["meta"]["name"]
            elif event["type"] in ENDED:
                name = state["jobs"].pop(data["job"], data["job"])
                ended = ENDED[event["type"]]
                print(f"{envelope['at']} {envelope['ns']}/{name} {ended}: {data['message']}", flush=True)
        # Behind what it says: after a crash a line may come twice, and none is lost.
        state["sequence"] = message.metadata.sequence.stream
        with open(place + ".new", "w") as file:
            json.dump(state, file)
        os.replace(place + ".new", place)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except KeyboardInterrupt:
        pass
