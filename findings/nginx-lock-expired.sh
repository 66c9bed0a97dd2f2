#!/bin/sh
# Package: Debian 12 nginx 1.22.1-9+deb12u11 (apt-get download; needs current package lists).
# Surprise: `proxy_cache_lock on` protects a new entry, and not one that has expired. Ten simultaneous requests for a new
# entry are one request upstream; when the entry has expired, which is when a hot page meets its herd, they are ten.
# Output seen:
#   a new entry: 1 request upstream
#   the same entry, expired: 10 requests upstream
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir" && chmod 755 .
apt-get download -q nginx=1.22.1-9+deb12u11 > apt.log 2>&1 || { cat apt.log; exit 2; }
dpkg -x nginx_*.deb root
cat > run.py <<'PY'
import http.server, os, socket, subprocess, sys, threading, time, urllib.request
N = 10

class Origin(http.server.BaseHTTPRequestHandler):
    lock, requests = threading.Lock(), 0
    def log_message(self, *_): pass
    def do_GET(self):
        with Origin.lock:
            Origin.requests += 1
        time.sleep(0.5)
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
temporary = "".join(f"{of}_temp_path {of};" for of in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
open("nginx.conf", "w").write(f"""
daemon off; pid nginx.pid; error_log stderr crit; events {{}}
http {{ access_log off; {temporary} proxy_cache_path cache keys_zone=c:1m;
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://127.0.0.1:{origin.server_port}; proxy_cache c; proxy_cache_lock on; }} }} }}
""")
server = subprocess.Popen(["root/usr/sbin/nginx", "-p", os.getcwd(), "-e", "stderr", "-c", "nginx.conf"])

client = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def get(path):
    return client.open(f"http://127.0.0.1:{port}{path}", timeout=20).read()

def herd():
    Origin.requests = 0
    threads = [threading.Thread(target=get, args=["/page"]) for _ in range(N)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return Origin.requests

try:
    for _ in range(100):
        try: get("/ready"); break
        except OSError: time.sleep(0.1)
    new = herd()
    time.sleep(2.5)
    expired = herd()
finally:
    server.terminate()
    server.wait()
print(f"a new entry: {new} request{'s' * (new != 1)} upstream")
print(f"the same entry, expired: {expired} request{'s' * (expired != 1)} upstream")
sys.exit(not (new == 1 and expired == N))
PY
timeout 90 python3 run.py
