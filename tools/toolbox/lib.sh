# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Names and helpers shared by the toolbox scripts. Sourced, never run.
#
#   $EMD_CACHE/toolbox/root-KEY    the Debian root (mmdebstrap); KEY: package lists and how it is made
#   $EMD_CACHE/toolbox/kernel-KEY  kernel source, prepared build tree and image; inside: /kernel
#   $EMD_CACHE/toolbox/debug-KEY   the same of the debug guest's kernel, if it was asked for (debug-kernel)
#   $EMD_CACHE/cargo               CARGO_HOME of the toolbox, for crates that are not Debian's
#   $EMD_CACHE/crates/KEY          other people's crates, compiled (see cargo)
# A thing is made as X.partial and renamed, so what has its final name is whole.

# Without a trap bash goes on with what is next if ^C comes while it begins a command.
trap 'exit 130' INT

TOOLBOX_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034
CLONE_DIR=$(cd "$TOOLBOX_DIR/../.." && pwd)
# shellcheck source=versions
source "$TOOLBOX_DIR/versions"

cache_dir() {
  local dir=${EMD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/emd}
  mkdir -p "$dir/toolbox" "$dir/cargo"
  (cd "$dir" && pwd -P)
}

die() {
  printf 'toolbox: %s\n' "$*" >&2
  exit 1
}

hash_of() { sha256sum | cut -c1-12; }

package_list() { sed -e 's/#.*//' -e '/^ *$/d' "$@"; }

root_key() {
  {
    package_list "$TOOLBOX_DIR/packages.build" "$TOOLBOX_DIR/packages.run" "$TOOLBOX_DIR/packages.crates"
    cat "$TOOLBOX_DIR/root.sh"
    printf '%s\n' "$SUITE" "$BACKPORTS" "$DMRAID_SUITE" "$(id -u | sed 's/^[^0].*/rootless/')"
  } | hash_of
}

# The kernel tree depends on the tools' versions, not on every package of the root.
# root.sh leaves those versions in the root.
kernel_key() { # ROOT
  {
    cat "$1/etc/emd-build-tools" "$TOOLBOX_DIR/kernel.sh"
    printf '%s\n' "$KERNEL_SERIES" "$KERNEL_FLAVOUR" "$KERNEL_GCC"
  } | hash_of
}

debug_key() { # ROOT
  {
    kernel_key "$1"
    cat "$TOOLBOX_DIR/debug-kernel" "$TOOLBOX_DIR/debug.config"
    echo "$DEBUG_LLVM"
  } | hash_of
}

crates_key() { # inside the toolbox, where cargo has seen to Cargo.lock
  {
    rustc -vV
    cat /etc/emd-crates 2>/dev/null || true
    cat "$CLONE_DIR/Cargo.lock" "$CLONE_DIR/Cargo.toml" "$CLONE_DIR/.cargo/config.toml" "$TOOLBOX_DIR/cargo"
  } | hash_of
}

remove() { # DIRECTORY, which may belong to subordinate ids
  [[ -e $1 ]] || return 0
  if [[ $(id -u) == 0 ]]; then rm -rf --one-file-system "$1"; else unshare -U -r --map-auto rm -rf --one-file-system "$1"; fi
}

# Runs a stage with its output in a log; says what is going on, and shows the log's end if it fails.
# The command is in the foreground, so that ^C stops it and not only this script.
stage() { # N/M TEXT LOG COMMAND...
  local number=$1 text=$2 log=$3 started=$SECONDS ticker status
  shift 3
  trap 'die "interrupted. It is safe to run it again."' INT
  printf '[toolbox %s] %s ...\n' "$number" "$text" >&2
  (
    while sleep 20 && kill -0 $$; do
      printf '[toolbox %s]   %d s: %.100s\n' "$number" $((SECONDS - started)) \
        "$(tail -c 300 "$log" | tr '\r' '\n' | tail -n 1)" >&2
    done
  ) 9>&- &
  ticker=$!
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1
  status=$?
  set -e
  { kill "$ticker" && wait "$ticker"; } 2>/dev/null || true
  if ((status)); then
    tail -n 30 "$log" >&2
    die "stage $number ($text) failed after $((SECONDS - started)) s; whole log: $log. It is safe to run it again."
  fi
  printf '[toolbox %s] %s: done in %d s\n' "$number" "$text" $((SECONDS - started)) >&2
}
