"""The KFP face of check_dataset."""

from kfp import dsl

from vqi.steps.images import image


@dsl.component(base_image=image("check_dataset"), install_kfp_package=False)
def check_dataset(
    dataset: dsl.Input[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    verdict: dsl.Output[dsl.Artifact],
    fingerprint: str,
    data_calibration_fraction: str,
    image_crop: str,
    image_region: str,
    image_size: str,
    method_name: str,
    threshold_false_reject_rate: float,
):
    """Stop a bad set here, with its reasons; a page shows what the set looks like."""
    from vqi.steps.running import step

    with step("check_dataset") as record:
        from pathlib import Path

        from vqi.category import Category
        from vqi.platform.printing import printable
        from vqi.steps.check_dataset.step import check_dataset as run

        category = Category.from_parameters(
            {
                "data_calibration_fraction": data_calibration_fraction,
                "image_crop": image_crop,
                "image_region": image_region,
                "image_size": image_size,
                "method_name": method_name,
                "threshold_false_reject_rate": threshold_false_reject_rate,
            }
        )
        record.outputs.update(page=page.path, verdict=verdict.path)
        run(
            dataset=Path(dataset.path),
            geometry=category.geometry,
            false_reject_rate=category.threshold.false_reject_rate,
            trains=category.trains,
            calibration_fraction=category.data.calibration_fraction,
            page=Path(page.path),
            verdict=Path(verdict.path),
            report=lambda finding: print(printable(finding), flush=True),
        )
