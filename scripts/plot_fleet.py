#!/usr/bin/python3
"""Pictures of what scripts/bench.sh --scenario fleet has found: docs/images/scheduling-*.png from its JSON.

    scripts/plot_fleet.py FILE.json [FOLDER]

Each dot is a run, each bar the median of a policy's. Draws what the file has, and leaves out what it has not.
"""

import json
import pathlib
import statistics
import sys

try:
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("plot_fleet.py: matplotlib is not there; scripts/install_deps.sh plots installs it (python3-matplotlib)")

# The order of the pictures, from the simplest; with colours that people who see fewer of them tell apart (Okabe, Ito).
POLICIES = {
    "static-wrr": "#999999",
    "power-of-two": "#cc79a7",
    "prefix-hash": "#f0e442",
    "least-connections": "#e69f00",
    "haproxy-leastconn": "#d55e00",
    "late-wrr": "#56b4e9",
    "least-loaded": "#0072b2",
    "adaptive": "#009e73",
    "ideal": "#404040",  # true speeds and caches, unknown lengths: what learning better could give
}


def values(scene, policy, figure):
    return [run[figure] for run in scene["policies"].get(policy, []) if figure in run]


def grouped(axes, scenes, names, figure, scale=1.0):
    """One group of bars for each scene, one bar for each policy, the runs as dots on it."""
    shown = [policy for policy in POLICIES if any(values(scene, policy, figure) for scene in scenes)]
    width = 0.85 / max(1, len(shown))
    for number, policy in enumerate(shown):
        for group, scene in enumerate(scenes):
            runs = [value * scale for value in values(scene, policy, figure)]
            if not runs:
                continue
            at = group + (number - (len(shown) - 1) / 2) * width
            axes.bar(at, statistics.median(runs), width * 0.92, color=POLICIES[policy],
                     label=policy if group == 0 else None)
            axes.plot([at] * len(runs), runs, ".", color="#00000060", markersize=2)
    axes.set_xticks(range(len(scenes)), names)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure, axes):
    handles, labels = axes.get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.6 / figure.get_figheight(), 1, 1))
    figure.legend(handles, labels, ncol=5, fontsize=8, frameon=False, loc="lower center")


def by_name(scenes, workload, fleets=None):
    found = [scene for scene in scenes if scene["workload"] == workload and (not fleets or scene["fleet"] in fleets)]
    return found, [scene["fleet"] for scene in found]


def batches(scenes):
    figure, all_axes = plt.subplots(2, 1, figsize=(10, 7.5))
    for axes, workload in zip(all_axes, ("batch-64", "batch-512")):
        found, names = by_name(scenes, workload)
        if not found:
            return None
        grouped(axes, found, names, "makespan_by_bound")
        axes.axhline(1, color="#000000", linewidth=0.8)
        axes.axhline(1.05, color="#000000", linewidth=0.8, linestyle=":")
        axes.set_yscale("log", base=2)
        axes.set_ylim(0.95, 8)
        axes.set_yticks((1, 1.5, 2, 3, 4, 6, 8), ("1", "1.5", "2", "3", "4", "6", "8"))
        axes.set_ylabel("time / lower bound")
        axes.set_title(f"{workload}: no schedule is below 1; dotted: 1.05", loc="left", fontsize=10)
    legend_below(figure, all_axes[0])
    return figure


def latencies(scenes):
    fleets = [fleet for fleet in ("even-12", "mixed-12", "mixed-40", "flaky-12")
              if by_name(scenes, "poisson-80", [fleet])[0]]
    if not fleets:
        return None
    figure, all_axes = plt.subplots(1, len(fleets), figsize=(3.6 * len(fleets), 4), sharey=True, squeeze=False)
    for axes, fleet in zip(all_axes[0], fleets):
        for policy, colour in POLICIES.items():
            points = []
            for load in (50, 80, 95):
                for scene in by_name(scenes, f"poisson-{load}", [fleet])[0]:
                    runs = values(scene, policy, "p95")
                    if runs:
                        points.append((load, statistics.median(runs)))
            if points:
                axes.plot(*zip(*points), "o-", color=colour, label=policy, markersize=4)
        axes.set_yscale("log")
        axes.set_xlim(45, 100)
        axes.set_xticks((50, 80, 95))
        axes.set_xlabel("load, % of what the fleet can do")
        axes.set_title(fleet, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0][0].set_ylabel("95th percentile of latency, s")
    legend_below(figure, all_axes[0][0])
    return figure


def prefixes(scenes):
    found = [scene for scene in scenes if scene["workload"].startswith("conversations")]
    if not found:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    names = [f"{scene['fleet']}\n{scene['workload'].removeprefix('conversations')}".strip() for scene in found]
    grouped(left, found, names, "avoided_of_best")
    left.axhline(0.95, color="#000000", linewidth=0.8, linestyle=":")
    left.set_title("prefill avoided / what the best phone would have; dotted: 0.95", loc="left", fontsize=10)
    grouped(right, found, names, "first_p95")
    right.set_yscale("log")
    right.set_title("95th percentile of time to the first token, s", loc="left", fontsize=10)
    legend_below(figure, left)
    return figure


def hours(scenes):
    found, names = by_name(scenes, "hour")
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(8, 4))
    grouped(axes, found, names, "written", 1e-3)
    axes.set_ylabel("thousands of tokens")
    axes.set_title("Written within an hour, always more to do than phones", loc="left", fontsize=10)
    legend_below(figure, axes)
    return figure


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else root / "docs" / "images"
    scenes = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (("batch", batches), ("latency", latencies), ("prefix", prefixes), ("hour", hours)):
        figure = draw(scenes)
        if figure is None:
            print(f"scheduling-{name}.png: the file has no runs for it", file=sys.stderr)
            continue
        figure.savefig(folder / f"scheduling-{name}.png", dpi=110, metadata={"Software": None})
        print(folder / f"scheduling-{name}.png")


if __name__ == "__main__":
    main()
