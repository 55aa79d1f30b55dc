//! The command line as users meet it: help, usage errors, exit codes, completions, manual pages.
#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

use assert_cmd::Command;

const SUBCOMMANDS: [&str; 9] =
    ["ping", "reflector", "collector", "scraper", "check", "demo", "matrix", "completions", "man"];

/// The program, away from the environment that could change what it does.
fn llama(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama"));
    command.args(args);
    for name in ["LLAMA_LOG", "LLAMA_CONFIG", "INFLUX_URL", "INFLUX_TOKEN", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("LLAMA_HISTORY", "none"); // nothing is left behind
    command
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = llama(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_of_everything_has_examples() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains("Examples:"), "{help}");
    for name in SUBCOMMANDS {
        assert!(help.contains(&format!("\n  {name} ")), "{name} in {help}");
        for flag in ["--help", "-h"] {
            let (code, help, _) = run(&[name, flag]);
            assert_eq!(code, 0, "{name}");
            assert!(help.contains("Examples:"), "{name} {flag}: {help}");
            assert!(help.contains(&format!("llama {name}")), "{name}: {help}");
        }
    }
}

/// Every example in a help text is a command line that the program takes.
#[test]
fn examples_are_valid() {
    use clap::Parser;
    let mut seen = 0;
    for name in SUBCOMMANDS {
        let (_, help, _) = run(&[name, "--help"]);
        let examples = help.split("Examples:").nth(1).unwrap();
        for line in examples.lines().map(str::trim) {
            let Some(at) = line.find("llama ") else { continue };
            // a command line starts its line, at most after an assignment; prose does not
            if at > 0 && !line.starts_with("INFLUX_TOKEN=") {
                continue;
            }
            let line = line[at..].split([';', '|', '>']).next().unwrap().replace('\'', "");
            let words = line.split_whitespace();
            if let Err(error) = llama::cli::args::Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 15, "only {seen} examples found");
}

#[test]
fn a_usage_error_exits_2_and_names_flag_value_limit_and_remedy() {
    let cases: [(&[&str], &[&str]); 34] = [
        (&["ping"], &["TARGET"]),
        (&["ping", "h", "--source-ports", "70000"], &["--source-ports", "70000", "60000"]),
        (&["ping", "h", "--source-ports", "0"], &["--source-ports", "1 to 60000"]),
        (&["ping", "h", "--source-port", "65530"], &["--source-ports", "65545", "65535", "lower"]),
        (&["ping", "h", "--count", "0"], &["--count", "1 to 4000000000"]),
        (&["ping", "h", "--rate", "0"], &["--rate", "0.01 to 10000000"]),
        (&["ping", "h", "--rate", "nan"], &["--rate", "0.01 to 10000000"]),
        (&["ping", "h", "--dscp", "184"], &["--dscp", "184", "0 to 63", "DSCP 46"]),
        (&["ping", "h", "--size", "43"], &["--size", "43", "44 to 9000"]),
        (&["ping", "h", "--size", "44", "--key-file", "k"], &["--size", "112", "raise"]),
        (&["ping", "h", "--size", "26", "--method", "llama"], &["--size", "26", "27 to 9000"]),
        (&["ping", "h", "--size", "37", "--method", "llama-python"], &["--size", "37", "36", "drop it"]),
        (&["ping", "h", "--key-file", "k", "--method", "llama"], &["--key-file", "llama", "drop one"]),
        (&["ping", "h", "--size", "9001"], &["--size", "9001", "9000"]),
        (&["ping", "h", "--method", "tcp"], &["--method", "udp", "llama-python", "tcp-syn", "icmp"]),
        (&["ping", "h", "--tcp", "--icmp"], &["--tcp", "--icmp"]),
        (&["ping", "h", "--tcp", "--size", "44"], &["--size", "SYN has no payload", "drop it"]),
        (&["ping", "h", "--tcp", "--key-file", "k"], &["--key-file", "tcp-syn", "drop one"]),
        (&["ping", "h", "--tcp", "--rate", "5000", "--syn-limit", "2000"], &["--rate", "5000", "2000", "--syn-limit"]),
        (&["ping", "h", "--timeout", "2m"], &["--timeout", "1ms to 60s"]),
        (&["ping", "h", "--duration", "10"], &["--duration", "unit is missing", "10s"]),
        (&["ping", "h:0"], &["port 0", "1 to 65535"]),
        (&["reflector", "--listen", "10.0.0.1"], &["--listen", "10.0.0.1:8100"]),
        (&["reflector", "--cores", "3-1"], &["--cores", "write 1-3"]),
        (&["reflector", "--max-pps", "0"], &["--max-pps", "leave the flag out"]),
        (&["matrix"], &["--url", "--influx"]),
        (&["matrix", "--url", "http://h", "--influx", "http://h?db=x"], &["--url", "cannot be used with"]),
        (&["matrix", "--url", "host:5000"], &["--url", "http://HOST:5000"]),
        (&["matrix", "--url", "http://h", "--metric", "jitter"], &["--metric", "ipdv"]),
        (&["matrix", "--url", "http://h", "--where", "east"], &["--where", "KEY=VALUE", "group=east"]),
        (&["matrix", "--url", "http://h", "--at", "noon"], &["--at", "2024-02-29T12:30:00Z"]),
        (&["matrix", "--url", "http://h", "--span", "1.5s"], &["--span", "whole seconds"]),
        (&["collector", "--influx", "db:8086"], &["--influx", "http://HOST:8086?db=NAME"]),
        (&["collector", "--influx-token", "t"], &["--influx-token", "add --influx"]),
    ];
    for (args, parts) in cases {
        let (code, out, error) = run(args);
        assert_eq!(code, 2, "{args:?}: {error}");
        assert_eq!(out, "", "{args:?}");
        for part in parts {
            assert!(error.contains(part), "{args:?}: {part} in {error}");
        }
    }
}

#[test]
fn without_arguments_the_help_is_the_error() {
    let (code, _, error) = run(&[]);
    assert_eq!(code, 2);
    assert!(error.contains("Usage: llama"), "{error}");
}

#[test]
fn the_token_is_not_shown_in_help() {
    let output = llama(&["collector", "--help"]).env("INFLUX_TOKEN", "sesame").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("INFLUX_TOKEN") && !help.contains("sesame"), "{help}");
}

#[test]
fn a_token_in_the_environment_is_nothing_to_the_matrix_of_a_server() {
    let output = llama(&["matrix", "--url", "http://127.0.0.1:1"]).env("INFLUX_TOKEN", "sesame").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, 0, "{shell}");
        assert!(script.contains("source-ports"), "{shell}: {script}");
    }
    assert_eq!(run(&["completions", "cmd"]).0, 2);
}

