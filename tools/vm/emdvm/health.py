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


def complaints(text: str, allowed) -> list:
    """The bad lines of a kernel log, each once."""
    found = {}
    for line in text.splitlines():
        if BAD.search(line) and not FINE.search(line) and not any(pattern.search(line) for pattern in allowed):
            found.setdefault(re.sub(r"^\s*(<\d+>)?\[[^]]*\]\s*", "", line.strip()))
    return list(found)
