# SPDX-License-Identifier: GPL-2.0
"""The guest's initramfs, in parts that the kernel unpacks over each other:

base     programs and modules from the toolbox; cached, remade only when those change
overlay  emd.ko, emdadm, the guest's init and the tests; made for every run
extras   what few tests need and is big ("# extra: perf", "udev"); cached
"""

import fcntl
import hashlib
import io
import lzma
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from . import places
from .cpio import Archive

# Programs, and files at the same places.
EXTRAS = {
    "perf": (["perf"], []),
    "udev": (["udevadm"], [f"/usr/lib/udev/rules.d/{name}.rules" for name in ("60-block", "60-persistent-storage", "64-md-raid-assembly", "99-systemd")]),
}
KEPT_DAYS = 7
_overlay_lock = threading.Lock()
# For tests/guest/programs/*.c.
GUEST_CC = "gcc-14"
GUEST_CFLAGS = ["-std=gnu17", "-O2", "-static", "-Wall", "-Wextra", "-Werror"]
# Network storage that fio was linked with and no test uses. With all that they need in turn, an emulated machine takes two seconds
# to start it. Empty libraries take their places.
STAND_INS = {
    "fio": [
        *("libgfapi.so.0", "libibverbs.so.1", "libnbd.so.0", "libnfs.so.14"),
        *("libpmem.so.1", "librados.so.2", "librbd.so.1", "librdmacm.so.1"),
    ]
}
BUILTIN_LISTS = ("modules.builtin", "modules.builtin.modinfo")
SEARCH = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]


def base() -> Path:
    return _cached("base", _base_key(), _write_base)


def extra(name: str) -> Path:
    if name not in EXTRAS:
        raise ValueError(f"no extra {name!r}; there are: {' '.join(EXTRAS)}")
    return _cached(name, _base_key(), lambda stream: _write_extra(stream, *EXTRAS[name]))


def kernel() -> Path:
    """The image unpacked: QEMU starts it at once, where unpacking in the guest would take most of a second."""
    unpacked = places.kernel_modules() / "vmlinux"
    if unpacked.exists():
        return unpacked

    def write(stream):
        script = places.KERNEL / "source/scripts/extract-vmlinux"
        subprocess.run([script, places.kernel_modules() / "vmlinuz"], stdout=stream, stderr=subprocess.DEVNULL, check=True)

    return _cached("vmlinux", _digest(places.kernel_release(), places.KERNEL.joinpath("version").read_text()), write)


def overlay() -> bytes:
    """The same for all tests of a run, also if a file changes while it goes on."""
    with _overlay_lock:
        return _overlay()


@cache
def _overlay() -> bytes:
    with io.BytesIO() as stream:
        archive = Archive(stream)
        archive.file("init", places.GUEST_FILES / "init", 0o755)
        archive.file("usr/bin/host", places.GUEST_FILES / "host", 0o755)
        for folder in (places.GUEST_TESTS, places.BENCHES, places.CLONE / "tools/vm/selftest.d", places.CLONE / "tools/udev", places.CLONE / "tools/systemd", places.SAMPLES):
            for source in sorted(folder.rglob("*")) if folder.is_dir() else []:
                if source.is_file():
                    archive.file(f"emd/{source.relative_to(places.CLONE)}", source)
        for source in places.HOST_SAMPLES:
            archive.file(f"emd/{source.relative_to(places.CLONE)}", source)
        for source in sorted((places.GUEST_TESTS / "programs").glob("*.c")):
            archive.file(f"emd/bin/{source.stem}", _program(source.stem, source.read_text()), 0o755)
        archive.file("emd/bin/ioctl-example", _program("ioctl-example", _example()), 0o755)
        if places.EMDADM.exists():
            archive.file("usr/sbin/emdadm", places.EMDADM, 0o755)
        if places.MODULE.exists():
            _add_emd_module(archive)
        archive.close()
        return stream.getvalue()


