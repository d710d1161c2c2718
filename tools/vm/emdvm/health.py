# SPDX-License-Identifier: GPL-2.0
"""What the kernel must not say while a test runs."""

import re

BAD = re.compile(
    r"WARNING:|\bBUG\b|\bOops\b|general protection|blocked for more than|possible circular|inconsistent lock state"
    r"|suspicious RCU|KASAN|KFENCE|UBSAN|scheduling while atomic|sleeping function called|refcount_t:|Call Trace|Kernel panic"
    r"|unable to handle|soft lockup|hard LOCKUP|self-detected stall|detected stalls|rust_kernel: panicked|list_add corruption"
    r"|ODEBUG|trying to register non-static key|locking correctness validator|lockdep is turned off"
    r"|list_del corruption|DEBUG_LOCKS_WARN|Bad page|invalid opcode"
)
# The boot itself: nothing here is about a driver under test.
FINE = re.compile(r"ODEBUG: selftest passed|module verification failed|taints kernel|out-of-tree|Speculative|mitigation|MMIO Stale Data|Spectre|Retbleed")
# After one of these nothing more is to be learnt from this guest.
# Who is blocked so long stays so: the test need not be waited for.
FATAL = re.compile(r"Kernel panic|\bOops\b|BUG: unable to handle|soft lockup|hard LOCKUP|general protection|blocked for more than \d+ seconds")


# Characters of a complaint that are shown.
MOST = 400

# An allocation that failed is told in many lines, and only its trace says whose it was: they are one.
SHORT_OF_MEMORY = re.compile(r"page allocation failure:")
TRACE_END = re.compile(r"</TASK>")


def _reports(text: str):
    """The lines of a kernel log; those of an allocation that failed as one."""
    held = None
    for line in text.splitlines():
        if held is not None:
            held.append(line)
        elif SHORT_OF_MEMORY.search(line):
            held = [line]
        else:
            yield line
        if held and TRACE_END.search(line):
            yield " ".join(held)
            held = None
    if held:
        yield " ".join(held)


def complaints(text: str, allowed) -> list:
    """The bad lines of a kernel log, each once."""
    found = {}
    for report in _reports(text):
        if BAD.search(report) and not FINE.search(report) and not any(pattern.search(report) for pattern in allowed):
            found.setdefault(re.sub(r"^\s*(<\d+>)?\[[^]]*\]\s*", "", report.strip())[:MOST])
    return list(found)
