import pytest

from headroom.app import build_network, build_permitted
from headroom.errors import InvalidSpec
from headroom.policy.permitted import Permitted
from headroom.settings import Settings, parse_settings


def test_nothing_set_is_the_documented_default() -> None:
    parsed = parse_settings({"HEADROOM_POD_NAME": "p"})
    assert parsed == Settings(pod_name="p")


def test_the_policy_is_what_the_chart_sets() -> None:
    parsed = parse_settings(
        {
            "HEADROOM_POLICY_IMAGES": "postgres, registry.example.com/db/",
            "HEADROOM_POLICY_SECRET_PREFIX": "db-",
            "HEADROOM_POLICY_SECRET_LABEL": "headroom.dev/use=yes",
        }
    )
    permitted = build_permitted(parsed)
    assert permitted == Permitted(("postgres", "registry.example.com/db/"), "db-", "headroom.dev/use=yes")
    assert build_permitted(Settings()) == Permitted()


def test_the_rules_for_hosts_are_what_the_chart_sets() -> None:
    parsed = parse_settings(
        {
            "HEADROOM_POLICY_HOSTS_ALLOW": "10.0.0.0/8, {namespace}.svc",
            "HEADROOM_POLICY_HOSTS_DENY": "10.96.0.0/16",
            "KUBERNETES_SERVICE_HOST": "10.1.0.1",
        }
    )
    policy = build_network(parsed).policy
    assert policy.permits("db", "10.2.0.1", 5432)
    assert policy.permits("db.shop.svc", "192.168.0.1", 5432, namespace="shop")
    assert not policy.permits("db", "192.168.0.1", 5432)
    assert not policy.permits("db", "10.96.0.7", 5432)
    assert not policy.permits("db", "10.1.0.1", 443)
    assert not build_network(Settings()).policy.permits("db", "127.0.0.1", 5432)


def test_namespaces_are_a_comma_separated_list() -> None:
    assert parse_settings({"HEADROOM_WATCH_NAMESPACES": "a, b ,"}).watch_namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADROOM_METRICS_PORT", "http"),
        ("HEADROOM_METRICS_PORT", "70000"),
        ("HEADROOM_PROBE_PORT", "\u00b2"),
        ("HEADROOM_POLICY_IMAGES", "postgres,registry.example.com/*"),
        ("HEADROOM_POLICY_HOSTS_ALLOW", "10.0.0.0/8,*.example.com"),
        ("HEADROOM_POLICY_HOSTS_DENY", "http://db"),
        ("HEADROOM_LOG_FORMAT", "xml"),
        ("HEADROOM_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(InvalidSpec, match=variable):
        parse_settings({variable: value})
