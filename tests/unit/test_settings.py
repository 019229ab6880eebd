import pytest

from headroom.errors import InvalidSpec
from headroom.settings import Settings, parse_settings


def test_nothing_set_is_the_documented_default() -> None:
    parsed = parse_settings({"HEADROOM_POD_NAME": "p"})
    assert parsed == Settings(pod_name="p")


def test_namespaces_are_a_comma_separated_list() -> None:
    assert parse_settings({"HEADROOM_WATCH_NAMESPACES": "a, b ,"}).watch_namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADROOM_HTTP_PORT", "http"),
        ("HEADROOM_HTTP_PORT", "70000"),
        ("HEADROOM_LOG_FORMAT", "xml"),
        ("HEADROOM_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(InvalidSpec, match=variable):
        parse_settings({variable: value})
