"""`ifr serve`, started by a script that measures it."""
import http.client
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


class Service:
    """The program, running on a free port of 127.0.0.1 and ready."""

    def __init__(self, binary, **settings):
        env = {"HOST": "127.0.0.1", "PORT": "0", "LOG_LEVEL": "INFO", "LOG_FORMAT": "json", **settings}
        self.process = subprocess.Popen([binary, "serve"], env=env, stderr=subprocess.PIPE, text=True)
        said = []
        for line in self.process.stderr:
            said.append(line)
            ready = re.search(r'"message":"ready".*"address":"127\.0\.0\.1:(\d+)"', line)
            if ready:
                self.port = int(ready.group(1))
                break
        else:
            sys.exit(f"the service does not start:\n{''.join(said)}")
        threading.Thread(target=self.drain, daemon=True).start()
        self.wait_until_ready()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.process.kill()
            self.process.wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self):
        end = time.monotonic() + 30
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/health/ready")
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                return
            if time.monotonic() > end:
                self.process.kill()
                sys.exit(f"the service is not ready: {status}")
            time.sleep(0.05)

    def drain(self):
        for _ in self.process.stderr:
            pass

    def status(self, field):
        """A size out of /proc, such as VmRSS and VmHWM, in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", text).group(1)) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(30) != 0:
            sys.exit("the service did not end well")
