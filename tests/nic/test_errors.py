"""Wrong input: one line that names the field and what is accepted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from driver_kit import ip
from nic_kit import computer

from ipsec_core import Burst, Driver
from ipsec_core.driver import Nic, NicTask
from ipsec_core.errors import DriverError


def attached() -> Nic:
    nic = Nic()
    Driver().attach_nic(nic)
    return nic


def set_field(name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(Nic(), name, value)


def transmit(*arguments: Any, burst: Burst | None = None, mtu: int = 1500) -> Any:
    source = Burst().load([ip(b"data")] * 2)
    return Nic(mtu=mtu).transmit(source, Burst() if burst is None else burst, *arguments)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Nic(["esp-rot13"]), "capabilities: 'esp-rot13' is unknown; accepted: send-ipv4-checksum, "),
        (lambda: Nic("large send"), "capabilities: 'large send' is unknown; "),
        (lambda: Nic(sa_capacity=-1), "sa_capacity: -1 is out of range; accepted: 0 to 4294967295"),
        (lambda: Nic(mtu=67), "mtu: 67 is out of range; accepted: 68 to 65535"),
        (lambda: Nic(mtu=65536), "mtu: 65536 is out of range; accepted: 68 to 65535"),
        (lambda: Nic(large_send_max=65536), "large_send_max: 65536 is out of range; accepted: 0 to 65535"),
        (lambda: Nic(large_send_min_segments=-1), "large_send_min_segments: -1 is out of range; "),
        (set_field("fault", "broken"), "fault: 'broken' is unknown; accepted: none, wrong-icv, failed-status, "),
        (set_field("fault_every", 0), "fault_every: 0 is out of range; accepted: 1 to 4294967295"),
        (set_field("fault_status", 8), "fault_status: 8 is out of range; accepted: 0 to 7"),
        (lambda: Driver().attach_nic("eth0"), "nic: str is none; accepted: a Nic"),  # type: ignore[arg-type]
        (lambda: Driver().attach_nic(attached()), "nic: attached already; accepted: a Nic that no driver has"),
        (lambda: computer("A", nic=Nic()).attach_nic(Nic()), "nic: the driver has one already; accepted: after "),
        (lambda: Driver().enable_offload(False), "enable_offload: no NIC is attached; accepted: after attach_nic"),
        (lambda: transmit([0]), "tasks: 1 values for 2 packets; accepted: one for all or one a packet"),
        (lambda: transmit(NicTask.LARGE_SEND, [1, 2, 3]), "mss: 3 values for 2 packets; accepted: "),
        (lambda: transmit(16), "tasks: 16 is out of range; accepted: 0 to 15"),
        (lambda: transmit(0, 65536), "mss: 65536 is out of range; accepted: 0 to 65535"),
        (lambda: transmit(burst=Burst(4, 1499)), "transmit: target takes packets of 1499 bytes; accepted: the NIC's "),
    ],
)
def test_one_line(wrong: Callable[[], object], words: str) -> None:
    with pytest.raises(DriverError) as caught:
        wrong()
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_source_and_target_are_two() -> None:
    burst = Burst()
    with pytest.raises(DriverError, match="source and target are one burst"):
        Nic().transmit(burst, burst)


def test_the_wrong_thing_changes_nothing() -> None:
    nic = Nic()
    nic.fault, nic.fault_every, nic.fault_status = "garbage", 3, 2
    with pytest.raises(DriverError):
        nic.fault = "rubbish"
    assert (nic.fault, nic.fault_every, nic.fault_status) == ("garbage", 3, 2)


def test_a_nic_belongs_to_the_thread_of_its_driver() -> None:
    """While a burst runs in another thread the NIC is not to be touched: that raises, or comes before or after."""
    nic = Nic()
    driver, burst = computer("A", nic=nic), Burst(256, 1400)
    packets = [ip(bytes(1300))] * 256
    stop, refused = threading.Event(), []

    def touch() -> None:
        while not stop.is_set():
            try:
                nic.fault = "none"
            except DriverError as error:
                refused.append(str(error))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        for _ in range(200):
            while True:
                try:
                    driver.outbound(burst.load(packets))
                    break
                except DriverError:
                    continue
            if refused:
                break
    finally:
        stop.set()
        thread.join()
    assert refused
    assert set(refused) == {"Driver: in use by another thread; one driver belongs to one thread at a time"}
