#!/usr/bin/env python3
"""Makes tables and plots of the JSON lines of peers.py.

    report.py /tmp/bench/results.jsonl --into docs/benchmarks

Writes DIR/index.md and, for every data set and mode, DIR/<dataset>-<mode>.svg:
recall@10 against queries a second. Of several measurements of one point the
last counts, so one file can be appended to for weeks.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

from peers import TARGETS, at_recall, pareto  # noqa: E402

MODES = {
    "single": "one thread, one query at a time",
    "batch": "one thread, batches of 4 000 queries",
    "threads2": "two threads, one query at a time each",
}
# Ours first and bold; a peer has its colour in every plot.
COLOURS = ("#d62728", "#1f77b4", "#17becf", "#7f7f7f", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#bcbd22")


def is_ours(system):
    return system.startswith("akidb")


def load(paths):
    """Measured points by (dataset, mode), the ratios the same way, and the machines they ran on."""
    points, ratios, machines = {}, {}, {}
    for path in paths:
        for text in path.read_text().splitlines():
            line = json.loads(text)
            if "machine" in line:
                machines[f"{line['machine']}, {line['cores']} cores, FAISS {line['faiss']} ({line['simd']})"] = None
                continue
            group = (line["dataset"], line["mode"]) if "mode" in line else None
            if "against" in line:
                ratios.setdefault(group, {})[line["against"], line["target"]] = line
            elif "recall@10" in line:
                points.setdefault(group, {})[line["system"], line["setting"]] = line
    return points, ratios, list(machines)


def by_system(lines):
    """The lines of each system: ours first, then by name."""
    names = sorted({line["system"] for line in lines}, key=lambda s: (not is_ours(s), s))
    return {name: [line for line in lines if line["system"] == name] for name in names}


def front(lines, speed):
    return [p[2] for p in pareto([(line["recall@10"], line[speed], line) for line in lines if line.get(speed)])]


def number(x, digits=0):
    return "" if x is None else f"{x:,.{digits}f}".replace(",", " ")


def table(head, rows):
    return "\n".join(["| " + " | ".join(r) + " |" for r in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]]) + "\n"


def summary(lines):
    """A row a system: q/s at the targets, and what it costs to hold and to build."""
    rows = []
    for system, group in by_system(lines).items():
        row = [system]
        for target in TARGETS:
            for speed in ("qps", "qps_cpu"):
                row.append(number(at_recall([(x["recall@10"], x[speed]) for x in group if x.get(speed)], target)))
        row += [number(group[0]["bytes_per_vector"]), number(group[0]["build_cpu_s"])]
        rows.append(row)
    head = ["system"] + [f"{unit} at {t}" for t in TARGETS for unit in ("q/s", "q/CPU s")] + ["bytes a vector", "build, CPU s"]
    return table(head, rows)


def comparison(ratios):
    rows = [
        [r["against"], str(r["target"]), number(r["ratio"], 2), spread(r["ratios"]), number(r["ratio_cpu"], 2), spread(r["ratios_cpu"])]
        for r in ratios.values()
    ]
    return table(["ours / peer", "recall@10", "q/s", "rounds", "q/CPU s", "rounds"], rows)


def spread(values):
    return f"{min(values):.2f}-{max(values):.2f}" if values else ""


def details(lines):
    rows = [
        [f"{system} {x['setting']}", *(f"{x[f'recall@{k}']:.4f}" for k in (1, 10, 100)), number(x["qps"]), number(x.get("qps_cpu"))]
        for system, group in by_system(lines).items()
        for x in front(group, "qps")
    ]
    return table(["point", "recall@1", "recall@10", "recall@100", "q/s", "q/CPU s"], rows)


def plot(path, title, lines, colours):
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for system, group in by_system(lines).items():
        best = [x for x in front(group, "qps") if x["recall@10"] >= 0.85]
        style = dict(linewidth=2.5, markersize=5, zorder=3) if is_ours(system) else dict(linewidth=1.2, markersize=3)
        axes.plot([x["recall@10"] for x in best], [x["qps"] for x in best], "o-", color=colours[system], label=system, **style)
    for target in TARGETS:
        axes.axvline(target, color="#cccccc", linewidth=0.8, zorder=0)
    axes.set(yscale="log", xlim=(0.85, 1.0), xlabel="recall@10", ylabel="queries a second", title=title)
    axes.grid(True, which="both", axis="y", color="#eeeeee")
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("results", type=pathlib.Path, nargs="+")
    p.add_argument("--into", type=pathlib.Path, required=True)
    args = p.parse_args()
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "akidb"})  # text stays text: small, and the same every time
    points, ratios, machines = load(args.results)
    args.into.mkdir(parents=True, exist_ok=True)
    systems = list(by_system([x for group in points.values() for x in group.values()]))
    ours = [s for s in systems if is_ours(s)]
    colours = {s: COLOURS[i % len(COLOURS)] for i, s in enumerate(systems if ours else [None, *systems])}
    text = ["# Index benchmarks\n", "Made by `loadtest/peers/report.py`; `loadtest/peers/README.md` says how the figures come about.\n"]
    text += [f"Measured on {m}.\n" for m in machines]
    for (dataset, mode), group in sorted(points.items(), key=lambda kv: (kv[0][0], list(MODES).index(kv[0][1]))):
        lines, name = list(group.values()), f"{dataset}-{mode}.svg"
        plot(args.into / name, f"{dataset}: {MODES[mode]}", lines, colours)
        text += [f"## {dataset}, {MODES[mode]}\n", f"![recall@10 against queries a second]({name})\n", summary(lines)]
        if (dataset, mode) in ratios:
            text.append(comparison(ratios[dataset, mode]))
        text.append(f"<details><summary>all points</summary>\n\n{details(lines)}\n</details>\n")
    (args.into / "index.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
