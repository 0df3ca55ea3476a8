"""How the checks in this folder find and run expo.

Every check takes --expo PATH. Without it the program is built from the
repository that this folder lies in, once, into the check's temporary folder.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Run:
    """One finished run: status, stdout, stderr, seconds, peak resident bytes (None if not measured)."""

    def __init__(self, args, status, stdout, stderr, seconds, peak):
        self.args = args
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.seconds = seconds
        self.peak = peak


class Expo:
    def __init__(self, path, tmp):
        if path is None:
            path = os.path.join(tmp, "expo.exe" if os.name == "nt" else "expo")
            subprocess.run(["go", "build", "-o", path, "./cmd/expo"], cwd=REPOSITORY, check=True)
        self.path = os.path.abspath(path)
        # A child starts with the peak of the process that forks it, so a
        # small program in between measures it.
        self.time = shutil.which("time", path="/usr/bin:/bin")
        self.tmp = tmp

    def command(self, *args):
        return [self.path] + [str(a) for a in args]

    def run(self, *args, timeout=600, measure=False, env=None, cwd=None):
        command = self.command(*args)
        report = os.path.join(self.tmp, "peak.txt")
        wrapped = command
        if measure and self.time:
            wrapped = [self.time, "-f", "%M", "-o", report] + command
        start = time.monotonic()
        p = subprocess.Popen(wrapped, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=cwd, start_new_session=True)
        try:
            out, err = p.communicate(timeout=timeout)
            status = p.returncode
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, err = p.communicate()
            status = "timeout"
        seconds = time.monotonic() - start
        peak = None
        if measure and self.time and status != "timeout":
            with open(report) as f:
                peak = int(f.read().split()[-1]) * 1024
        return Run(command, status, out.decode("utf-8", "backslashreplace"), err.decode("utf-8", "backslashreplace"), seconds, peak)

    def must(self, *args, **kwargs):
        r = self.run(*args, **kwargs)
        if r.status != 0:
            sys.exit(f"{' '.join(r.args)}\nended with status {r.status}:\n{r.stderr}")
        return r
