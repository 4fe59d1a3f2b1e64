"""Scripted model provider for tests of real coding agents.

Speaks the two model APIs that the agents under test use, as streams of server-sent events:

    POST /v1/responses            (Codex: wire_api = "responses")
    POST /v1/chat/completions     (Pi: api = "openai-completions")

The *provider* is scripted, the agent is real: every step asks for one of the agent's own tools, which
the agent itself runs. What must not live here: any edit of the project, any judgement of the result.

A scenario (scenarios/NAME.json) is {"steps": [STEP...]}. The step to answer is found by counting the
tool results in the request, so a request that the agent repeats gets the same answer. A STEP holds one of

    "shell": COMMAND          run this with the agent's shell tool
    "edit": {path, old, new}  replace this text with the agent's edit tool (apply_patch or edit)
    "say": TEXT               end the turn with this message
    "status": NUMBER          answer with this HTTP error
    "hang": SECONDS           accept the request, say nothing for so long, then drop it
    "cut": TEXT               begin a message and drop the connection

and may hold

    "after": TEXT             the last tool result must contain this, else the answer is HTTP 400: an agent
                              whose tools did not do what the scenario says does not come to a good end
    "fail_first": [NUMBER...] HTTP errors for the first requests of this step

One line on standard error for each request says what was asked and answered.
"""

import argparse
import http.server
import json
import os
import re
import socketserver
import sys
import threading
import time

MAX_REQUEST = 16 << 20