def write(path: Path, extras):
    """All parts, as one file for QEMU."""
    with path.open("wb") as whole:
        for part in [base(), *map(extra, extras)]:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, 1 << 20)
        whole.write(overlay())


def _example() -> str:
    """The complete program in docs/ioctl.md, as it stands there."""
    examples = re.findall(r"^```c\n(.*?)^```", (places.CLONE / "docs/ioctl.md").read_text(), re.DOTALL | re.MULTILINE)
    return next(example for example in examples if "int main(" in example)


def _program(name: str, text: str) -> Path:
    """A C program of the tests', compiled."""
    folders = [places.UAPI, places.GUEST_TESTS / "programs"]

    def write(stream):
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder, f"{name}.c"), Path(folder, "program")
            source.write_text(text)
            command = [GUEST_CC, *GUEST_CFLAGS, *(f"-I{path}" for path in folders), "-o", program, source]
            subprocess.run(command, check=True)
            stream.write(program.read_bytes())

    headers = [path.read_text() for folder in folders for path in sorted(folder.glob("*.h"))]
    return _cached(f"program-{name}", _digest(text, *headers, *GUEST_CFLAGS), write)


def _add_emd_module(archive: Archive):
    """emd.ko and the dependency lists that name it, so that a plain `modprobe emd` works."""
    release = places.kernel_release()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "lib/modules", release)
        shutil.copytree(_module_tree(), tree, copy_function=os.symlink)
        # Most of it is debugging information, which the guest would have to unpack and load.
        subprocess.run(["strip", "--strip-debug", "-o", tree / "emd.ko", places.MODULE], check=True)
        _depmod(folder)
        for source in [tree / "emd.ko", *tree.glob("modules.*")]:
            if not source.is_symlink() or source.name == "emd.ko":
                archive.file(f"usr/lib/modules/{release}/{source.name}", source, 0o644)


def _base_key() -> str:
    here = Path(__file__)
    return _digest(
        Path("/var/lib/dpkg/status").read_text(),
        places.kernel_release(),
        (places.KERNEL / "version").read_text(),
        (places.GUEST_FILES / "programs").read_text(),
        (places.GUEST_FILES / "modules").read_text(),
        here.read_text(),
        here.with_name("cpio.py").read_text(),
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@contextmanager
def _locked():
    folder = places.cache() / "guest"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _cached(name: str, key: str, write) -> Path:
    final = places.cache() / "guest" / f"{name}-{key}"
    if not final.exists():
        with _locked():
            if not final.exists():
                partial = final.with_suffix(".partial")
                with partial.open("wb") as stream:
                    write(stream)
                partial.rename(final)
                _forget_old(final)
    os.utime(final)
    return final


def _forget_old(new: Path):
    """What no run of any clone has used for a week."""
    for old in new.parent.iterdir():
        if old.is_file() and old.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
            old.unlink()


def _read_list(name: str) -> list:
    lines = (places.GUEST_FILES / name).read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _write_base(stream):
    archive = Archive(stream)
    for folder in ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "etc", "var/lib", "usr/bin", "usr/sbin", "usr/lib64"):
        archive.folder(folder)
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.link(name, f"usr/{name}")
    archive.link("var/run", "/run")
    archive.link("etc/mtab", "/proc/self/mounts")
    archive.node("dev/console", 5, 1)
    archive.node("dev/null", 1, 3)
    archive.bytes("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n")
    archive.bytes("etc/group", b"root:x:0:\ndisk:x:6:\n")
    archive.file("etc/mke2fs.conf", Path("/etc/mke2fs.conf"))
    _add_programs(archive, *_programs())
    release = places.kernel_release()
    tree = _module_tree()
    for source in sorted(tree.rglob("*")):
        if source.is_file():
            archive.file(f"usr/lib/modules/{release}/{source.relative_to(tree)}", source, 0o644)
    archive.close()


