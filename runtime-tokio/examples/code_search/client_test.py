"""The MCP server example, driven by a real MCP client: the package `mcp`, version 2.

`cargo mcp-check` runs it, with the example's program and the database's URL as arguments. A line on standard output
that begins with "!" is a command to whoever runs it (crash, start, lock, ...), answered by one line on standard input.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import mcp
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

LIMIT = 60
HEALTH = "health://connection-pool"
METRICS = "metrics://prometheus"
LOGGED = [
    "pgweir.init.done",
    "code_search.serving",
    "pgweir.connectivity.lost",
    "pgweir.reconnect.scheduled",
    "code_search.call.failed",
    "pgweir.connectivity.recovered",
    "code_search.ending",
    "pgweir.shutdown.started",
    "pgweir.shutdown.done",
    "code_search.ended",
]
passed = 0


def check(what, condition, seen=None):
    """Counts a check, or ends the test."""
    global passed
    if not condition:
        print(f"FAIL {what}: {seen!r}", flush=True)
        sys.exit(1)
    passed += 1
    print(f"ok   {what}", flush=True)


async def database(command):
    """Has something done to the database."""
    print(f"!{command}", flush=True)
    reply = (await anyio.to_thread.run_sync(sys.stdin.readline)).strip()
    if reply != "ok":
        check(f"the database obeys: {command}", False, reply)


async def eventually(what, condition):
    """Waits until the condition's value is true, and returns it."""
    with anyio.move_on_after(LIMIT):
        while not (value := await condition()):
            await anyio.sleep(0.05)
        return value
    check(what, False, f"not within {LIMIT} s")


