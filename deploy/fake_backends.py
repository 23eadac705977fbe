"""Two backends for deploy/check.sh's tests of proxies: fake_backends.py STATUS SECONDS LOG.

On ports 18974 and 18975 each answers GET with 200 at once. Of the POST requests to both together, every third is
answered with 200, the others with STATUS, after SECONDS. Each POST adds a line to the file LOG.
"""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

status, seconds, log = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
lock = threading.Lock()
count = 0


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        global count
        self.rfile.read(int(self.headers["content-length"]))
        with lock:
            count += 1
            number = count
            with open(log, "a") as file:
                file.write(f"{number}\n")
        time.sleep(seconds)
        self.answer(200 if number % 3 == 0 else status)

    def log_message(self, *_):
        pass


for port in (18974, 18975):
    server = ThreadingHTTPServer(("127.0.0.1", port), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Event().wait()
