#!/bin/sh
# Package: Debian 12 nginx 1.22.1-9+deb12u11 (apt-get download; needs current package lists).
# Surprise: `proxy_cache_lock on` makes requests for a response that must not be cached wait for each other. A waiting
# request looks every 500 ms whether the lock is free, so one of them goes upstream each 500 ms, however fast the server
# is, until `proxy_cache_lock_timeout` (5 s). Six simultaneous requests of 50 ms take 2.5 s; without the lock 50 ms.
# Output seen:
#   with the lock: 6 requests upstream, at most 1 simultaneously, the last answered after more than 2 s
#   without it: 6 requests upstream, at most 6 simultaneously
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir" && chmod 755 .
apt-get download -q nginx=1.22.1-9+deb12u11 > apt.log 2>&1 || { cat apt.log; exit 2; }
dpkg -x nginx_*.deb root
cat > run.py <<'PY'
import http.server, os, socket, subprocess, sys, threading, time, urllib.request
N, WORK = 6, 0.05

class Origin(http.server.BaseHTTPRequestHandler):
    lock, requests, running, most = threading.Lock(), 0, 0, 0
    def log_message(self, *_): pass
    def do_GET(self):
        with Origin.lock:
            Origin.requests += 1
            Origin.running += 1
            Origin.most = max(Origin.most, Origin.running)
        time.sleep(WORK)
        with Origin.lock:
            Origin.running -= 1
        self.send_response(200)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
temporary = "".join(f"{of}_temp_path {of};" for of in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
proxy = f"proxy_pass http://127.0.0.1:{origin.server_port}; proxy_cache c;"
open("nginx.conf", "w").write(f"""
daemon off; pid nginx.pid; error_log stderr crit; events {{}}
http {{ access_log off; {temporary} proxy_cache_path cache keys_zone=c:1m;
  server {{ listen 127.0.0.1:{port}; location /locked {{ {proxy} proxy_cache_lock on; }} location / {{ {proxy} }} }} }}
""")
server = subprocess.Popen(["root/usr/sbin/nginx", "-p", os.getcwd(), "-e", "stderr", "-c", "nginx.conf"])

client = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def get(path):
    return client.open(f"http://127.0.0.1:{port}{path}", timeout=20).read()

def herd(path):
    Origin.requests = Origin.most = 0
    threads = [threading.Thread(target=get, args=[path]) for _ in range(N)]
    begun = time.monotonic()
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return Origin.requests, Origin.most, time.monotonic() - begun

try:
    for _ in range(100):
        try: get("/ready"); break
        except OSError: time.sleep(0.1)
    locked, free = herd("/locked"), herd("/free")
finally:
    server.terminate()
    server.wait()
slow = locked[2] > 2
print(f"with the lock: {locked[0]} requests upstream, at most {locked[1]} simultaneously, the last answered after "
      f"{'more' if slow else 'less'} than 2 s")
print(f"without it: {free[0]} requests upstream, at most {free[1]} simultaneously")
sys.exit(not (locked[:2] == (N, 1) and slow and free[0] == N and free[1] > 1))
PY
timeout 90 python3 run.py
