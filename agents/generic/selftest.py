#!/usr/bin/env python3
"""Runs the image's own agent once in a jail without a network and has one conversation with it.

build-image calls this when nothing was added to the image. This program plays the broker (model and
Bot API) on 127.0.0.1:8377, starts the command given as arguments and waits for its answer.
"""
import http.server
import json
import subprocess
import sys
import threading

PROGRAMS = (
    "awk bash curl diff file find git grep gzip jq less patch pdftotext ps python3 rg sed sqlite3 tar unzip xz zip"
)
CHAT = 555
done = threading.Event()
asked = threading.Event()


class Broker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method = self.path.rsplit("/", 1)[1]
        if self.path == "/v1/chat/completions":
            text = "heard: " + body["messages"][-1]["content"]
            answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
        elif method == "getUpdates":
            message = {"message_id": 1, "date": 1, "chat": {"id": CHAT}, "text": "good day"}
            updates = [{"update_id": 7, "message": message}] if body["offset"] < 8 else []
            if not updates:
                asked.wait(1)
            answer = {"ok": True, "result": updates}
        else:
            if method == "sendMessage" and body == {"chat_id": CHAT, "text": "heard: good day"}:
                done.set()
            answer = {"ok": True, "result": True}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main():
    missing = subprocess.run(
        ["bash", "-c", f"for p in {PROGRAMS}; do command -v $p >/dev/null || echo $p; done"],
        check=True, capture_output=True, text=True,
    ).stdout.split()
    if missing:
        sys.exit(f"selftest: missing in the image: {' '.join(missing)}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8377), Broker)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    agent = subprocess.Popen(sys.argv[1:])
    ok = done.wait(30)
    agent.terminate()
    agent.wait(10)
    if not ok:
        sys.exit("selftest: the agent did not answer")
    print("selftest: text: ok")


main()
