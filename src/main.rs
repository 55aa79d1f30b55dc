//! Parses the command line, runs one role, turns an error into an exit code.

use llama::cli::args::{Cli, Mode};
use llama::cli::{exit, generate, logging, roles};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli { log, mode } = Cli::from_command_line();
    logging::start(&log);
    exit::code(match mode {
        Mode::Ping(args) => roles::ping(&args, &log),
        Mode::Reflector(args) => roles::reflector(&args, &log),
        Mode::Collector(args) => roles::collector(&args, &log),
        Mode::Scraper(args) => roles::scraper(&args, &log),
        Mode::Check(args) => roles::check(&args),
        Mode::Demo(args) => roles::demo(&args, &log),
        Mode::Matrix(args) if args.view.url.is_some() => roles::matrix_view(&args.view, &log),
        Mode::Matrix(args) => roles::matrix(&args.serve),
        Mode::Completions(args) => generate::completions(&args),
        Mode::Man(args) => generate::man(&args),
    })
}
