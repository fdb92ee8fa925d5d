"""What tests of commands share."""

from collections.abc import Iterator

import pytest

from smallobj.prediction import device


@pytest.fixture(scope="module")
def full_precision() -> Iterator[None]:
    """`--precision auto` is fp32 on any CPU: in bf16 a box depends on the batch it was found in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_cpu_computes_bf16", lambda: False)
        yield
