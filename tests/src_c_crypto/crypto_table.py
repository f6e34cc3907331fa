"""`struct ipc_crypto_backend` and what its functions take, for ctypes (src_c/include/ipsec_core/crypto.h)."""

from __future__ import annotations

import ctypes


class CSuite(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint8) for name in ("encryption", "integrity", "esn", "ah")]


class Op(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("key", "aad", "iv", "text", "icv", "received")],
        ("text_length", ctypes.c_uint32),
        ("sequence_high", ctypes.c_uint32),
        ("ok", ctypes.c_uint8),
    ]


SUITE = ctypes.POINTER(CSuite)
CRYPT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, SUITE, ctypes.POINTER(Op), ctypes.c_uint)


class Table(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("version", ctypes.CFUNCTYPE(ctypes.c_char_p)),
        ("rank", ctypes.CFUNCTYPE(ctypes.c_int, SUITE)),
        ("engine_create", ctypes.CFUNCTYPE(ctypes.c_void_p)),
        ("engine_destroy", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("key_create", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, SUITE, ctypes.c_char_p, ctypes.c_char_p)),
        ("key_destroy", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("key_size", ctypes.CFUNCTYPE(ctypes.c_size_t, SUITE)),
        ("encrypt", CRYPT),
        ("decrypt", CRYPT),
    ]
