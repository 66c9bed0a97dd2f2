#!/bin/sh
# Package: npm dataloader 2.2.3.
# Surprise: a key whose value is cached does not resolve while another key waits in the batch of the same tick. A cache
# hit is then as slow as the slowest load beside it. aiodataloader, the Python port, returns the cached value immediately.
# Output seen:
#   cached key beside a pending load: still waiting
#   cached key after the load: A
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts dataloader@2.2.3
cat > run.mjs <<'JS'
import DataLoader from "dataloader";
let open;
const gate = new Promise((resolve) => { open = resolve; });
const loader = new DataLoader(async (keys) => {
  if (keys.includes("slow")) await gate;
  return keys.map((key) => key.toUpperCase());
});
await loader.load("a");

const slow = loader.load("slow");
const hit = loader.load("a");
const patience = new Promise((resolve) => setTimeout(resolve, 1000, "still waiting"));
const before = await Promise.race([hit, patience]);
console.log("cached key beside a pending load:", before);
open();
await slow;
const after = await hit;
console.log("cached key after the load:", after);
process.exit(before === "still waiting" && after === "A" ? 0 : 1);
JS
node run.mjs
