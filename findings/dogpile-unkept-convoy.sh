#!/bin/sh
# Package: PyPI dogpile.cache 1.5.0.
# Surprise: threads that wait for a creator do not get its value, but look into the cache. If `should_cache_fn` declines
# the value, each of them runs its own creator, and they hold the key's lock: one after the other. Eight callers of a
# creator of 0.2 s take 1.6 s, where eight callers without a cache take 0.2 s.
# Output seen:
#   creators: 8, at most 1 simultaneously, different values: 8
#   the last caller waited for all of them: True
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check dogpile.cache==1.5.0
cat > run.py <<'PY'
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from dogpile.cache import make_region

N, WORK = 8, 0.2
region = make_region().configure("dogpile.cache.memory", expiration_time=60)
lock, barrier = threading.Lock(), threading.Barrier(N)
created = running = most = 0

def creator():
    global created, running, most
    with lock:
        created += 1
        running += 1
        most = max(most, running)
        value = created
    time.sleep(WORK)
    with lock:
        running -= 1
    return value

def call(_):
    barrier.wait()
    begun = time.monotonic()
    value = region.get_or_create("key", creator, should_cache_fn=lambda value: False)
    return value, time.monotonic() - begun

with ThreadPoolExecutor(N) as pool:
    values, times = zip(*pool.map(call, range(N)))
waited = max(times) >= N * WORK
print(f"creators: {created}, at most {most} simultaneously, different values: {len(set(values))}")
print("the last caller waited for all of them:", waited)
sys.exit(not (created == N and most == 1 and len(set(values)) == N and waited))
PY
timeout 60 venv/bin/python run.py
