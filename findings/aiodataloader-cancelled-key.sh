#!/bin/sh
# Package: PyPI aiodataloader 0.4.3.
# Surprise: a caller that times out poisons its key. `wait_for` cancels the future that the cache keeps, so every later
# load of the key raises CancelledError in a task that nobody cancelled, until the key is cleared. The batch function
# ran to its end, and is not called again.
# Output seen:
#   first load: TimeoutError
#   load after the batch has ended: CancelledError
#   load after that: CancelledError
#   calls of the batch function: 1
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check aiodataloader==0.4.3
cat > run.py <<'PY'
import asyncio, sys
from aiodataloader import DataLoader

async def main():
    calls, begun, gate, ended = 0, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def batch(keys):
        nonlocal calls
        calls += 1
        begun.set()
        await gate.wait()
        ended.set()
        return keys

    loader = DataLoader(batch)

    async def load(timeout):
        try:
            return await asyncio.wait_for(loader.load("key"), timeout)
        except BaseException as error:
            return type(error).__name__

    first = await load(0.2)
    await begun.wait()
    gate.set()
    await ended.wait()
    later = [await load(10), await load(10)]
    print("first load:", first)
    print("load after the batch has ended:", later[0])
    print("load after that:", later[1])
    print("calls of the batch function:", calls)
    return (first, later, calls) == ("TimeoutError", ["CancelledError"] * 2, 1)

sys.exit(not asyncio.run(main()))
PY
timeout 60 venv/bin/python run.py
