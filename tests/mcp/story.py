"""What an agent does with a Compose project: PROGRAM HOME SCOPE, in the project's folder.

Runs with the official SDK, 1.x (with `initialize`) or 2.x (without). At the end the server is killed.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import traceback

from mcp import StdioServerParameters

PROGRAM, HOME, SCOPE = sys.argv[1:]


def parameters(*options):
    kept = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST", "SANDBOX_STORAGE") if name in os.environ}
    env = {**kept, "HOME": HOME, "XDG_RUNTIME_DIR": HOME, "SANDBOX_SCOPE": SCOPE}
    return StdioServerParameters(command=PROGRAM, args=["mcp", *options], env=env)


@contextlib.asynccontextmanager
async def connect(*options):
    try:
        from mcp import Client
    except ImportError:
        from mcp import ClientSession
        from mcp.client.stdio import stdio_client

        async with stdio_client(parameters(*options)) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            yield session
    else:
        async with Client(parameters(*options)) as client:
            assert client.protocol_version >= "2026-07-28", client.protocol_version
            yield client


class Agent:
    def __init__(self, session):
        self.session = session

    async def call(self, tool, /, progress=None, **arguments):
        """The facts, the untrusted text, and whether the call failed."""
        result = await self.session.call_tool(tool, arguments, progress_callback=progress)
        failed = getattr(result, "is_error", None) or getattr(result, "isError", None) or False
        facts, *rest = [part.text for part in result.content]
        marked = re.fullmatch(r'<untrusted source="[^"]*" id="(\w+)">\n(.*)</untrusted id="\1">', "".join(rest), re.S)
        assert not rest or marked, rest
        return json.loads(facts), marked[2] if marked else "", failed

    async def does(self, tool, /, progress=None, **arguments):
        facts, text, failed = await self.call(tool, progress, **arguments)
        assert not failed, (tool, facts, text)
        return facts, text

    async def fails(self, tool, /, **arguments):
        facts, text, failed = await self.call(tool, **arguments)
        assert failed, (tool, facts, text)
        assert facts["exit_code"] != 0, facts
        return facts, text


async def work(agent):
    messages = []

    async def progress(done, total, message):
        messages.append(message)

    up, _ = await agent.does("up", progress)
    assert messages, "no progress"
    main = up["sandbox"]
    assert main.startswith("shop-") and {one["service"] for one in up["services"]} == {"db", "web"}, up

    # Query the database, break it, put it back.
    count = "SELECT count(*) AS orders FROM orders"
    assert (await agent.does("sql", service="db", query=count))[1] == "orders\n3\n"
    _, error = await agent.fails("sql", service="db", query="SELECT nonsense")
    assert 'column "nonsense" does not exist' in error, error
    await agent.does("snapshot", name="before")
    await agent.does("sql", service="db", query="DELETE FROM orders WHERE customer <> 'ann'")
    copy, _ = await agent.does("fork", name="try")
    await agent.does("sql", sandbox=main, service="db", query="DROP TABLE orders")
    await agent.fails("sql", sandbox=main, service="db", query=count)
    assert (await agent.does("sql", sandbox="try", service="db", query=count))[1] == "orders\n1\n"
    await agent.does("reset", sandbox=main, to="before")
    assert (await agent.does("sql", sandbox=main, service="db", query=count))[1] == "orders\n3\n"
    await agent.does("sql", sandbox=main, service="db", query="DROP TABLE orders")
    await agent.does("reset", sandbox=main, only="db")
    assert (await agent.does("sql", sandbox=main, service="db", query=count))[1] == "orders\n3\n"
    facts, _ = await agent.fails("status")
    assert main in facts["hint"], facts
    await agent.does("down", sandbox=copy["sandbox"])

    # Call the web service, whose port is not published.
    facts, page = await agent.does("http", service="web", port=8080, path="/")
    assert facts["status"] == 200 and "welcome to the shop" in page, (facts, page)

    # Read bounded logs with a cursor: nothing twice, nothing left out.
    facts, text = await agent.does("logs", services=["web"], tail=1500)
    read, pages = text, 1
    while facts["more"]:
        assert len(text) < 20_000
        facts, text = await agent.does("logs", cursor=facts["cursor"])
        read, pages = read + text, pages + 1
    assert pages > 1 and read.splitlines() == [f"web | request {n}" for n in range(1, 1501)], (pages, read[:200])
    assert (await agent.does("logs", cursor=facts["cursor"]))[0]["lines"] == 0

    # Be refused egress, with a reason to act on.
    facts, _ = await agent.does("exec", service="web", command=["nslookup", "example.com"])
    assert facts["exit_code"] != 0, facts
    facts, refusals = await agent.does("egress")
    assert facts["policy"] == "deny" and "example.com" in refusals and "allows it" in refusals, (facts, refusals)
    spec = pathlib.Path("compose.yaml")
    good = spec.read_text()
    spec.write_text(good.replace("x-sandbox: {", "x-sandbox: { egress: [example.com],"))
    facts, _ = await agent.fails("up")
    assert "example.com" in facts["error"] and "--egress" in facts["hint"], facts

    # Be refused host access, with a reason to act on.
    for bad in ("privileged: true", "network_mode: host", "volumes: ['/:/host']", "pid: host"):
        spec.write_text(good.replace("    expose:", f"    {bad}\n    expose:"))
        facts, _ = await agent.fails("up")
        assert "no access to the host" in json.dumps(facts), facts
    spec.write_text(good)
    facts, _ = await agent.fails("exec", service="web", command=["true"], privileged=True)
    assert "privileged" in facts["error"], facts
    await agent.does("snapshot", name="after")


def children():
    found = []
    for task in pathlib.Path("/proc/self/task").iterdir():
        found += (task / "children").read_text().split()
    return [int(pid) for pid in found]


async def main():
    async with connect() as session:
        try:
            listed = await session.list_tools()
            assert not any(getattr(tool, "outputSchema", None) for tool in listed.tools)
            await work(Agent(session))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        [server] = [pid for pid in children() if "mcp" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()]
        os.kill(server, signal.SIGKILL)
        print("the agent is done", flush=True)
        os._exit(0)


asyncio.run(main())