def _write_extra(stream, names, files):
    archive = Archive(stream)
    _add_programs(archive, {_find(name) for name in names}, {})
    for place in files:
        archive.file(place.lstrip("/"), Path(place), 0o644)
    archive.close()


def has(name: str) -> bool:
    """Whether the toolbox has a program."""
    return any(os.path.exists(f"{folder}/{name}") for folder in SEARCH)


def _find(name: str) -> Path:
    for folder in SEARCH:
        if os.path.exists(f"{folder}/{name}"):
            return Path(folder, name)
    raise FileNotFoundError(f"{name} (of tools/vm/guest/programs) is not in the toolbox; add its package to tools/toolbox/packages.run")


def _programs():
    """The programs' paths, and links {path: target}."""
    paths, links = set(), {}
    for line in _read_list("programs"):
        kind, _, rest = line.partition(": ")
        if kind == "package":
            listing = subprocess.run(["dpkg", "-L", rest], stdout=subprocess.PIPE, text=True, check=True).stdout
            for path in map(Path, listing.split("\n")):
                if path.parent.name in ("bin", "sbin") and os.path.isfile(path):
                    paths.add(path)
        elif kind == "optional":
            paths |= {_find(rest)} if has(rest) else set()
        elif kind == "link":
            name, target = rest.split()
            links[f"/usr/bin/{name}"] = str(_find(target)).replace("/usr/bin/", "")
        else:
            paths.add(_find(line))
    taken = {path.name for path in paths} | {Path(path).name for path in links}
    applets = subprocess.run(["busybox", "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    for applet in applets:
        if applet not in taken:
            links[f"/usr/bin/{applet}"] = "busybox"
    links["/usr/bin/sh"] = "bash"
    return paths, links


def _add_programs(archive: Archive, paths, links):
    real = {}
    for path in sorted(paths):
        place = str(path) if str(path).startswith("/usr") else f"/usr{path}"
        target = Path(os.path.realpath(path))
        if target.name != path.name and target in {Path(os.path.realpath(p)) for p in paths if not p.is_symlink()}:
            links[place] = target.name if target.parent == path.parent else str(target)
        else:
            real[place] = target
    for place, target in real.items():
        archive.file(place, target, 0o755)
    # All at once: one ldd per program would take seconds.
    libraries = _libraries([target for place, target in real.items() if Path(place).name not in STAND_INS])
    for place, target in real.items():
        if Path(place).name in STAND_INS:
            libraries |= _add_stand_ins(archive, target, STAND_INS[Path(place).name], libraries)
    for library in sorted(libraries):
        archive.file(library, Path(library), 0o755)
    for place, target in sorted(links.items()):
        archive.link(place, target)


def _libraries(programs, folder="") -> set:
    """The paths of all that these programs load; first of all from the folder."""
    command = ["ldd", *map(str, programs)]
    environment = {**os.environ, "LD_LIBRARY_PATH": folder}
    listing = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return {path if path.startswith("/usr") else f"/usr{path}" for path in set(re.findall(r"(/\S+) \(0x", listing))}


def _add_stand_ins(archive: Archive, program: Path, sonames, there) -> set:
    """Libraries with what the program wants of the true ones, and nothing in it, but for those that are `there`. Returns what else it loads."""
    wanted = set(_symbols(program, "--undefined-only"))
    with tempfile.TemporaryDirectory() as folder:
        for soname in sonames:
            true = _find_library(soname)
            versions = {}
            for symbol in wanted & set(_symbols(true, "--defined-only")):
                name, _, version = symbol.partition("@")
                versions.setdefault(version, []).append(name)
            stand_in = _stand_in(Path(folder), soname, versions)
            place = str(true) if str(true).startswith("/usr") else f"/usr{true}"
            if place not in there:
                archive.file(place, stand_in, 0o755)
        return {path for path in _libraries([program], folder) if not path.startswith(f"/usr{folder}/")}


def _stand_in(folder: Path, soname: str, versions: dict) -> Path:
    """A library with functions, {version: names}, that nobody is to call."""
    code, script, library = folder / "code.c", folder / "versions", folder / soname
    code.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for names in versions.values() for name in sorted(names)))
    script.write_text("".join(f"{version} {{ global: {'; '.join(sorted(names))}; }};\n" for version, names in sorted(versions.items()) if version))
    options = ["-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{soname}"]
    if script.stat().st_size:
        options.append(f"-Wl,--version-script={script}")
    subprocess.run([GUEST_CC, "-w", *options, "-o", library, code], check=True)
    return library


