from collections.abc import Callable

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images


@pytest.fixture(scope="session")
def random_pair() -> Callable[..., tuple[BoxTable, BoxTable]]:
    """Truth and predictions on the same images; crowds, ties, empty images and classes.

    Coordinates are whole numbers on a small grid, so that IoU ties are frequent and exact.
    """

    def make(
        rng: np.random.Generator,
        *,
        images: int = 6,
        classes: int = 3,
        per_image: int = 8,
        score_levels: int | None = 4,
        side: int = 30,
        crowds: bool = True,
    ) -> tuple[BoxTable, BoxTable]:
        known = {
            "images": Images.of([f"{i:04}" for i in range(images)]),
            "classes": Classes.of([f"c{c}" for c in range(classes)], range(1, classes + 1)),
        }

        def boxes(most: int) -> dict:
            image = np.repeat(np.arange(images), rng.integers(0, most + 1, images))
            low = rng.integers(0, side, (len(image), 2))
            size = rng.integers(1, side, (len(image), 2))
            xyxy = np.concatenate([low, low + size], axis=1).astype(float)
            # the last class has no box, so that there is one to be left out of the mean
            label = rng.integers(0, max(1, classes - 1), len(image)).astype(np.int32)
            return {"image_index": image, "xyxy": xyxy, "label": label}

        true = boxes(per_image)
        if crowds:
            true["ignore"] = rng.random(len(true["label"])) < 0.2
        predicted = boxes(2 * per_image)
        copies = rng.random(len(predicted["label"])) < 0.5
        for row in np.flatnonzero(copies):  # half of them on a true box, moved a little
            same = np.flatnonzero(true["image_index"] == predicted["image_index"][row])
            if len(same):
                chosen = rng.choice(same)
                predicted["label"][row] = true["label"][chosen]
                predicted["xyxy"][row] = true["xyxy"][chosen]
                predicted["xyxy"][row, 2:] += rng.integers(0, 5, 2)
        count = len(predicted["label"])
        score = (
            rng.permutation(count) / max(1, count)
            if score_levels is None
            else rng.integers(0, score_levels + 1, count) / score_levels
        )
        truth = BoxTable.build(**known, **true)
        return truth, BoxTable.build(**known, **predicted, score=score)

    return make