def fail(message):
    sys.exit("provider: " + message)


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            steps = json.load(file)["steps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"cannot read the scenario {path}: {error!r}")
    actions = {"shell", "edit", "say", "status", "hang", "cut"}
    known = actions | {"after", "fail_first"}
    for number, step in enumerate(steps):
        if len(actions & step.keys()) != 1 or step.keys() - known:
            fail(f"{path}: step {number} must hold exactly one of {sorted(actions)}, and nothing unknown")
    return steps


def text_of(content):
    """The text of a tool result, whichever of the shapes of the two APIs it has."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text_of(part) for part in content)
    if isinstance(content, dict):
        return text_of(content.get("text", content.get("content", "")))
    return ""


class Responses:
    """The Responses API."""

    path = "/v1/responses"

    def __init__(self, body):
        self.tools = {tool.get("name") for tool in body.get("tools", [])}
        self.results = []
        last = ""
        for item in body.get("input", []):
            if item.get("type") not in ("function_call_output", "custom_tool_call_output"):
                continue
            last = text_of(item.get("output"))
            if item.get("call_id", "").startswith("wait_") and self.results:
                self.results[-1] += last
            else:
                self.results.append(last)
        # A command that outlasts the tool's patience (30 s at most) goes on in a session.
        running = re.search(r"^Process running with session ID ([0-9]+)$", last, re.MULTILINE)
        self.session = int(running.group(1)) if running else None

    def wait(self, call_id):
        arguments = json.dumps({"session_id": self.session, "yield_time_ms": 300_000})
        return {"type": "function_call", "call_id": call_id, "name": "write_stdin", "arguments": arguments}

    def shell(self, call_id, command):
        shapes = {"exec_command": {"cmd": command, "yield_time_ms": 30_000}, "shell_command": {"command": command}}
        for name, arguments in shapes.items():
            if name in self.tools:
                return {"type": "function_call", "call_id": call_id, "name": name, "arguments": json.dumps(arguments)}
        return None

    def edit(self, call_id, edit):
        if "apply_patch" not in self.tools:
            return None
        lines = ["*** Begin Patch", "*** Update File: " + edit["path"], "@@"]
        lines += ["-" + line for line in edit["old"].split("\n")]
        lines += ["+" + line for line in edit["new"].split("\n")]
        lines += ["*** End Patch"]
        return {"type": "custom_tool_call", "call_id": call_id, "name": "apply_patch", "input": "\n".join(lines)}

    def say(self, call_id, text):
        content = [{"type": "output_text", "text": text}]
        return {"type": "message", "role": "assistant", "id": "msg_" + call_id, "content": content}

    def stream(self, call_id, item, whole=True):
        response = {"id": "resp_" + call_id}
        events = [{"type": "response.created", "response": response}]
        events += [{"type": "response.output_item.done", "item": item}] if whole else []
        usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
        events += [{"type": "response.completed", "response": response | {"usage": usage}}] if whole else []
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


class Chat:
    """The Chat Completions API."""

    path = "/v1/chat/completions"

    def __init__(self, body):
        self.session = None
        self.tools = {tool.get("function", {}).get("name") for tool in body.get("tools", [])}
        self.results = [
            text_of(message.get("content")) for message in body.get("messages", []) if message.get("role") == "tool"
        ]

    def call(self, call_id, name, arguments):
        if name not in self.tools:
            return None
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"tool_calls": [{"index": 0, "id": call_id, "type": "function", "function": function}]}

    def shell(self, call_id, command):
        return self.call(call_id, "bash", {"command": command})

    def edit(self, call_id, edit):
        edits = [{"oldText": edit["old"], "newText": edit["new"]}]
        return self.call(call_id, "edit", {"path": edit["path"], "edits": edits})

    def say(self, call_id, text):
        return {"content": text}

    def stream(self, call_id, delta, whole=True):
        reason = "tool_calls" if "tool_calls" in delta else "stop"
        choices = [{"index": 0, "delta": {"role": "assistant"} | delta, "finish_reason": None}]
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        head = {"id": "chat_" + call_id, "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
        chunks = [head | {"choices": choices}]
        if whole:
            chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage})
        return [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + (["data: [DONE]\n\n"] if whole else [])


class Handler(http.server.BaseHTTPRequestHandler):
    steps = []
    seen = {}
    lock = threading.Lock()

    def log_message(self, *_):
        """Replaced by note(): one line a request, without times, so that runs can be compared."""

    def note(self, text):
        print(f"provider: {self.command} {self.path}: {text}", file=sys.stderr, flush=True)

    def refuse(self, status, message):
        self.note(f"HTTP {status}: {message}")
        data = json.dumps({"error": {"message": message, "type": "scripted", "code": str(status)}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        api = {kind.path: kind for kind in (Responses, Chat)}.get(self.path)
        length = self.headers.get("Content-Length", "")
        if api is None or not length.isdigit() or int(length) > MAX_REQUEST:
            return self.refuse(404, "no such API, or a request of unknown or too great length")
        try:
            asked = api(json.loads(self.rfile.read(int(length))))
        except (ValueError, AttributeError, TypeError) as error:
            return self.refuse(400, f"the request is not understood: {error!r}")
        if asked.session is not None:
            self.note(f"command of session {asked.session} still runs: wait")
            call_id = f"wait_{len(asked.results)}_{time.monotonic_ns()}"
            return self.send(asked.stream(call_id, asked.wait(call_id)))
        number = len(asked.results)
        if number >= len(self.steps):
            return self.refuse(400, f"the scenario has no step {number}")
        with self.lock:
            attempt = self.seen[number] = self.seen.get(number, -1) + 1
        return self.answer(asked, number, attempt)

    def answer(self, asked, number, attempt):
        step = self.steps[number]
        failures = step.get("fail_first", [])
        if attempt < len(failures):
            return self.refuse(failures[attempt], f"step {number}: scripted failure {attempt}")
        if "after" in step and (not asked.results or step["after"] not in asked.results[-1]):
            got = "…" + asked.results[-1][-400:] if asked.results else "no tool result"
            return self.refuse(400, f"step {number}: expected {step['after']!r} in the last tool result, got {got!r}")
        if "status" in step:
            return self.refuse(step["status"], f"step {number}: scripted failure")
        if "hang" in step:
            self.note(f"step {number}: hang")
            self.close_connection = True
            return time.sleep(step["hang"])
        kind = next(kind for kind in ("shell", "edit", "say", "cut") if kind in step)
        call_id = f"call_{number}"
        item = getattr(asked, "say" if kind == "cut" else kind)(call_id, step[kind])
        if item is None:
            return self.refuse(400, f"step {number}: the agent offers no {kind} tool, only {sorted(map(str, asked.tools))}")
        self.note(f"step {number}: {kind}")
        return self.send(asked.stream(call_id, item, whole=kind != "cut"))

    def send(self, chunks):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(chunk.encode())
            self.wfile.flush()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        """Without HTTPServer's look-up of its own name: there may be no resolver."""
        socketserver.TCPServer.server_bind(self)


def main():
    parser = argparse.ArgumentParser(description="Scripted model provider on loopback.")
    parser.add_argument("scenario", help="the scenario file")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--port-file", required=True, help="the port is written here once the provider listens")
    options = parser.parse_args()
    Handler.steps = load(options.scenario)
    try:
        server = Server(("127.0.0.1", options.port), Handler)
    except OSError as error:
        fail(f"cannot listen on 127.0.0.1:{options.port}: {error}")
    # Renamed into place: whoever waits for the file never reads half a number.
    with open(options.port_file + ".new", "w", encoding="ascii") as file:
        file.write(f"{server.server_address[1]}\n")
    os.rename(options.port_file + ".new", options.port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
