#!/bin/sh
# Package: npm cache-manager 7.2.9.
# Surprise: `del` and `set` do not reach a load of `wrap` that is in flight. Its value is stored when it arrives, over the
# deletion and over the newer value, and stays for the whole TTL.
# Output seen:
#   after set: read before the change
#   after del: read before the change
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts cache-manager@7.2.9
cat > run.mjs <<'JS'
import { createCache } from "cache-manager";
const cache = createCache();
async function changed(key, change) {
  let began, finish;
  const begun = new Promise((resolve) => { began = resolve; });
  const gate = new Promise((resolve) => { finish = resolve; });
  const load = cache.wrap(key, async () => {
    began();
    await gate;
    return "read before the change";
  }, 60_000);
  await begun;
  await change(key);
  finish();
  await load;
  return cache.get(key);
}
const set = await changed("a", (key) => cache.set(key, "the change"));
const del = await changed("b", (key) => cache.del(key));
console.log("after set:", set);
console.log("after del:", del);
const stale = "read before the change";
process.exit(set === stale && del === stale ? 0 : 1);
JS
node run.mjs
