#!/bin/sh
# Package: npm http-cache-semantics 4.3.0, which make-fetch-happen and cacheable-request decide freshness with.
# Surprise: of a directive that is there twice, the last one counts. RFC 9111, section 4.2.1, wants the first one, or
# the response to count as stale. A proxy that appends a directive thus makes the response live longer here.
# Output seen:
#   max-age=10, max-age=3600 lives 3600 s
#   max-age=3600, max-age=10 lives 10 s
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts http-cache-semantics@4.3.0
cat > run.mjs <<'JS'
import CachePolicy from "http-cache-semantics";
const request = { method: "GET", url: "/", headers: {} };
const life = (directives) =>
  new CachePolicy(request, { status: 200, headers: { "cache-control": directives } }).maxAge();
const [up, down] = ["max-age=10, max-age=3600", "max-age=3600, max-age=10"];
for (const directives of [up, down]) console.log(`${directives} lives ${life(directives)} s`);
process.exit(life(up) === 3600 && life(down) === 10 ? 0 : 1);
JS
node run.mjs
