#!/bin/sh
# Packages: PyPI strawberry-graphql 0.341.2 (strawberry.dataloader) and, to compare, aiodataloader 0.4.3.
# Surprise: when the load function raises, strawberry's DataLoader keeps the failure for all keys of that batch. Later
# loads of them raise the same error without a call, until the keys are cleared. aiodataloader, like the original in
# JavaScript, forgets the keys of a batch that failed as a whole, and the next load calls again.
# Output seen:
#   strawberry: ['OSError', 'OSError', 'OSError'], calls of the load function: 1
#   aiodataloader: ['OSError', 'key', 'key'], calls of the load function: 2
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check strawberry-graphql==0.341.2 aiodataloader==0.4.3
cat > run.py <<'PY'
import asyncio, sys
import aiodataloader, strawberry.dataloader

async def ask(make):
    calls = 0

    async def load(keys):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("the backend is down, once")
        return keys

    loader, results = make(load), []
    for _ in range(3):
        try:
            results.append(await loader.load("key"))
        except OSError as error:
            results.append(type(error).__name__)
    return results, calls

async def main():
    kept = await ask(lambda load: strawberry.dataloader.DataLoader(load_fn=load))
    forgotten = await ask(aiodataloader.DataLoader)
    for name, (results, calls) in [("strawberry", kept), ("aiodataloader", forgotten)]:
        print(f"{name}: {results}, calls of the load function: {calls}")
    return kept == (["OSError"] * 3, 1) and forgotten == (["OSError", "key", "key"], 2)

sys.exit(not asyncio.run(main()))
PY
timeout 60 venv/bin/python run.py
