"""The text of docs/choosing-a-method.md. Every number in it comes from the results that are handed over; the prose itself holds none."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vqi.tools.describe import describe_all

Results = Mapping[str, Mapping[str, Any]]

TITLE = "# Choosing a method"
HEAD = (
    """
    What each method is good for, by numbers measured here. `make guide` measures what is missing and writes this page, `make guide GUIDE=--again`
    measures all of it again; the figures lie in `choosing-a-method.json`. `vqi methods NAME` tells what a method costs on your machine,
    `vqi preview NAME` shows what it learns from.
    """,
    """
    Read them with care. The pretrained weights at hand are thin (a ResNet-18 without its last stage; a quantised MobileNetV2 for vgg_cam), the sets
    are small, each figure is of one seed, and methods that train got a small part of their published budget, named in the tables: this is what
    minutes on a processor give, not what the papers report. Try two or three on your own photographs before you settle.
    """,
)

METHODS = {
    "patchcore": """
        Keeps a sample of all normal patches and measures the distance to the nearest. Nothing to train, few settings, and the first to
        try. Its bundle and its time an image grow with the bank (`coreset_ratio`, `max_bank`); parts need not lie the same way.
    """,
    "padim": """
        A Gaussian at every position: fitted in one pass, with an index whose size does not grow with the number of photographs, but with
        the image's area, and is large. It needs parts that lie the same way in every photograph: where they do not, its image score
        suffers first.
    """,
    "dfm": """
        A linear subspace of the whole image's features. Among the cheapest to fit and to score, and a sound baseline; its maps are
        coarse, and small defects on large parts are averaged away.
    """,
    "stfpm": """
        A student learns to match a frozen teacher and fails where it has not been. No index, a light bundle; it runs the backbone twice
        an image, and wants more epochs than it got here.
    """,
    "fastflow": """
        A flow that makes normal feature maps likely, a map of each stage. No index; its training asks for more time and memory than a
        student's, and its bundle holds a flow for every stage.
    """,
    "cflow": """
        A flow of single feature vectors that knows their position. One epoch is many optimiser steps, so a few epochs are much, and
        scoring is slow: every position of every scale goes through the flow. Published with a network's last stage as well, which the
        weights here do not hold.
    """,
    "cs_flow": """
        One flow across three sizes of the image. Published with EfficientNet-B5, large images and hundreds of epochs: expect little of it
        on a ResNet-18's features and a short budget at the paper's rate: each block's part in the flow begins at nothing and grows at the pace
        of the learning rate, so it was raised here. Its backbone sees every image three times.
    """,
    "efficient_ad": """
        A teacher distilled from the backbone, a student, an autoencoder: few layers, but wide ones on a fine grid. Quick to score on a GPU, as
        its paper has it, and the slowest of all on a processor. Its published training is the longest of all, and a short one cannot judge it.
    """,
    "draem": """
        Learns to see simulated anomalies and needs no pretrained weights at all. It is as good as its simulated anomalies resemble yours
        (`vqi preview draem` shows what it takes for a defect), and its networks are heavy: it was run on smaller images here.
    """,
    "simsiam": """
        Fine-tunes the backbone on your normals, then is dfm. Worth a try where the photographs look nothing like ImageNet and there are
        many of them. With few photographs it has nothing to gain and may lose: it is dfm's figures that it must beat.
    """,
    "cutpaste": """
        Fine-tunes the backbone to notice pasted patches, then is dfm. As simsiam, with a task closer to defects: look at `vqi preview
        cutpaste` to see whether the pasted patches are anything like yours, and at dfm's figures for what it must beat.
    """,
    "vgg_cam": """
        The one that learns from labelled defects: a classifier that shows where it looked. It finds the kinds of defects it was shown,
        has no notion of others, and its maps are coarse. It is tested on the photographs it did not learn from, which are fewer than what
        the others are tested on.
    """,
}

UNTRAINED = """
    The same plans stopped after one step of the optimiser, beside the whole budget: what is there already comes from the pretrained weights and
    the method's shape. Pixel AUROC. cflow's step is a whole batch of images, which is hundreds of updates of its weights. simsiam and cutpaste
    without their training are dfm, whose figures stand above.
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


def _paragraph(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 150, break_on_hyphens=False, break_long_words=False)


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
        "- **No photographs of defects**: every method but vgg_cam. Begin with patchcore; take dfm as the baseline that anything dearer must beat.",
        "- **Labelled photographs of every kind of defect, dozens of each**: vgg_cam, beside a method that knows normals alone.",
        "- **No pretrained weights**: draem, or patchcore, padim and dfm on the filter bank (`backbone.name=filterbank`, see filterbank.md).",
        "- **Parts that lie any which way**: patchcore or a student (stfpm, efficient_ad); not padim.",
        "- **Defects that are wrong as a whole** (a part missing, two swapped): dfm, efficient_ad; methods that look at patches do not see them.",
    ]
    return "\n".join(lines)


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
        Each row went through the steps of `vqi run` with its defaults ({_default_size()} pixels a side, where no other size is named) and what the
        table says. {where}; {" to ".join(dict.fromkeys((dates[0], dates[-1])))}. Weights: {", ".join(weights)}. Fit: processor time of the steps
        train and build_index, refits for the threshold included; other work on the machine moves it less than the clock. Latency: processor time
        of one image, alone, by the exported bundle on one thread; dfm, simsiam and cutpaste are the very same graph, so how far their times lie
        apart is how far all of these can be trusted. Bundle: both graphs and the index. Methods that train learnt from
        all normals here (`data.calibration_fraction=0`), as their papers have it; a threshold that can be relied on wants some held out.
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
    return (
        f"Left out: {'; '.join(f'{_listed(names)} ({reason})' for reason, names in reasons.items())}."
        if reasons
        else ""
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _own_figures(method: str, results: Results) -> str:
    found = {
        key.partition("/")[2]: result["metrics"] for key, result in results.items() if key.startswith(f"{method}/")
    }
    figures = "; ".join(
        f"{name} {' / '.join(_share(metrics[key]) for key, _ in METRICS)}" for name, metrics in sorted(found.items())
    )
    return f"Image AUROC / pixel AUROC / AUPRO: {figures}." if figures else "Not measured."


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
