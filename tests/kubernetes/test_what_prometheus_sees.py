# SPDX-License-Identifier: Apache-2.0
"""The last flow: what Prometheus saw of all others."""

import watch
from servers import wait_until

# Panels that are empty when nothing of their kind happened.
MAY_BE_EMPTY = {
    "Volumes with trouble", "Integrity errors", "CSI calls that fail", "Calls to the driver below that fail",
    "Time of calls to the driver below (99 %)", "Calls to the broker that fail", "Refused calls", "Clients turned away",
}  # fmt: skip
ENDS_S = 120  # of the last flow's alerts: two scrapes and two evaluations, on a busy machine


def test_prometheus(lab):
    seen = lab.prometheus
    wanted = {seen.broker, *(pod["labels"]["instance"] for pod in watch.annotated_pods(lab.kubectl))}
    wait_until(lambda: wanted <= {name for name, error in seen.targets().items() if not error}, 120,
               lambda: f"{sorted(wanted)} are scraped: {seen.targets()}", 2)  # fmt: skip
    wait_until(lambda: seen.series("up"), 60, "there are samples", 2)
    rules = seen.rules()
    assert rules and all(rule["health"] == "ok" for rule in rules), [rule for rule in rules if rule["health"] != "ok"]
    empty = [panel["title"] for panel in watch.panels()
             if panel["title"] not in MAY_BE_EMPTY and not any(seen.series(target["expr"]) for target in panel["targets"])]  # fmt: skip
    assert not empty, f"panels of the dashboard without data: {empty}"
    print("alerts that fired:", ", ".join(sorted(seen.fired())) or "none")
    watch.draw(seen, lab.folder / "dashboard.png")

    def firing() -> list[str]:
        return [rule["name"] for rule in seen.rules() if rule.get("state") == "firing"]

    wait_until(lambda: not firing(), ENDS_S, lambda: f"after all flows no alert fires: {firing()}", 5)
