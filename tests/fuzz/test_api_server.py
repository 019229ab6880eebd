"""The same made-up specs against the real API server: refused, or readable; and what it stores is played in memory."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import MaxRetryError

from headroom.errors import InvalidSpec
from tests.admission.cases import KINDS, parse_body
from tests.admission.server import Server
from tests.fuzz.play import FuzzWorld
from tests.fuzz.specs import FIRST, SPECS, build_object

pytestmark = pytest.mark.cluster
GROUP = "headroom.dev"
REFUSED = (400, 413, 422)
"""Not readable, too large, not valid: any other answer is trouble of the API server's own."""
AT_ONCE = 4
MOST_BYTES = 3 << 20
"""The API server answers a longer request before it has come whole, and ends the connection: who still sends may get
the end before the answer.
"""


def ask(server: Server, number: int) -> tuple[int, dict[str, Any] | None]:
    """The object as the API server would store it, with its defaults; None where it refuses it."""
    body = {key: value for key, value in build_object(number).items() if key != "status"}
    try:
        stored = server.try_store(GROUP, KINDS[body["kind"]], body)
    except ApiException as error:
        if error.status in REFUSED:
            return number, None
        error.add_note(f"object {number}")
        raise
    except MaxRetryError as error:
        if len(json.dumps(body)) > MOST_BYTES:
            return number, None
        error.add_note(f"object {number}")
        raise
    return number, stored


async def test_what_the_api_server_takes_the_operator_can_act_on(server: Server) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda number: ask(server, number), range(FIRST, FIRST + SPECS)))
    accepted = [(number, stored) for number, stored in answers if stored is not None]
    unreadable = [(number, problem) for number, stored in accepted if (problem := find_problem(stored))]
    assert unreadable == []
    for number, stored in accepted:
        try:
            world = FuzzWorld({**stored, "metadata": {"name": f"fuzz-{number}"}})
            await world.make_passes()
            world.check()
            await world.tear_down()
        except Exception as error:
            error.add_note(f"object {number}")
            raise
    assert len(accepted) > len(answers) // 10, "else the schema is hardly tried from inside"
    assert len(accepted) < len(answers)


def find_problem(body: dict[str, Any]) -> str:
    """Why the parser cannot read an object; empty if it can."""
    try:
        parse_body(body)
    except InvalidSpec as error:
        return str(error)
    return ""