class Server:
    """The example's program: how a client starts it, and what it leaves behind.

    It runs under this script (see `record`), which writes down what goes over standard output, and how it ends.
    """

    numbers = itertools.count(1)

    def __init__(self, program, url, root):
        self.folder = Path(tempfile.mkdtemp(prefix="mcp-check-"))
        self.log = self.folder / "log"
        settings = {
            "DATABASE_URL": url,
            "POOL_MIN_SIZE": "1",
            "POOL_MAX_SIZE": "3",
            "POOL_OUTAGE_GRACE": "300ms",
            "POOL_BACKOFF_INITIAL": "100ms",
            "POOL_BACKOFF_MAX": "500ms",
        }
        command = [program, "--log", str(self.log), "--root", str(root)]
        arguments = [__file__, "--record", str(self.folder), *command]
        self.parameters = StdioServerParameters(command=sys.executable, args=arguments, env=settings)

    def pid(self):
        return int((self.folder / "pid").read_text())

    def events(self):
        """The log's whole lines; each must be JSON."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    async def event(self, name):
        async def find():
            return next((event for event in self.events() if event["name"] == name), None)

        return await eventually(f"event {name}", find)

    async def code(self):
        """The exit code, once it has ended."""

        async def find():
            ended = self.folder / "code"
            return ended.exists() and ended.read_text()

        return int(await eventually("the server ends", find))

    def check_streams(self):
        messages = [json.loads(line) for line in (self.folder / "stdout").read_text().splitlines()]
        check(
            f"standard output: {len(messages)} lines, JSON-RPC all of them",
            messages and all(message.get("jsonrpc") == "2.0" for message in messages),
            messages,
        )
        errors = (self.folder / "stderr").read_text()
        check("standard error: empty", errors == "", errors)


def record(folder, command):
    """Runs the server, and writes down its process id, its output and how it ends."""
    folder = Path(folder)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the client's last resort is meant for the server
    with open(folder / "stdout", "wb", buffering=0) as out, open(folder / "stderr", "wb") as errors:
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )
        (folder / "pid").write_text(str(server.pid))
        for line in server.stdout:
            out.write(line)
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        code = server.wait()
    (folder / "code.new").write_text(str(code))
    (folder / "code.new").rename(folder / "code")


async def health(client):
    result = await client.read_resource(HEALTH)
    return json.loads(result.contents[0].text)


async def search(client, **arguments):
    result = await client.call_tool("search_code", arguments)
    return result.structured_content["matches"]


async def failure(call):
    """The error that a call ends with."""
    try:
        result = await call
    except MCPError as error:
        return error
    check("the call fails", False, result)


async def searches(client, root):
    """What works while all is well."""
    tools = sorted(tool.name for tool in (await client.list_tools()).tools)
    check("the tools are listed", tools == ["index_folder", "index_status", "search_code"], tools)
    uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
    check("the resources are listed", uris == [HEALTH, METRICS], uris)
    indexed = (await client.call_tool("index_folder", {"folder": "."})).structured_content
    check("a folder is indexed", indexed["added"] == 2 and indexed["complete"], indexed)
    found = await search(client, query="backoffDelay")
    check("a search finds the line", [(match["line"], match["language"]) for match in found] == [(2, "rust")], found)
    (root / "tool.py").write_text("def reservoir():\n    pass\n")
    again = (await client.call_tool("index_folder", {"folder": "."})).structured_content
    check("only what changed is indexed again", (again["changed"], again["unchanged"]) == (1, 1), again)
    found = await search(client, query="reservoir")
    check("and found", len(found) == 1 and found[0]["path"].endswith("tool.py"), found)
    refused = await client.call_tool("index_folder", {"folder": "/"})
    check("a folder outside of the root is refused", refused.is_error and "--root" in refused.content[0].text, refused)
    metrics = (await client.read_resource(METRICS)).contents[0].text
    check("the metrics are there", "# TYPE db_client_connection_count gauge" in metrics, metrics)
    report = await health(client)
    check("health: healthy", report["status"] == "healthy" and report["database"]["status"] == "connected", report)


async def outage(client):
    """The database crashes under a call, stays away, and comes back."""
    errors = []

    async def interrupted():
        errors.append(await failure(client.call_tool("search_code", {"query": "backoff"})))

    await database("lock")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interrupted)
        await database("wait-for-blocked")
        await database("crash")
    data = errors[0].data
    check("a call that the crash interrupts fails with DATABASE_ERROR", data["code"] == "DATABASE_ERROR", data)
    check("and says that the connection is lost", data["details"]["error_type"] == "connection_lost", data)

    async def unhealthy():
        report = await health(client)
        return report["status"] == "unhealthy" and report

    report = await eventually("health says unhealthy", unhealthy)
    check("health: unhealthy", report["status"] == "unhealthy", report)
    check("health: disconnected, with reasons", report["database"]["status"] == "disconnected" and report["reasons"])
    error = await failure(client.call_tool("search_code", {"query": "backoff"}))
    data, details = error.data, error.data["details"]
    check("the next call fails with DATABASE_ERROR", data["code"] == "DATABASE_ERROR", data)
    check("with the same message in the data", data["message"] == error.message, data)
    check("error_type is unavailable", details["error_type"] == "unavailable", details)
    check("suggestion says what to do", "call again" in details["suggestion"], details)
    statistics = details["pool_statistics"]
    seen = (statistics["state"], statistics["max_size"], statistics["last_error_class"])
    check("pool_statistics say how the pool is", seen == ("unhealthy", 3, "transient"), statistics)

    await database("unlock")
    await database("start")

    async def recovered():
        try:
            return await search(client, query="backoff")
        except MCPError as error:
            check("until then it is DATABASE_ERROR", error.data["code"] == "DATABASE_ERROR", error.data)

    found = await eventually("searches work again", recovered)
    check("after the start searches work again, without a restart of the server", len(found) == 1, found)

    async def healthy():
        report = await health(client)
        return report["status"] in ("healthy", "degraded") and report["database"]["status"] == "connected"

    check("health: connected", await eventually("health says connected", healthy))


async def end_under_work(client, server):
    """SIGTERM in the middle of a call."""
    found = []

    async def long_call():
        found.append(await search(client, query="backoff"))

    await database("lock")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(long_call)
        await database("wait-for-blocked")
        os.kill(server.pid(), signal.SIGTERM)
        await server.event("code_search.ending")
        error = await failure(client.call_tool("index_status", {}))
        check("after SIGTERM no new call is taken", error.data["code"] == "SHUTTING_DOWN", error.data)
        await database("unlock")
    check("the call in progress gets its answer", len(found[0]) == 1, found)
    check("the exit code is 0", await server.code() == 0)
    await database("wait-for-none")
    check("no backend is left", True)


def check_connected(client):
    name = client.server_info.name
    check(f"connected, protocol {client.protocol_version}", name == "code_search", name)


def check_log(server):
    events = server.events()
    fields = ("timestamp", "level", "target", "message", "fields")
    complete = all(all(field in event for field in fields) for event in events)
    check(f"the log: {len(events)} events, JSON all of them", complete, events)
    missing = [name for name in LOGGED if not any(event["name"] == name for event in events)]
    check("the log has every event of the story", not missing, missing)


async def main(program, url):
    root = Path(tempfile.mkdtemp(prefix="mcp-check-code-"))
    (root / "backoff.rs").write_text("// Waits.\nfn backoff_delay() {}\n")
    (root / "tool.py").write_text("def weir():\n    pass\n")
    server = Server(program, url, root)
    async with Client(server.parameters) as client:
        check_connected(client)
        await searches(client, root)
        await outage(client)
        await end_under_work(client, server)
    server.check_streams()
    check_log(server)

    # The protocol before 2026, and the end that hosts usually choose: they close the input.
    server = Server(program, url, root)
    async with Client(server.parameters, mode="legacy") as client:
        check_connected(client)
        found = await search(client, query="backoff")
        check("what was indexed is still there", len(found) == 1, found)
    check("the end of the input ends it, with exit code 0", await server.code() == 0)
    server.check_streams()
    await database("wait-for-none")
    print(f"{passed} checks passed, with the client of mcp {version()}", flush=True)


def version():
    from importlib.metadata import version

    return version(mcp.__name__)


if __name__ == "__main__":
    if sys.argv[1] == "--record":
        record(sys.argv[2], sys.argv[3:])
    else:
        anyio.run(main, *sys.argv[1:])
