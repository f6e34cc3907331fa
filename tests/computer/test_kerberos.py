"""Kerberos without a key distribution centre: what can be said before one is asked. tests/interop has the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ipsec_core.computer.kerberos import MachineKerberos
from ipsec_core.errors import NegotiationError


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(NegotiationError, match=r"package gssapi is missing .*ipsec_core\[kerberos\]") as caught:
        MachineKerberos("host/alice@EXAMPLE.COM", tmp_path / "none")
    assert "\n" not in str(caught.value)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["host/alice@EXAMPLE.COM", "", "\ud800"])
def test_without_a_key(tmp_path: Path, name: str) -> None:
    pytest.importorskip("gssapi")
    with pytest.raises(NegotiationError, match=r"Kerberos account .*, key tab .*none: ") as caught:
        MachineKerberos(name, tmp_path / "none")
    assert "\n" not in str(caught.value)
