"""docs/policy-languages.md: its scripts run, its tables have every tag and option, its Python prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipsec_core.policy import ipsecpol, netsh
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.netsh_lines import OWN_TAGS, TAGS
from ipsec_core.policy.netsh_writer import write

PAGE = (Path(__file__).parents[2] / "docs" / "policy-languages.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_scripts() -> None:
    telnet, branch = blocks("netsh")
    catalogue = Catalogue()
    assert netsh.run(telnet, catalogue, "page") == []
    assert catalogue.assigned is not None
    assert [rule.name for rule in catalogue.assigned.rules] == ["", "Inside", "Elsewhere"]
    slammer, tunnel = blocks("cmd")
    catalogue = Catalogue()
    assert ipsecpol.run_file(tunnel, catalogue, "page") == []
    assert write(catalogue.policy("Branch")) == branch
    assert ipsecpol.run_file(slammer, catalogue, "page") == []


def test_the_tables() -> None:
    for (verb, noun), tags in TAGS.items():
        for tag in tags if verb == "add" else ():
            assert re.search(rf"^\| `add {noun}` \|.*`{tag}`", PAGE, re.MULTILINE), (noun, tag)
    for tags in OWN_TAGS.values():
        for tag in tags:
            assert f"`{tag}`" in PAGE or f"`{tag}=" in PAGE, tag
    for option in ipsecpol._OPTIONS:
        assert re.search(rf"^\|.*`{option}`.* \|.*\|", PAGE, re.MULTILINE), option


def test_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    exec(compile(program, "policy-languages.md", "exec"), {})
    said = re.findall(r"print\(.*\)  # (.*)", program)
    assert capsys.readouterr().out.splitlines() == said
