"""Alerts and dashboard: they ask for metrics and labels that there are, and each alert has its place in the runbook."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql
import pytest
import yaml
from deploy.files import FILES, PAGES

OF_TYPE, OF_COMMAND, OF_OUTCOME = (
    {"entity_type"},
    {"entity_type", "command"},
    {"entity_type", "command", "outcome"},
)
OF_PROMETHEUS = {"instance", "job"}

COUNTERS: dict[str, set[str]] = {
    "sent": OF_COMMAND,
    "handled": OF_OUTCOME,
    "failures": OF_COMMAND,
    "dead": OF_COMMAND,
    "claims": OF_TYPE,
    "passivations": OF_TYPE,
    "handoffs": OF_TYPE,
    "paused": OF_TYPE,
    "leases_lost": set(),
    "fenced_commits": OF_TYPE,
    "redis_requests": set(),
}
HISTOGRAMS: dict[str, set[str]] = {
    "handling_seconds": OF_COMMAND,
    "waiting_seconds": OF_COMMAND,
    "call_seconds": OF_OUTCOME,
    "loop_lag_seconds": set(),
}
GAUGES: dict[str, set[str]] = {
    "workers": OF_TYPE,
    "lease_left_seconds": set(),
    "pending": OF_TYPE,
    "oldest_waiting_seconds": OF_TYPE,
    "deepest_mailbox": OF_TYPE,
    **{name: set() for name in ("pods", "ready", "held", "dead_letters", "put_off", "entities_owned")},
}
METRICS: dict[str, set[str]] = {
    "up": set(),
    **{f"trioqueue_{name}_total": labels for name, labels in COUNTERS.items()},
    **{f"trioqueue_{name}": labels for name, labels in GAUGES.items()},
    **{
        f"trioqueue_{name}_{part}": labels | ({"le"} if part == "bucket" else set())
        for name, labels in HISTOGRAMS.items()
        for part in ("bucket", "sum", "count")
    },
}
COUNTS = {name for name in METRICS if name.endswith(("_total", "_bucket", "_sum", "_count"))}

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FILES / "grafana.json").read_text())
RUNBOOK = (PAGES / "runbook.md").read_text()


def parts(expression: Any) -> Iterator[Any]:
    """Gives an expression and all that it is made of."""
    yield expression
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        inner = getattr(expression, name, None)
        if inner is not None and not isinstance(inner, str):
            yield from parts(inner)
    for inner in getattr(expression, "args", []):
        yield from parts(inner)


def selectors(expression: Any) -> list[Any]:
    return [part for part in parts(expression) if isinstance(part, promql.VectorSelector)]


def check_query(text: str) -> None:
    """Says that a query can be read, and asks for what there is."""
    parsed = promql.parse(text)
    asked = selectors(parsed)
    assert {one.name for one in asked} <= set(METRICS), text
    for one in asked:
        for matcher in one.matchers.matchers:
            assert matcher.name in METRICS[one.name] | OF_PROMETHEUS, text
    for part in parts(parsed):
        if isinstance(part, promql.AggregateExpr) and part.modifier is not None:
            has = set.union(*(METRICS[one.name] for one in selectors(part))) | OF_PROMETHEUS
            assert set(part.modifier.labels) <= has, text
        if isinstance(part, promql.Call):
            (grows,) = {one.name in COUNTS for one in selectors(part)} or {None}
            if part.func.name in {"rate", "increase"}:
                assert grows, f"{text}: what is counted needs a rate, and nothing else takes one"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_whole(rule: dict[str, Any]) -> None:
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    check_query(rule["expr"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_summary_names_labels_that_its_alert_has(rule: dict[str, Any]) -> None:
    parsed = promql.parse(rule["expr"])
    kept = {label for part in parts(parsed) if isinstance(part, promql.AggregateExpr) and part.modifier
            for label in part.modifier.labels}  # fmt: skip
    if not any(isinstance(part, promql.AggregateExpr) for part in parts(parsed)):
        kept = OF_PROMETHEUS
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= kept


def test_each_alert_has_its_place_in_the_runbook_and_the_other_way_round() -> None:
    headings = re.findall(r"^## (Trioqueue\w+)$", RUNBOOK, re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        page, anchor = rule["annotations"]["runbook_url"].rsplit("#")
        assert page == "https://runbook.example.com/runbook.html"
        assert anchor == rule["alert"].lower()


def test_the_runbook_says_of_each_alert_what_it_means_where_to_look_and_what_to_do() -> None:
    for section in re.split(r"^## (?=Trioqueue)", RUNBOOK, flags=re.MULTILINE)[1:]:
        section = section.partition("\n## ")[0]
        name = section.partition("\n")[0]
        told = re.findall(r"^\*\*(\w+)\*\*", section, re.MULTILINE)
        assert told == ["Meaning", "Look", "Act"], name
        look = section.partition("**Look**")[2].partition("**Act**")[0]
        assert "`trioqueue " in look, name


def test_each_metric_is_on_the_dashboard() -> None:
    asked = {one.name for query in queries() for one in selectors(promql.parse(filled(query)))}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in METRICS} - {
        re.sub("_(bucket|sum|count)$", "", name) for name in asked
    } == {"up"}


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def filled(query: str) -> str:
    """Puts something in place of the dashboard's variables."""
    return query.replace("$__rate_interval", "1m").replace("$entity_type", ".*")


@pytest.mark.parametrize("query", queries())
def test_a_query_of_the_dashboard(query: str) -> None:
    check_query(filled(query))
    assert "$" not in filled(query)


def test_the_dashboard_can_be_imported() -> None:
    """It names no source of data but a variable that whoever imports it sets, and no panel lies on another one."""
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    panels = DASHBOARD["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    assert "id" not in DASHBOARD, "Grafana gives it one"
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        for source in [panel, *panel.get("targets", [])]:
            assert source.get("datasource", {}).get("uid", "${datasource}") == "${datasource}"
    sources = set(re.findall(r'"uid": "(\$[^"]*)"', json.dumps(DASHBOARD)))
    assert sources == {"${datasource}"}
