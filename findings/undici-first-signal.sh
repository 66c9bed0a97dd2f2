#!/bin/sh
# Package: npm undici 7.30.2, interceptors.deduplicate().
# Surprise: when the first caller of a deduplicated request aborts, all others get its AbortError, although they passed
# no signal and the server is about to answer. Nothing is sent again on their behalf.
# Output seen:
#   nobody aborts: 200 200 200, requests at the server: 1
#   the first caller aborts: AbortError AbortError AbortError, requests at the server: 1
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts undici@7.30.2
cat > run.mjs <<'JS'
import { createServer } from "node:http";
import { Agent, interceptors, request } from "undici";
let arrived;
const server = createServer((_, response) => arrived.push(response)).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const dispatcher = new Agent().compose(interceptors.deduplicate());

async function ask(path, abort) {
  arrived = [];
  const url = `http://127.0.0.1:${server.address().port}${path}`;
  const controller = new AbortController();
  const get = async (signal) => {
    const response = await request(url, { dispatcher, signal });
    await response.body.text();
    return response.statusCode;
  };
  const calls = [controller.signal, undefined, undefined].map((signal) => get(signal).catch((error) => error.name));
  while (!arrived.length) await new Promise((resolve) => setTimeout(resolve, 10));
  if (abort) controller.abort();
  else for (const response of arrived) response.end("ok");
  return `${(await Promise.all(calls)).join(" ")}, requests at the server: ${arrived.length}`;
}
const calm = await ask("/calm", false);
const aborted = await ask("/aborted", true);
console.log("nobody aborts:", calm);
console.log("the first caller aborts:", aborted);
const all = (what) => `${what} ${what} ${what}, requests at the server: 1`;
process.exit(calm === all("200") && aborted === all("AbortError") ? 0 : 1);
JS
timeout 60 node run.mjs