#[test]
fn manual_pages() {
    let (code, page, _) = run(&["man"]);
    assert_eq!(code, 0);
    assert!(page.contains(".TH llama 1"), "{page}");
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", dir.path().to_str().unwrap()]).0, 0);
    for name in SUBCOMMANDS {
        let page = std::fs::read_to_string(dir.path().join(format!("llama-{name}.1"))).unwrap();
        assert!(page.contains("Examples"), "{name}: {page}");
    }
    let (code, _, error) = run(&["man", "/nonexistent/dir"]);
    assert_eq!(code, 2);
    assert!(error.contains("/nonexistent/dir"), "{error}");
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_llama"));
    let status = command.args(["completions", "zsh"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// Starts a role that prints a line per interval, sends it a signal after its first line, and gives its exit code and
/// the rest of what it printed.
fn ended_by(signal: nix::sys::signal::Signal, args: &[&str]) -> (Option<i32>, String) {
    use std::io::{BufRead, Read};
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_llama"));
    command.args(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    command.env("LLAMA_HISTORY", "none");
    let mut child = command.spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap(); // --duration ends it in any case, with everything sent
    (child.wait().unwrap().code(), rest)
}

#[test]
fn a_signal_ends_the_demo() {
    use nix::sys::signal::Signal::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        let (code, rest) = ended_by(signal, &["demo", "--interval", "100ms", "--duration", "20s"]);
        assert_eq!(code, Some(0), "{signal}");
        assert!(rest.lines().count() < 6 * 100, "{signal} did not end it");
        assert!(rest.contains(" in all: "), "{signal}: {rest}");
    }
}

#[test]
fn a_signal_ends_the_collector_and_delivers_what_waits() {
    use nix::sys::signal::Signal::{SIGINT, SIGTERM};
    let (_dir, file) = configuration(
        "summarization: {interval: 0.1}\nports: {default: {timeout: 50}}\ntargets: {a: [{ip: 127.0.0.1, port: 9}]}\n",
    );
    for signal in [SIGINT, SIGTERM] {
        let (code, rest) = ended_by(signal, &["collector", "--config", &file, "--output", "-", "--duration", "20s"]);
        assert_eq!(code, Some(0), "{signal}");
        assert!(rest.ends_with("}\n"), "the last interval is delivered whole: {rest}");
        assert!(rest.lines().count() < 100, "{signal} did not end it");
    }
}

/// A configuration in a directory of its own.
fn configuration(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("matrix.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (dir, file)
}

const MATRIX: &str = "\
ports:
  wide: {ip: 127.0.0.1, port: 0, dscp: EF, timeout: 1000}
port_groups:
  spread: [{port: wide, count: 16}]
rate_limits:
  calm: {cps: 4}
tests:
  - {targets: far, port_group: spread, rate_limit: calm}
targets:
  far:
    - {ip: 127.0.0.2, port: 8100, tags: {rack: a}}
    - {ip: 127.0.0.3, port: 8100, tags: {rack: b}}
";

#[test]
fn check_says_what_a_configuration_will_do() {
    let (_dir, file) = configuration(MATRIX);
    let (code, out, error) = run(&["check", &file]);
    assert_eq!(code, 0, "{error}");
    for part in ["spread → far", "128/s", "flows", "memory", "EF"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (code, out, _) = run(&["check", &file, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["flows"].as_u64(), json["paths"].as_u64()), (0, Some(32), Some(2)));
}

#[test]
fn check_says_what_a_reload_changes() {
    let new = MATRIX
        .replace("cps: 4", "cps: 8")
        .replace("timeout: 1000", "timeout: 1000, size: 64")
        .replace("    - {ip: 127.0.0.3, port: 8100, tags: {rack: b}}\n", "    - {ip: 127.0.0.4, port: 8100}\n");
    let (_old_dir, old_file) = configuration(MATRIX);
    let (_new_dir, new_file) = configuration(&format!("api: {{bind: \"127.0.0.1:5000\"}}\n{new}"));
    let (code, out, error) = run(&["check", &old_file, "--diff", &new_file]);
    assert_eq!(code, 0, "{error}");
    let expected = format!(
        "{old_file} → {new_file}: what a reload changes

         kept  added  removed
targets     1      1        1
paths       1      1        1
sockets    16      0        0
flows       0     32       32

             before     after
interval     30.0 s    30.0 s
probes        128/s     256/s
in flight       512      1024

+ target far 127.0.0.4:8100

- target far 127.0.0.3:8100

+ path 127.0.0.1 → 127.0.0.4 EF

- path 127.0.0.1 → 127.0.0.3 EF

                   before                                                          after
ports.wide         udp, timeout 1000 ms, EF, 52 bytes, stamps auto, dscp verified  udp, timeout 1000 ms, EF, 64 bytes, stamps auto, dscp verified
test spread → far  32 flows, 4 cycles/s, periodic                                  32 flows, 8 cycles/s, periodic

needs a restart: api.bind: 127.0.0.1:5000 asked, none in use
"
    );
    // what things cost in memory may change
    let (memory, rest): (Vec<&str>, Vec<&str>) = out.lines().partition(|line| line.starts_with("memory "));
    assert!(rest.join("\n") + "\n" == expected, "{out}");
    assert!(memory.len() == 1 && memory[0].contains("MiB"), "{out}");
    let (code, out, _) = run(&["check", &old_file, "--diff", &old_file]);
    assert_eq!((code, out), (0, format!("{old_file} → {old_file}: a reload changes nothing\n")));

    let (_, out, _) = run(&["check", &old_file, "--diff", &new_file, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["unchanged"], false);
    assert_eq!(json["flows"], serde_json::json!({"kept": 0, "added": 32, "removed": 32}));
    assert_eq!(json["sockets"]["kept"], 16);
    assert_eq!(json["targets"]["added"], serde_json::json!(["far 127.0.0.4:8100"]));
    assert_eq!(json["probes_per_second"], serde_json::json!({"old": 128.0, "new": 256.0}));
    assert_eq!(json["needs_restart"].as_array().unwrap().len(), 1);

    // either file may be wrong
    let (_bad_dir, bad_file) = configuration(&MATRIX.replace("dscp: EF", "dscp: 99"));
    for pair in [[&bad_file, &new_file], [&old_file, &bad_file]] {
        let (code, out, error) = run(&["check", pair[0], "--diff", pair[1]]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(error.contains(&format!("{bad_file}:2:")), "{error}");
    }
}

#[test]
fn check_names_file_line_key_and_remedy() {
    let (_dir, file) = configuration(&MATRIX.replace("dscp: EF", "dscp: 99"));
    let (code, out, error) = run(&["check", &file]);
    assert_eq!((code, out.as_str()), (2, ""));
    for part in [&format!("{file}:2:"), "ports.wide.dscp", "99", "63"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let (code, _, error) = run(&["check", "/nonexistent/matrix.yaml"]);
    assert_eq!(code, 2);
    assert!(error.contains("/nonexistent/matrix.yaml"), "{error}");
}
