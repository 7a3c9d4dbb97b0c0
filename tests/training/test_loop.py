"""What the training loop notes besides its numbers: a signal, and operators without a deterministic form."""

from __future__ import annotations

import os
import signal
import warnings

import pytest
import torch

from adaptsr import devices
from adaptsr.config import schema
from adaptsr.training import loop, termination, train_runs


def test_the_handler_of_before_is_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination.sigterm_noted() as terminated:
        assert not terminated()
        os.kill(os.getpid(), signal.SIGTERM)
        assert terminated()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_operator_without_a_deterministic_form_is_named_and_not_refused() -> None:
    """`put_` stands for those of a GPU, such as SAFMN's adaptive max pooling."""

    def act() -> set[str]:
        with loop._undetermined_noted() as names:
            torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
            warnings.warn("something else", stacklevel=1)
        return names

    devices.prepare_device(schema.Compute(device="cpu"))
    with pytest.warns(UserWarning, match="something else"):
        names = act()
    assert names == {"put_"}
    assert "no deterministic form on this device of put_" in train_runs._undetermined_note(sorted(names))[0]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
