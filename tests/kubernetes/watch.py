# SPDX-License-Identifier: Apache-2.0
"""Prometheus in the cluster, with tdvol's alerts and the questions of its dashboard."""

import http.server
import json
import pathlib
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import kube
import nodes
import programs
from servers import Server, wait_until

sys.path.append(str(programs.TREE / "tests"))
import prometheus  # noqa: E402

PORT = 9090
MONITORING = programs.TREE / "deploy/monitoring"
INTERVAL_S = 15
SCALES = {"bytes": (1 << 20, "MiB"), "s": (1, "s"), "ops": (1, "per s"), "short": (1, "")}  # of a panel's unit: divisor and name
DAY_S = 86400
NAMED = 8  # lines of a panel that are named: those with the highest values
VARIABLES = {"$__rate_interval": f"{4 * INTERVAL_S}s", "$instance": ".*"}  # as Grafana would fill them in


def panels() -> list[dict]:
    """Those of the dashboard that show something, with their questions as Prometheus takes them."""
    made = json.loads((MONITORING / "dashboard.json").read_text())
    found = [panel for panel in made["panels"] if panel.get("targets")]
    for target in (target for panel in found for target in panel["targets"]):
        for name, value in VARIABLES.items():
            target["expr"] = target["expr"].replace(name, value)
    return found


def annotated_pods(kubectl: kube.Kubectl) -> list[dict]:
    """The plugin's pods as targets, by their annotations. Prometheus could ask the API server, but not as Debian builds it."""
    found = []
    for pod in kubectl.find_all("pods", "-n", "tdvol"):
        notes, address = pod["metadata"].get("annotations", {}), pod["status"].get("podIP")
        if notes.get("prometheus.io/scrape") == "true" and address and "deletionTimestamp" not in pod["metadata"]:
            labels = {"__metrics_path__": notes["prometheus.io/path"], "instance": pod["metadata"]["name"]}
            found.append({"targets": [f"{address}:{notes['prometheus.io/port']}"], "labels": labels})
    return found


def serve_pods(kubectl: kube.Kubectl) -> http.server.ThreadingHTTPServer:
    class Pods(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            body = json.dumps(annotated_pods(kubectl)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pods)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Prometheus:
    """Scrapes the plugin's pods and the broker, and knows tdvol's alerts."""

    def __init__(self, folder: pathlib.Path, kubectl: kube.Kubectl, broker: str):
        self.broker = broker
        folder.mkdir()
        self.pods = serve_pods(kubectl)
        found = {"url": f"http://127.0.0.1:{self.pods.server_address[1]}/", "refresh_interval": "20s"}
        config = {
            "global": {"scrape_interval": f"{INTERVAL_S}s", "evaluation_interval": f"{INTERVAL_S}s"}, "rule_files": [str(MONITORING / "alerts.yaml")],
            "scrape_configs": [{"job_name": "tdvol", "http_sd_configs": [found]},
                               {"job_name": "tdvol-broker", "static_configs": [{"targets": [broker]}]}],
        }  # fmt: skip
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        self.started = time.time()
        self.server = Server(folder / "log", [
            prometheus.program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={nodes.GATEWAY}:{PORT}",
        ])  # fmt: skip
        wait_until(self._is_ready, 60, lambda: f"Prometheus is ready: {self.server.log.read_text()[-1000:]}")

    def _is_ready(self) -> bool:
        self.server.check()
        try:
            return urllib.request.urlopen(f"http://{nodes.GATEWAY}:{PORT}/-/ready", timeout=5).status == 200
        except urllib.error.URLError:
            return False

    def _ask(self, path: str, **words) -> dict:
        url = f"http://{nodes.GATEWAY}:{PORT}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        try:
            return json.load(urllib.request.urlopen(url, timeout=60))["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{words}: {error.read().decode()}") from error

    def targets(self) -> dict[str, str]:
        """Who is scraped: its instance, and its last error."""
        return {one["labels"]["instance"]: one["lastError"] for one in self._ask("targets", state="active")["activeTargets"]}

    def rules(self) -> list[dict]:
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def series(self, question: str) -> list[dict]:
        """All that the question gave since the start: labels, and values with their times."""
        return self._ask("query_range", query=question, start=self.started, end=time.time(), step=INTERVAL_S)["result"]

    def fired(self) -> set[str]:
        """Names of the alerts that fired at some time."""
        return {one["metric"]["alertname"] for one in self.series('ALERTS{alertstate="firing"}')}

    def stop(self) -> None:
        self.server.stop()
        self.pods.shutdown()


def label_of(metric: dict, legend: str) -> str:
    """As Grafana writes it."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: metric.get(match[1], ""), legend).strip()


def points(series: dict) -> list[tuple[float, float]]:
    return [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]


def scale_of(panel: dict, highest: float) -> tuple[int, str]:
    """By what the values of a panel are divided, and what they are then."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    return (DAY_S, "days") if unit == "s" and highest > 2 * DAY_S else SCALES[unit]


def draw(source: Prometheus, path: pathlib.Path) -> None:
    """Each panel of the dashboard, over the whole time, as one image."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import PIL.Image

    shown = [panel for panel in panels() if panel["type"] == "timeseries"]
    columns = 3
    rows = -(-len(shown) // columns)
    figure, places = plt.subplots(rows, columns, figsize=(16, 2.9 * rows), squeeze=False)
    for place, panel in zip(places.flat, shown, strict=False):
        found = [(one, target.get("legendFormat", "")) for target in panel["targets"] for one in source.series(target["expr"])]
        highest = max((value for one, _ in found for _, value in points(one)), default=0)
        scale, unit = scale_of(panel, highest)
        place.set_title(f"{panel['title']}, {unit}" if unit else panel["title"], fontsize=9)
        place.tick_params(labelsize=7)
        for one, legend in found:
            place.plot([(at - source.started) / 60 for at, _ in points(one)], [value / scale for _, value in points(one)], linewidth=1,
                       label=label_of(one["metric"], legend)[:28])  # fmt: skip
        place.set_xlim(left=0)
        place.set_ylim(0, 1.1 * highest / scale or 1)
        named = sorted(place.lines, key=lambda line: -max(line.get_ydata(), default=0))[:NAMED]
        if any(line.get_label() for line in named):
            place.legend(handles=named, fontsize=6)
    for place in list(places.flat)[len(shown) :]:
        place.axis("off")
    figure.supxlabel("minutes", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    PIL.Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