def _symbols(path: Path, which: str) -> list:
    """Of a program or library, each as name@version."""
    listing = subprocess.run(["nm", "-D", which, path], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [line.split()[-1].replace("@@", "@") for line in listing.splitlines()]


def _find_library(soname: str) -> Path:
    listing = subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = re.search(rf"^\s*{re.escape(soname)} .* => (\S+)$", listing, re.MULTILINE)
    if not found:
        raise FileNotFoundError(f"{soname} is not in the toolbox")
    return Path(found[1])


def _module_tree() -> Path:
    """The chosen modules, unpacked and with their index: a folder in the cache."""
    key = _digest(places.kernel_release(), (places.KERNEL / "version").read_text(), (places.GUEST_FILES / "modules").read_text())
    final = places.cache() / "guest" / f"modules-{key}"
    if not final.exists():
        make_folder(final, "modules-partial-", _make_module_tree)
    return final


def make_folder(final: Path, prefix: str, make):
    """make(folder) fills a folder, which gets its name when it is whole. What fails leaves nothing."""
    partial = Path(tempfile.mkdtemp(dir=final.parent, prefix=prefix))
    try:
        make(partial)
        try:
            partial.rename(final)
        except OSError:
            if not final.exists():  # else another run was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_module_tree(tree: Path):
    release = places.kernel_release()
    source = places.kernel_modules()
    needs = _module_needs(source)
    wanted = set()

    def want(module):
        if module not in wanted:
            wanted.add(module)
            for other in needs[module]:
                want(other)

    for line in _read_list("modules"):
        chosen = [m for m in needs if fnmatch(m.removesuffix(".xz"), f"kernel/{line}.ko") and m.count("/") == line.count("/") + 1]
        for module in chosen:
            want(module)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder, "lib/modules", release)
        for module in sorted(wanted):
            place = stage / module.removesuffix(".xz")
            place.parent.mkdir(parents=True, exist_ok=True)
            data = (source / module).read_bytes()
            place.write_bytes(lzma.decompress(data) if module.endswith(".xz") else data)
        # What is built in needs no file, and modprobe must know that. Debian's package has no such lists.
        for name in BUILTIN_LISTS:
            if (source / name).exists():
                shutil.copyfile(source / name, stage / name)
        _depmod(folder)
        shutil.copytree(stage, tree, dirs_exist_ok=True)


def _module_needs(source: Path) -> dict:
    """{module: [modules it needs]} as depmod finds it. The image's own package has no index."""
    with tempfile.TemporaryDirectory() as folder:
        release = places.kernel_release()
        tree = Path(folder, "lib/modules", release)
        tree.mkdir(parents=True)
        shutil.copytree(source / "kernel", tree / "kernel", copy_function=os.symlink)
        _depmod(folder)
        needs = {}
        for line in (tree / "modules.dep").read_text().splitlines():
            module, _, others = line.partition(":")
            needs[module] = others.split()
        return needs


def _depmod(folder):
    release = places.kernel_release()
    # Debian's package leaves these to its post-install script; depmod complains if they are missing.
    for name in ("modules.order", *BUILTIN_LISTS):
        Path(folder, "lib/modules", release, name).touch()
    subprocess.run(["depmod", "-b", folder, release], check=True)
