#!/bin/sh
# Packages: Debian 12 apache2-bin 2.4.71-1~deb12u1, libapr1, libaprutil1 (apt-get download; needs current package lists).
# Surprise: `CacheLock on` lets no request wait. Ten simultaneous requests for a new entry are ten requests to the
# backend. Ten for an entry that has expired are one, and the other nine get the expired response immediately, though
# nothing asked for stale responses. nginx and its `proxy_cache_lock` do the reverse in both cases.
# Output seen:
#   a new entry: 10 requests to the backend
#   the same entry, expired: 1 request to the backend, 9 stale responses
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir" && chmod 755 . && mkdir -m 777 cache
apt-get download -q apache2-bin=2.4.71-1~deb12u1 libapr1=1.7.2-3+deb12u1 libaprutil1=1.6.3-1+deb12u1 > apt.log 2>&1 ||
  { cat apt.log; exit 2; }
for package in *.deb; do dpkg -x "$package" root; done
cat > run.py <<'PY'
import glob, http.server, os, socket, subprocess, sys, threading, time, urllib.request
N = 10

class Origin(http.server.BaseHTTPRequestHandler):
    lock, requests, version = threading.Lock(), 0, b"old"
    def log_message(self, *_): pass
    def do_GET(self):
        with Origin.lock:
            Origin.requests += 1
        body = Origin.version
        time.sleep(0.5)
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
here = os.getcwd()
modules = "".join(f"LoadModule {name}_module {here}/root/usr/lib/apache2/modules/mod_{name}.so\n"
                  for name in ["mpm_event", "authz_core", "proxy", "proxy_http", "cache", "cache_disk"])
open("httpd.conf", "w").write(f"""{modules}
ServerRoot {here}
ServerName localhost
DefaultRuntimeDir {here}
PidFile {here}/httpd.pid
ErrorLog {here}/error.log
User nobody
Group nogroup
Listen 127.0.0.1:{port}
ProxyPass / http://127.0.0.1:{origin.server_port}/
CacheRoot {here}/cache
CacheEnable disk /
CacheLock on
CacheLockPath {here}/cache
""")
environment = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(glob.glob("root/usr/lib/*/libapr-1.so.0")[0]))
server = subprocess.Popen(["root/usr/sbin/apache2", "-DFOREGROUND", "-f", f"{here}/httpd.conf"], env=environment)

client = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def get(path, bodies):
    bodies.append(client.open(f"http://127.0.0.1:{port}{path}", timeout=20).read())

def herd():
    Origin.requests, bodies = 0, []
    threads = [threading.Thread(target=get, args=["/page", bodies]) for _ in range(N)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return Origin.requests, bodies.count(b"old")

try:
    for _ in range(100):
        try: get("/ready", []); break
        except OSError: time.sleep(0.1)
    new, _ = herd()
    time.sleep(2.5)
    Origin.version = b"new"
    expired, stale = herd()
finally:
    server.terminate()
    server.wait()
print(f"a new entry: {new} request{'s' * (new != 1)} to the backend")
print(f"the same entry, expired: {expired} request{'s' * (expired != 1)} to the backend, {stale} stale responses")
sys.exit(not (new == N and expired == 1 and stale == N - 1))
PY
timeout 90 python3 run.py
