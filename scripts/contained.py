"""Watches every network device of this machine while a command runs, for packets of the test network.

Nothing that a sandbox or a kind cluster of this project does may be seen out here. A watcher that sees nothing proves
nothing, so frames of this kind are put on the loopback device before and after, and must be seen.
"""

import ipaddress
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys

# Pods, Services, external servers, containers, the sandbox's own link, cloud metadata, documentation (RFC 5737),
# addresses that Istio allocates.
RANGES = [
    ipaddress.ip_network(text)
    for text in (
        "10.244.0.0/16", "10.96.0.0/16", "192.168.0.0/24", "172.17.0.0/16", "172.18.0.0/16", "10.20.0.0/16",
        "169.254.0.0/16", "192.0.2.0/24", "240.240.0.0/16",
    )
]
# The scenarios' names, as a DNS question has them.
NAMES = [b"\x07example\x03com", b"\x07cluster\x05local"]
ETH_P_ALL = 0x0003
PLANTED = b"egress-conformance planted this"


def own_addresses():
    """The IPv4 addresses of this machine."""
    lines = open("/proc/net/fib_trie").read().splitlines()
    return {
        ipaddress.ip_address(before.split()[-1])
        for before, line in zip(lines, lines[1:])
        if "host LOCAL" in line
    }


def headers(frame):
    """(source, destination, payload) of an IPv4 frame, else None."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return None
    length = (frame[14] & 0x0F) * 4
    source, destination = (ipaddress.ip_address(frame[at:at + 4]) for at in (26, 30))
    return source, destination, frame[14 + length:]


def asks_for_ours(frame, payload):
    """Whether it is a DNS question for a name of the scenarios."""
    is_udp = frame[23] == 17 and len(payload) >= 8
    return is_udp and struct.unpack("!H", payload[2:4])[0] == 53 and any(name in payload.lower() for name in NAMES)


def ours(frame, ranges):
    """What of the test network is in this frame, as text; None if nothing is."""
    found = headers(frame)
    if found is None:
        return None
    source, destination, payload = found
    if any(address in network for network in ranges for address in (source, destination)):
        return f"{source} -> {destination}"
    if asks_for_ours(frame, payload):
        return f"{source} -> {destination}, a DNS question for a name of the scenarios"
    return None


def plant(sender, source, destination, payload, port):
    """Puts a UDP frame on the loopback device; the kernel drops it as one that cannot be."""
    udp = struct.pack("!HHHH", 9, port, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 1, 17, 0,
                     socket.inet_aton(source), socket.inet_aton(destination))
    sender.send(b"\0" * 12 + b"\x08\x00" + ip + udp)


def main():
    command = sys.argv[1:]
    watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    watcher.setblocking(False)
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind(("lo", 0))
    mine = own_addresses()
    ranges = [network for network in RANGES if not any(address in network for address in mine)]
    for network in sorted(set(RANGES) - set(ranges)):
        print(f"not watched: {network}, this machine has an address in it", file=sys.stderr)
    selector = selectors.DefaultSelector()
    selector.register(watcher, selectors.EVENT_READ)
    ended, waker = socket.socketpair()
    ended.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector.register(ended, selectors.EVENT_READ)

    seen, leaked, planted = 0, {}, {"address": 0, "name": 0}

    def look(timeout):
        nonlocal seen
        events = selector.select(timeout)
        for key, _ in events:
            if key.fileobj is ended:
                ended.recv(64)
                continue
            for _ in range(256):
                try:
                    frame, (device, *_rest) = watcher.recvfrom(2048)
                except BlockingIOError:
                    break
                seen += 1
                what = ours(frame, ranges)
                if what is None:
                    continue
                if PLANTED in frame:
                    planted["name" if "DNS" in what else "address"] += 1
                else:
                    leaked[f"{device}: {what}"] = leaked.get(f"{device}: {what}", 0) + 1
        return bool(events)

    def control():
        before = dict(planted)
        plant(sender, "10.244.0.9", "192.168.0.78", PLANTED, 9)
        plant(sender, "127.0.0.1", "127.0.0.1", NAMES[0] + PLANTED, 53)
        while look(2.0):
            if all(planted[kind] > before[kind] for kind in planted):
                return
        sys.exit(f"the watcher did not see the frames that were planted on lo: {planted}")

    control()
    child = subprocess.Popen(command)
    while child.poll() is None:
        look(1.0)
    control()
    statistics = watcher.getsockopt(263, 6, 8)  # SOL_PACKET, PACKET_STATISTICS
    lost = struct.unpack("II", statistics)[1]
    devices = ", ".join(sorted(os.listdir("/sys/class/net")))
    print(f"watched {seen} packets on {devices}; {sum(leaked.values())} of the test network, {lost} not looked at")
    for what, count in sorted(leaked.items())[:20]:
        print(f"  {count} x {what}")
    sys.exit(1 if leaked or lost else child.returncode)


if __name__ == "__main__":
    main()
