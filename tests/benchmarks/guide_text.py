"""The text of docs/choosing-a-method.md. Every number in it comes from the results that are handed over; the prose itself holds none."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vqi.tools.describe import describe_all

Results = Mapping[str, Mapping[str, Any]]

TITLE = "# Choose a method"
HEAD = (
    """
    This page says what each method is good for, by numbers that were measured here. `make guide` measures what is
    missing and writes the page; `make guide GUIDE=--again` measures all of it again. The figures are in
    `choosing-a-method.json`. `vqi methods NAME` measures what a method costs on your machine, and `vqi preview NAME`
    shows what it learns from.
    """,
    """
    Read the numbers with care. The pretrained weights are small (a ResNet-18 without its last stage; a quantised
    MobileNetV2 for vgg_cam), the sets are small, and each figure is of one seed. Methods that train got a small part of
    their published budget, which the tables name: this is what minutes on a processor give, not what the papers report.
    Try two or three methods on your own photographs before you decide.
    """,
)

METHODS = {
    "patchcore": """
        It keeps a sample of all normal patches and measures the distance to the nearest. It needs no training, has few
        settings, and is the first to try. The size of its bundle and its time per image grow with the bank
        (`coreset_ratio`, `max_bank`). Parts may be turned or moved.
    """,
    "padim": """
        It fits a Gaussian at every position in one pass. The index is large: its size grows with the area of the image,
        and not with the number of photographs. Parts must have the same position in every photograph; otherwise its
        image score suffers first.
    """,
    "dfm": """
        It fits a linear subspace to the features of the whole image. It is one of the cheapest to fit and to score, and
        a good baseline. Its maps are coarse, and it averages away small defects on large parts.
    """,
    "stfpm": """
        A student learns to match a frozen teacher on normals, and fails to match it elsewhere. It has no index and a
        small bundle. It runs two networks for each image, and needs more epochs than it got here.
    """,
    "fastflow": """
        A flow for each stage makes normal feature maps likely. It has no index. Its training needs more time and memory
        than that of a student, and its bundle holds a flow for every stage.
    """,
    "cflow": """
        A flow of single feature vectors that depends on their position. An epoch is many optimiser steps, so a few
        epochs take long. Scoring is slow: every position of every scale goes through the flow. The paper also uses the
        last stage of the network, which the weights here do not have.
    """,
    "cs_flow": """
        One flow across three sizes of the image. The paper uses EfficientNet-B5, large images and hundreds of epochs;
        expect little on the features of a ResNet-18 with a short budget. At the start the flow is the identity, and it
        grows at the pace of the learning rate, so the rate was raised here. The backbone runs three times for each
        image.
    """,
    "efficient_ad": """
        A teacher distilled from the backbone, a student, and an autoencoder: few layers, but wide ones on a fine grid.
        According to its paper it scores quickly on a GPU; on a processor it is the slowest of all. Its published
        training is the longest of all, and a short one does not show what it can do.
    """,
    "draem": """
        It learns to segment simulated anomalies and needs no pretrained weights. It is only as good as its simulated
        anomalies resemble your defects (`vqi preview draem` shows them). Its networks are large, so it was run on
        smaller images here.
    """,
    "simsiam": """
        It fine-tunes the backbone on your normals, then works as dfm. Try it if your photographs are unlike ImageNet
        and you have many of them. With few photographs it gains nothing and can be worse. Compare it with dfm.
    """,
    "cutpaste": """
        It fine-tunes the backbone to notice pasted patches, then works as dfm. It is like simsiam with a task that is
        closer to defects. `vqi preview cutpaste` shows whether the pasted patches resemble your defects. Compare it
        with dfm.
    """,
    "vgg_cam": """
        The only method that learns from labelled defects: a classifier whose map shows which pixels decided. It finds
        the kinds of defects that it learned from and no others, and its maps are coarse. It is tested on the
        photographs that it did not learn from, which are fewer than those of the other methods.
    """,
}

UNTRAINED = """
    Pixel AUROC of the same plans after one step of the optimiser, and after the whole budget. What one step reaches
    comes from the pretrained weights and the structure of the method. A step of cflow is a whole batch of images, which
    is hundreds of updates of its weights. simsiam and cutpaste without their training are dfm, whose figures are above.
