#!/bin/sh
# Package: npm async-cache-dedupe 3.4.0.
# Surprise: an argument that is a string is its own key, and any other argument is keyed by its JSON text. Concurrent
# calls with the string '{"id":1}', and with the object { id: 1 }, are one call, and so are those with 1, "1" and 1n. All
# Maps and Sets are keyed as {}. The second caller gets the result for the first one's argument.
# Output seen:
#   '{"id":1}' and { id: 1 }: string string, calls: 1
#   1, '1' and 1n: number number number, calls: 1
#   Map of 1 entry, Set of 2, Map of 3: 1 1 1, calls: 1
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts async-cache-dedupe@3.4.0
cat > run.mjs <<'JS'
import { createCache } from "async-cache-dedupe";
let calls = 0;
const cache = createCache({ ttl: 0 });
const define = (name, answer) => cache.define(name, async (argument) => {
  calls += 1;
  await new Promise((resolve) => setTimeout(resolve, 20));
  return answer(argument);
});
define("kind", (argument) => typeof argument);
define("size", (argument) => argument.size);
async function ask(name, args) {
  calls = 0;
  const answers = await Promise.all(args.map((argument) => cache[name](argument)));
  return `${answers.join(" ")}, calls: ${calls}`;
}
const objects = await ask("kind", ['{"id":1}', { id: 1 }]);
const numbers = await ask("kind", [1, "1", 1n]);
const sizes = await ask("size", [new Map([[1, 1]]), new Set([1, 2]), new Map([[1, 1], [2, 2], [3, 3]])]);
console.log(`'{"id":1}' and { id: 1 }: ${objects}`);
console.log(`1, '1' and 1n: ${numbers}`);
console.log(`Map of 1 entry, Set of 2, Map of 3: ${sizes}`);
const holds = objects === "string string, calls: 1" && numbers === "number number number, calls: 1"
  && sizes === "1 1 1, calls: 1";
process.exit(holds ? 0 : 1);
JS
node run.mjs
