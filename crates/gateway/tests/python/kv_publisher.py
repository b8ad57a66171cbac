"""Publishes events of a cache as vLLM and SGLang do, with pyzmq and msgspec, as told by lines on standard input."""

import sys
import threading

import msgspec
import zmq


def shapes(array_like):
    """The events' structs: as arrays (SGLang, older vLLM) or as maps (vLLM)."""

    class Event(msgspec.Struct, array_like=array_like, omit_defaults=True, tag=True):
        pass

    class BlockStored(Event):
        block_hashes: list[int | bytes]
        parent_block_hash: int | bytes | None
        token_ids: list[int]
        block_size: int
        lora_id: int | None

    class BlockRemoved(Event):
        block_hashes: list[int | bytes]

    class AllBlocksCleared(Event):
        pass

    class Batch(msgspec.Struct, array_like=array_like, omit_defaults=True):
        ts: float
        events: list[BlockStored | BlockRemoved | AllBlocksCleared]
        data_parallel_rank: int | None = None

    return BlockStored, BlockRemoved, AllBlocksCleared, Batch


def replay(router, kept):
    while True:
        client, empty, start = router.recv_multipart()
        assert empty == b"", empty
        for number, payload in list(kept):
            if number >= int.from_bytes(start, "big"):
                router.send_multipart((client, b"", number.to_bytes(8, "big"), payload))
        router.send_multipart((client, b"", (-1).to_bytes(8, "big", signed=True), b""))


context = zmq.Context.instance()
publish = context.socket(zmq.PUB)
router = context.socket(zmq.ROUTER)
ports = sys.argv[1:] or [0, 0]
for place, socket in enumerate((publish, router)):
    socket.bind(f"tcp://127.0.0.1:{ports[place]}")
    ports[place] = socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1]
print(*ports, flush=True)
kept = []
threading.Thread(target=replay, args=(router, kept), daemon=True).start()
number = 0
for line in sys.stdin:
    shape, what, how = line.split()
    stored, removed, cleared, batch = shapes(shape == "arrays")
    events = {
        "store": lambda: [stored([-5, 2**63 + 1], None, list(range(32)), 16, None), stored([b"h" * 32], -5, [1] * 16, 16, None)],
        "remove": lambda: [removed([b"h" * 32, -5])],
        "clear": lambda: [cleared()],
    }[what]()
    payload = msgspec.msgpack.encode(batch(1.5, events, 0))
    if how != "forgotten":
        kept.append((number, payload))
    if how == "sent":
        publish.send_multipart((b"", number.to_bytes(8, "big"), payload))
    number += 1
