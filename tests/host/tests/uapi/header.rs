// SPDX-License-Identifier: GPL-2.0

//! `emd.h` says the same as `src/uapi/`: every size, offset and constant, by a C compiler.

use emd_core::uapi::constants::CONSTANTS;
use emd_core::uapi::layout::STRUCTURES;
use emd_core::uapi::{
    AccessKind, EventKind, MemberOp, RepairReason, TaskKind, TaskState, VolumeState,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn header() -> String {
    std::fs::read_to_string(root().join("src/uapi/emd.h")).expect("emd.h")
}

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).expect("scratch folder");
    path
}

/// Compiles C with warnings as errors; the program, when `link`.
fn compile(folder: &Path, source: &str, link: bool) -> PathBuf {
    let c = folder.join("program.c");
    let program = folder.join("program");
    std::fs::write(&c, source).expect("write C");
    let mut command = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    command.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"]);
    command.arg(root().join("src/uapi"));
    if !link {
        command.arg("-fsyntax-only");
    }
    let output = command
        .arg("-o")
        .arg(&program)
        .arg(&c)
        .output()
        .expect("a C compiler (cc, or CC=…)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

fn all_constants() -> Vec<(&'static str, u64)> {
    [
        CONSTANTS,
        VolumeState::CONSTANTS,
        AccessKind::CONSTANTS,
        TaskKind::CONSTANTS,
        TaskState::CONSTANTS,
        RepairReason::CONSTANTS,
        MemberOp::CONSTANTS,
        EventKind::CONSTANTS,
    ]
    .concat()
}

#[test]
fn sizes_offsets_and_constants_agree() {
    let mut source = String::from(
        "#include \"emd.h\"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n",
    );
    let mut expected = String::new();
    let mut line = |name: &str, expression: &str, value: u64| {
        source.push_str(&format!(
            "\tprintf(\"%s %llu\\n\", \"{name}\", (unsigned long long)({expression}));\n"
        ));
        expected.push_str(&format!("{name} {value}\n"));
    };
    for structure in STRUCTURES {
        let name = structure.name;
        line(
            name,
            &format!("sizeof(struct {name})"),
            structure.bytes as u64,
        );
        for field in structure.fields {
            let full = format!("{name}.{}", field.name);
            line(
                &full,
                &format!("offsetof(struct {name}, {})", field.name),
                field.offset as u64,
            );
            line(
                &full,
                &format!("sizeof(((struct {name} *)0)->{})", field.name),
                field.bytes as u64,
            );
        }
    }
    for (name, value) in all_constants() {
        line(name, name, value);
    }
    source.push_str("\treturn 0;\n}\n");
    let program = compile(&scratch("uapi_header_agree"), &source, true);
    let output = Command::new(program).output().expect("run");
    let said = String::from_utf8(output.stdout).expect("text");
    for (said, expected) in said.lines().zip(expected.lines()) {
        assert_eq!(said, expected);
    }
    assert_eq!(said, expected);
}

#[test]
fn the_header_has_nothing_else() {
    let known: BTreeSet<_> = all_constants().into_iter().map(|(name, _)| name).collect();
    let header = header();
    let defined: BTreeSet<_> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define EMD_"))
        .map(|rest| rest.split_whitespace().next().unwrap_or(""))
        .collect();
    let known: BTreeSet<_> = known
        .iter()
        .map(|name| name.strip_prefix("EMD_").expect("prefix"))
        .collect();
    assert_eq!(defined, known);
    let structures: BTreeSet<_> = header
        .lines()
        .filter_map(|line| line.strip_prefix("struct ")?.strip_suffix(" {"))
        .collect();
    assert_eq!(
        structures,
        STRUCTURES.iter().map(|structure| structure.name).collect()
    );
}

const TWICE: &str =
    "#include \"emd.h\"\n#include \"emd.h\"\nint main(void) { return EMD_API_MAJOR - 1; }\n";

/// The C++ compiler of this machine, if it has one; the toolbox has clang's.
fn cxx() -> Option<String> {
    let chosen = std::env::var("CXX").ok().into_iter();
    let usual = ["c++", "g++", "clang++", "clang++-19"].map(String::from);
    chosen.chain(usual).find(|name| {
        let asked = Command::new(name).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn the_header_is_cxx_too() {
    let Some(cxx) = cxx() else {
        host_tests::skip("C++ compiler");
        return;
    };
    // Every structure has one, so that each is complete.
    let mut source = String::from(TWICE);
    for structure in STRUCTURES {
        source.push_str(&format!(
            "static_assert(sizeof({0}) == {1}, \"{0}\");\n",
            structure.name, structure.bytes
        ));
    }
    let file = scratch("uapi_header_cxx").join("program.cc");
    std::fs::write(&file, source).expect("write C++");
    let mut command = Command::new(cxx);
    command.args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]);
    command.arg("-I").arg(root().join("src/uapi")).arg(&file);
    let output = command.output().expect("a C++ compiler");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_header_is_plain_c() {
    compile(&scratch("uapi_header_twice"), TWICE, false);
    // Constants of one enum must not have the same code twice.
    for constants in [
        VolumeState::CONSTANTS,
        AccessKind::CONSTANTS,
        TaskKind::CONSTANTS,
        TaskState::CONSTANTS,
        RepairReason::CONSTANTS,
        MemberOp::CONSTANTS,
        EventKind::CONSTANTS,
    ] {
        let codes: BTreeSet<_> = constants.iter().map(|(_, code)| code).collect();
        assert_eq!(codes.len(), constants.len());
        assert!(!codes.contains(&0), "0 means none");
    }
}

/// The program in docs/ioctl.md, as it stands there. A guest test, ioctl-hostile, runs it beside the module.
#[test]
fn the_example_in_the_documentation_compiles() {
    let text = std::fs::read_to_string(root().join("docs/ioctl.md")).expect("docs/ioctl.md");
    let examples: Vec<&str> = text
        .split("```c\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|example| example.contains("int main("))
        .collect();
    assert!(!examples.is_empty(), "no complete program in docs/ioctl.md");
    for (nth, example) in examples.iter().enumerate() {
        let program = compile(&scratch(&format!("uapi_example_{nth}")), example, true);
        // Without the module it says so, and does not crash.
        let output = Command::new(program).output().expect("run");
        assert!(output.status.code().is_some(), "ended by a signal");
    }
}

/// Every structure and every constant of calls and events is in the documentation.
#[test]
fn the_documentation_is_complete() {
    let text = std::fs::read_to_string(root().join("docs/ioctl.md")).expect("docs/ioctl.md");
    for structure in STRUCTURES {
        assert!(
            text.contains(&format!("struct {}", structure.name)),
            "docs/ioctl.md does not have struct {}",
            structure.name
        );
    }
    for (name, _) in all_constants() {
        let grouped = ["EMD_NR_", "EMD_TASK_OP_", "EMD_TARGET_NONE"];
        if grouped.iter().any(|group| name.starts_with(group)) {
            continue;
        }
        assert!(text.contains(name), "docs/ioctl.md does not have {name}");
    }
}
