"""Reads commands for the reference from standard input. Answers each with one line: nanoseconds, or KiB for hold."""

import sys
import time

from cjnfuncs.resourcelock import resource_lock

INFO = "thirty-two bytes, as many give.."
clock = time.perf_counter_ns


def pairs(name, count):
    lock = resource_lock(name)
    began = clock()
    for _ in range(count):
        lock.get_lock(1, lock_info=INFO)
        lock.unget_lock(where_called="bench")
    answer = (clock() - began) / count
    lock.close()
    return answer


def open_(name, _):
    began = clock()
    lock = resource_lock(name)
    lock.close()
    return clock() - began


def hold(name, _):
    """Holds the lock until the process ends. Returns this process's resident memory in KiB."""
    global held
    held = resource_lock(name)
    held.get_lock(1, lock_info=INFO)
    with open("/proc/self/status") as status:
        return next(line.split()[1] for line in status if line.startswith("VmRSS"))


COMMANDS = {"pairs": pairs, "open": open_, "hold": hold}

for line in sys.stdin:
    command, name, count = line.split()
    print(COMMANDS[command](name, int(count)), flush=True)