"""
METRICS = (("image_auroc", "image AUROC"), ("pixel_auroc", "pixel AUROC"), ("aupro", "AUPRO"))
SETTING_WORDS = {
    "train.max_epochs": "{} epochs",
    "train.max_steps": "{} steps",
    "train.batch_size": "batch {}",
    "image.size": "{} px",
    "method.settings.distillation_steps": "teacher {} steps",
    "method.settings.hidden_channels": "{} hidden channels",
    "method.settings.learning_rate": "rate {}",
    "method.settings.freeze_epochs": "head alone {}",
    "backbone.name": "{}",
    "backbone.layers": "{}",
}


def guide(results: Results, left_out: Mapping[str, str]) -> str:
    """The page. `results` by `method/set`; `left_out` says why other pairs are not measured, by the same key."""
    parts = [TITLE, *map(_paragraph, HEAD)]
    if results:
        parts += ["## By what you need", _by_need(results), "## What was measured", _paragraph(_conditions(results))]
    for name in sorted({key.partition("/")[2] for key in results}):
        parts += [f"### {name}", _tested_on(name, results), _table(name, results), _missing(name, results, left_out)]
    if any("untrained" in result for result in results.values()):
        parts += ["## What training gives", _paragraph(UNTRAINED), _untrained_table(results)]
    parts.append("## The methods one by one")
    for method in describe_all():
        parts.append(
            _paragraph(f"**{method.name}** ({method.kind}). {METHODS[method.name]}")
            + "\n"
            + _own_figures(method.name, results)
        )
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraph(text: str, indent: str = "") -> str:
    """A text of lines of 120 characters; those after the first are indented where it is an item of a list."""
    return textwrap.fill(
        " ".join(text.split()), 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _by_need(results: Results) -> str:
    """The measured leaders for each need, among the methods with figures for every set that most have figures for."""
    sets = _common(results)
    rows = {
        method.name: [results[f"{method.name}/{name}"] for name in sets]
        for method in describe_all()
        if method.kind != "supervised" and all(f"{method.name}/{name}" in results for name in sets)
    }
    one_size = {method: of for method, of in rows.items() if "image.size" not in of[0]["settings"]}
    lines = [
        f"- **Highest {title}**, mean over {' and '.join(sets)}: {_leaders(rows, lambda r, key=key: r['metrics'][key], _share, largest=True)}."
        for key, title in METRICS
    ]
    lines += [
        f"- **From photographs to a detector soonest**: {_leaders(rows, lambda r: r['fit']['processor_seconds'], '{:.0f} s'.format)}.",
        f"- **Quickest to score**, at one image size: {_leaders(one_size, lambda r: min(r['latency_ms'].values()), '{:.0f} ms'.format)}.",
        f"- **Smallest bundle**: {_leaders(rows, lambda r: r['bundle_mib'], '{:.0f} MiB'.format)}.",
        f"- **Least memory to fit**: {_leaders(rows, lambda r: r['peak_mib'], '{:.0f} MiB'.format)}.",
        "- **No photographs of defects**: every method except vgg_cam. Begin with patchcore; use dfm as the baseline for anything more expensive.",
        "- **Labelled photographs of every kind of defect, dozens of each**: vgg_cam, together with a method that learns from normals.",
        "- **No pretrained weights**: draem, or patchcore, padim and dfm on the filter bank (`backbone.name=filterbank`, see filterbank.md).",
        "- **Parts in any position**: patchcore or a student (stfpm, efficient_ad); not padim.",
        "- **Defects of the whole** (a part is missing, two are swapped): dfm, efficient_ad; methods that compare patches miss them.",
    ]
    return "\n".join(_paragraph(line, indent="  ") for line in lines)


def _common(results: Results) -> list[str]:
    """The sets that most methods have figures for."""
    counts: dict[str, int] = {}
    for key in results:
        name = key.partition("/")[2]
        counts[name] = counts.get(name, 0) + 1
    return sorted(name for name, count in counts.items() if 2 * count > max(counts.values()))


def _conditions(results: Results) -> str:
    where = "; ".join(
        dict.fromkeys(f"{r['machine']['processor']}, {r['machine']['threads']} thread(s)" for r in results.values())
    )
    dates = sorted(result["machine"]["date"] for result in results.values())
    weights = sorted({result["weights"].partition(", fine-tuned")[0] for result in results.values()})
    return f"""
        Each row is a run of the steps of `vqi run` with the defaults ({_default_size()} pixels a side, unless the table names another size) and what
        the table says. {where}; {" to ".join(dict.fromkeys((dates[0], dates[-1])))}. Weights: {", ".join(weights)}. Fit: processor time of the steps
        train and build_index, including refits for the threshold; other work on the machine changes it less than the clock. Latency: processor time
        of one image, alone, by the exported bundle on one thread; dfm, simsiam and cutpaste are the same graph, so the difference of their times
        is the accuracy of all latencies. Bundle: both graphs and the index. Methods that train learned from
        all normals here (`data.calibration_fraction=0`), as in their papers; a reliable threshold needs some held out.
        """


def _default_size() -> int:
    from vqi.category import Category

    return Category().geometry.size[0]


def _rows(name: str, results: Results) -> dict[str, Mapping[str, Any]]:
    """The results on one set by method, the best first."""
    rows = {key.partition("/")[0]: result for key, result in results.items() if key.endswith(f"/{name}")}
    return dict(sorted(rows.items(), key=lambda row: -(row[1]["metrics"]["image_auroc"] or 0)))


def _whole(name: str, results: Results) -> tuple[int, int]:
    """Good and defective photographs of the whole test split."""
    return max(((r["counts"]["good"], r["counts"]["defect"]) for r in _rows(name, results).values()), key=sum)


def _tested_on(name: str, results: Results) -> str:
    good, defects = _whole(name, results)
    return f"Tested on {good} good and {defects} defective photographs."


def _table(name: str, results: Results) -> str:
    lines = [
        "| method | budget | image AUROC | pixel AUROC | AUPRO | fit, s | ONNX Runtime, ms | OpenVINO, ms | bundle, MiB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for method, result in _rows(name, results).items():
        good, defects = result["counts"]["good"], result["counts"]["defect"]
        fewer = "" if (good, defects) == _whole(name, results) else f"; tested on {good} good, {defects} defective"
        cells = [method, _budget(result["settings"]) + fewer, *(_share(result["metrics"][key]) for key, _ in METRICS)]
        cells += [
            f"{result['fit']['processor_seconds']:.0f}",
            *(f"{result['latency_ms'][backend]:.0f}" for backend in ("onnxruntime", "openvino")),
        ]
        lines.append(f"| {' | '.join(cells)} | {result['bundle_mib']:.0f} |")
    return "\n".join(lines)


def _untrained_table(results: Results) -> str:
    lines = ["| method | set | one step | the budget | gain |", "|---|---|---:|---:|---:|"]
    for key, result in sorted(results.items()):
        if "untrained" not in result:
            continue
        method, _, name = key.partition("/")
        before, after = result["untrained"]["pixel_auroc"], result["metrics"]["pixel_auroc"]
        gain = "-" if before is None or after is None else f"{after - before:+.3f}".replace("0.", ".", 1)
        lines.append(f"| {method} | {name} | {_share(before)} | {_share(after)} | {gain} |")
    return "\n".join(lines)


def _budget(settings: Mapping[str, Any]) -> str:
    return (
        ", ".join(words.format(settings[key]) for key, words in SETTING_WORDS.items() if key in settings)
        or "nothing to train"
    )


def _missing(name: str, results: Results, left_out: Mapping[str, str]) -> str:
    reasons: dict[str, list[str]] = {}
    for method in describe_all():
        key = f"{method.name}/{name}"
        if key not in results:
            reasons.setdefault(left_out.get(key, "not measured yet"), []).append(method.name)
    text = "; ".join(f"{_listed(names)} ({reason})" for reason, names in reasons.items())
    return _paragraph(f"Left out: {text}.") if reasons else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _own_figures(method: str, results: Results) -> str:
    by_data = {
        key.partition("/")[2]: result["metrics"] for key, result in results.items() if key.startswith(f"{method}/")
    }
    figures = "; ".join(
        f"{name} {' / '.join(_share(metrics[key]) for key, _ in METRICS)}" for name, metrics in sorted(by_data.items())
    )
    return _paragraph(f"Image AUROC / pixel AUROC / AUPRO: {figures}.") if figures else "Not measured."


def _leaders(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    figure: Callable[[Mapping[str, Any]], float | None],
    shown: Callable[[float], str],
    largest: bool = False,
    count: int = 3,
) -> str:
    """The `count` methods with the best mean of a figure over their sets, with that mean."""
    known = {method: [value for result in of if (value := figure(result)) is not None] for method, of in rows.items()}
    means = {method: sum(values) / len(values) for method, values in known.items() if values}
    order = sorted(means, key=lambda method: means[method], reverse=largest)
    return ", ".join(f"{method} ({shown(means[method])})" for method in order[:count])


def _share(value: float | None) -> str:
    """.891, 1.000, or a dash."""
    return "-" if value is None else f"{value:.3f}".removeprefix("0")
