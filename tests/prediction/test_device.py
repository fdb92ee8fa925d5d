import pytest
import torch

from smallobj.boxes import InputError
from smallobj.prediction import autocast, choose_device, choose_precision

CPU = torch.device("cpu")


def test_precision_is_what_was_asked_for() -> None:
    assert choose_precision(CPU, "bf16") == "bf16"
    assert choose_precision(CPU, "fp32") == "fp32"
    assert choose_precision(CPU, "auto") in ("fp32", "bf16")
    with pytest.raises(InputError, match="a CPU runs fp32 or bf16"):
        choose_precision(CPU, "fp16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_runs_in_that_precision(precision: str) -> None:
    with autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_an_absent_device_is_named() -> None:
    with pytest.raises(InputError, match="no such device here, got cuda:99"):
        choose_device("cuda:99")
