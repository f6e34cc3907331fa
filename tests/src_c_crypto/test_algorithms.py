"""The algorithm tables, the list of back ends and the choice between them."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import pytest
from crypto_oracle import ENCRYPTIONS, INTEGRITIES, SUITES, Suite, suite_named

GCM = ENCRYPTIONS.index(next(e for e in ENCRYPTIONS if e.text == "AES-128-GCM"))
SHA1 = INTEGRITIES.index(next(i for i in INTEGRITIES if i.text == "HMAC-SHA1-96"))


def test_table_of_encryption_is_that_of_the_rfcs(library: Any) -> None:
    for number, e in enumerate(ENCRYPTIONS):
        info = library.c.ipc_encryption_info(number).contents
        assert info.text.decode() == e.text
        assert (info.key_length, info.salt_length, info.iv_length) == (e.key, e.salt, e.iv)
        assert (info.block_length, info.icv_length, info.windows_2000) == (e.block, e.icv, e.windows_2000)
    assert not library.c.ipc_encryption_info(len(ENCRYPTIONS))


def test_table_of_integrity_is_that_of_the_rfcs(library: Any) -> None:
    for number, i in enumerate(INTEGRITIES):
        info = library.c.ipc_integrity_info(number).contents
        assert info.text.decode() == i.text
        assert (info.key_length, info.salt_length, info.iv_length) == (i.key, i.salt, i.iv)
        assert (info.icv_length, info.windows_2000) == (i.icv, i.windows_2000)
    assert not library.c.ipc_integrity_info(len(INTEGRITIES))


@pytest.mark.parametrize("number", [-1, 99, -(2**31), 2**31 - 1])
def test_a_number_that_is_none_has_no_info(library: Any, number: int) -> None:
    assert not library.c.ipc_encryption_info(number)
    assert not library.c.ipc_integrity_info(number)


def test_suites_that_go_together(library: Any, backends: dict[str, Any], c_suite: Any) -> None:
    """Valid, ranked, sized and made exactly when the oracle has the suite; numbers past the end of the tables, too."""
    wanted = {(s.encryption, s.integrity, s.esn, s.ah) for s in SUITES}
    encryptions = [*range(len(ENCRYPTIONS) + 2), 255]
    integrities = [*range(len(INTEGRITIES) + 2), 255]
    keys = bytes(64), bytes(64)
    for numbers in ((e, i, esn, ah) for e in encryptions for i in integrities for esn in (0, 1, 2) for ah in (0, 1, 2)):
        suite = c_suite(*numbers)
        assert library.c.ipc_crypto_suite_valid(suite) == (numbers in wanted), numbers
        assert (library.choose(*numbers) is not None) == (numbers in wanted)
        for backend in backends.values():
            table = backend.table
            if backend.name == "vaes":
                continue  # serves some of them, and is asked only for what is valid
            assert (table.rank(suite) > 0) == (numbers in wanted)
            assert (table.key_size(suite) > 0) == (numbers in wanted)
            if numbers not in wanted:
                assert not table.key_create(backend.engine, suite, *keys)


def test_a_key_has_the_size_that_its_schedule_takes(backend: Any, suite: Suite, c_suite: Any) -> None:
    size = backend.table.key_size(c_suite(suite.encryption, suite.integrity, suite.esn, suite.ah))
    assert size <= 4096
    assert size >= 2 * suite.mac.key if suite.mac.hash not in ("", "gmac") else size > 0


def test_list_ends_with_null_and_stays_ended(library: Any) -> None:
    names = [t.name.decode() for t in library.tables()]
    assert names == [n for n in ("vaes", "ipsec-mb", "openssl") if n in names]
    for index in (len(names), len(names) + 1, 2**32 - 1):
        assert not library.c.ipc_crypto_backend(ctypes.c_uint(index))


def test_version_tells_number_and_cpu(backend: Any) -> None:
    patterns = {
        "vaes": r".*AVX512.*",
        "ipsec-mb": r"\d+\.\d+\.\d+( \((AVX512|AVX2|AVX|SSE|no AES-NI)\))?",
        "openssl": r"\d+\.\d+\.\d+",
    }
    assert re.fullmatch(patterns[backend.name], backend.version)


def test_choose_takes_the_highest_rank(library: Any, suite: Suite, c_suite: Any) -> None:
    numbers = suite.encryption, suite.integrity, suite.esn, suite.ah
    ranks = {t.name.decode(): t.rank(c_suite(*numbers)) for t in library.tables()}
    assert ranks[library.choose(*numbers)] == max(ranks.values()) > 0


def test_choose_by_name(library: Any, backend: Any, suite: Suite) -> None:
    numbers = suite.encryption, suite.integrity, suite.esn, suite.ah
    assert library.choose(*numbers, name=backend.name.encode()) == backend.name
    assert library.choose(*numbers, name=b"rot13") is None
    assert library.choose(GCM, SHA1, name=backend.name.encode()) is None


def test_des_goes_to_ipsec_mb_only_with_avx512(library: Any) -> None:
    tables = {t.name.decode(): t for t in library.tables()}
    if not {"ipsec-mb", "openssl"} <= set(tables):
        pytest.skip("needs both libraries")
    version = tables["ipsec-mb"].version()
    for name in ("DES-CBC", "3DES-CBC", "AES-128-CBC"):
        suite = suite_named(name, "HMAC-SHA1-96")
        able = version.endswith(b"(AVX512)") or (name.startswith("AES") and not version.endswith(b"(no AES-NI)"))
        assert library.choose(suite.encryption, suite.integrity) == ("ipsec-mb" if able else "openssl")


@pytest.mark.parametrize("length", range(41))
def test_equal_sees_every_bit(library: Any, length: int) -> None:
    a = bytes((7 * i) & 255 for i in range(length))
    assert library.c.ipc_equal(a, bytes(bytearray(a)), length) == 1
    for bit in range(8 * length):
        b = bytearray(a)
        b[bit // 8] ^= 1 << bit % 8
        assert library.c.ipc_equal(a, bytes(b), length) == 0


def test_wipe_clears_exactly_what_it_is_given(library: Any) -> None:
    memory = ctypes.create_string_buffer(b"\xff" * 64, 64)
    library.c.ipc_wipe(ctypes.byref(memory, 3), 50)
    assert memory.raw == b"\xff" * 3 + bytes(50) + b"\xff" * 11
