"""The part that other Cython modules cimport: a Driver's and a Burst's C pointers are theirs to use while they hold the object."""

from libc.stdint cimport uint32_t

from ipsec_core.driver cimport _c


cdef class Burst:
    cdef _c.ipc_burst *c
    cdef bint busy
    cdef int enter(self) except -1
    cdef void leave(self) noexcept


cdef class Driver:
    cdef _c.ipc_driver *c
    cdef bint busy
    cdef bytes backend_name
    cdef int enter(self) except -1
    cdef void leave(self) noexcept


cdef int check(int code, str what) except -1
cdef object ranged(str field, object value, object least, object most)
cdef _c.ipc_address address(str field, object value) except *
cdef object address_object(_c.ipc_address a)
cdef int _direction(object direction) except -1
cdef object upcall_record(const _c.ipc_upcall *u)
