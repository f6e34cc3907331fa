"""The part that other Cython modules cimport: a Nic's C pointer is theirs to use between enter() and leave()."""

from ipsec_core.driver cimport _c
from ipsec_core.driver._core cimport Driver


cdef class Nic:
    cdef _c.ipc_nic *c
    cdef Driver driver
    cdef bint busy
    cdef unsigned fault_number, status_number
    cdef object every
    cdef int set_fault(self, unsigned fault, object every, unsigned status) except -1
    cdef _c.ipc_nic_config _config(self) noexcept
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
