"""Whether there are defects enough to learn from and to measure on, said in sentences for the check, the results and
the report."""

from __future__ import annotations

from collections import Counter

from vqi.dataset.manifest import Manifest

FEW_OF_A_TYPE, FEW_TESTED = 5, 10


def few_labelled(manifest: Manifest) -> list[str]:
    """What to beware of in a Dataset for supervised methods; empty where photographs of every type abound, or where
    none are learnt from."""
    if not manifest.labelled_fraction:
        return []
    counts = Counter((sample.split, sample.defect) for sample in manifest.samples if sample.label == "defect")
    learnt = {
        defect: counts["labelled", defect]
        for defect in sorted({defect for split, defect in counts if split in ("labelled", "test")})
    }
    few = [f"{defect} ({count})" for defect, count in learnt.items() if count < FEW_OF_A_TYPE]
    sentences = []
    if few:
        listed = ", ".join(few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        sentences.append(
            f"Too few labelled defects to learn from: {listed}; with fewer than {FEW_OF_A_TYPE} of a type, whether it "
            "is found is luck. "
            "Label more, or use a method that learns from good photographs alone."
        )
    for label, what in (("defect", "defects found"), ("good", "good parts rejected")):
        left = sum(sample.split == "test" and sample.label == label for sample in manifest.samples)
        if left < FEW_TESTED:
            sentences.append(
                f"Too few photographs labelled {label} are left to test on: {left}"
                + (f"; one more or less moves the share of {what} by {100 / left:.0f} %." if left else ".")
            )
    return sentences
