#!/bin/sh
# Package: npm lru-cache 11.5.3.
# Surprise: a load that is in flight takes a place in the cache, and is evicted as a value is. With `max: 2`, four
# concurrent `fetch()` calls for different keys call fetchMethod four times, every load succeeds, and the first two
# callers get a rejection. A burst of more keys than `max` fails.
# Output seen:
#   a: Error: evicted
#   b: Error: evicted
#   c: c!
#   d: d!
#   loads that succeeded: 4
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts lru-cache@11.5.3
cat > run.mjs <<'JS'
import { LRUCache } from "lru-cache";
let loaded = 0;
const cache = new LRUCache({
  max: 2,
  fetchMethod: async (key) => {
    await new Promise((resolve) => setTimeout(resolve, 50));
    loaded += 1;
    return `${key}!`;
  },
});
const keys = ["a", "b", "c", "d"];
const results = await Promise.allSettled(keys.map((key) => cache.fetch(key)));
const told = results.map((result) => String(result.value ?? result.reason));
keys.forEach((key, i) => console.log(`${key}: ${told[i]}`));
await new Promise((resolve) => setTimeout(resolve, 200));
console.log("loads that succeeded:", loaded);
const seen = ["Error: evicted", "Error: evicted", "c!", "d!"];
process.exit(loaded === 4 && told.every((what, i) => what === seen[i]) ? 0 : 1);
JS
node run.mjs
