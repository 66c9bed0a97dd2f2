#!/bin/sh
# Packages: npm structured-headers 2.1.0 and PyPI http_sfv 0.9.9, two implementations of structured fields (RFC 9651).
# Surprise: structured-headers writes a decimal whose fraction rounds to zero with nothing behind the point, and its own
# parser refuses that, as section 4.2.4 demands. http_sfv parses it. The two also round the exact tie 0.0625 to
# different digits, where section 4.1.5 demands the even one.
# Output seen:
#   structured-headers writes 1.0005 as "1." and 0.0625 as "0.063"
#   structured-headers reads "1.": Error
#   http_sfv reads "1.": 1
#   http_sfv writes 0.0625 as "0.062"
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts structured-headers@2.1.0
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check http_sfv==0.9.9
cat > run.mjs <<'JS'
import { parseItem, serializeItem } from "structured-headers";
const write = (value) => serializeItem([value, new Map()]);
let read;
try {
  read = parseItem("1.")[0];
} catch {
  read = "Error";
}
console.log(`structured-headers writes 1.0005 as "${write(1.0005)}" and 0.0625 as "${write(0.0625)}"`);
console.log(`structured-headers reads "1.": ${read}`);
process.exit(write(1.0005) === "1." && write(0.0625) === "0.063" && read === "Error" ? 0 : 1);
JS
cat > run.py <<'PY'
import sys
from http_sfv import Item
read, tie = Item(), Item()
try:
    read.parse(b"1.")
    value = read.value
except ValueError:
    value = "Error"
tie.value = 0.0625
print(f'http_sfv reads "1.": {value}')
print(f'http_sfv writes 0.0625 as "{tie}"')
sys.exit(not (value == 1 and str(tie) == "0.062"))
PY
node run.mjs
venv/bin/python run.py
