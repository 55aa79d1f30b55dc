//! Flags and subcommands, as typed by the user. One definition gives parsing, help, man pages and
//! shell completions.
//!
//! Not responsible for what the values mean to a role. Read [`Cli`] and [`Mode`] first.

#![allow(rustdoc::broken_intra_doc_links)] // these texts are shown as help: [::] is an address there

pub use super::matrix::flags::MatrixViewArgs;
pub use super::ping_args::{PING_COUNT, PingArgs};
use super::values::{self, CoreList};
use crate::net::features::IoChoice;
use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Loss and latency matrix: which path of a network loses or delays packets, and the proof.
///
/// A collector sends probes to reflectors over many flows, so that every equal-cost path is crossed,
/// and reports loss and round-trip time per path with timestamps taken in the kernel.
#[derive(Clone, Debug, Parser)]
#[command(name = "llama", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  llama demo                        See it work on this machine alone, until Ctrl-C
  llama reflector                   Answer probes on UDP port 8100
  llama ping HOST                   Measure loss and round-trip time to a reflector
  llama collector --config FILE     Measure a matrix of hosts, for ever
  llama scraper --collectors @FILE --influx URL
                                    Bring many collectors' summaries into one database

Exit status: 0 when all went well, 1 when it did not (for ping: when nothing came back),
2 when the command line or the configuration is wrong.")]
pub struct Cli {
    /// How log lines are written and which.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub mode: Mode,
}

/// Flags of every subcommand.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log (on standard error)")]
pub struct LogArgs {
    /// Least severe lines to write
    #[arg(long, global = true, value_name = "LEVEL", env = "LLAMA_LOG", default_value = "info", display_order = 900)]
    pub log_level: LogLevel,
    /// Form of a line
    #[arg(long, global = true, value_name = "FORM", default_value = "text", display_order = 901)]
    pub log_format: LogFormat,
    /// Write errors only: no log below them, no progress, no live table
    #[arg(long, short, global = true, display_order = 902)]
    pub quiet: bool,
}

/// Severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the names say it
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Forms of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text
    Text,
    /// One JSON object per line
    Json,
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Mode {
    /// Measure loss and round-trip time to one target, once
    Ping(PingArgs),
    /// Answer probes
    Reflector(ReflectorArgs),
    /// Probe many reflectors for ever and report every interval
    Collector(CollectorArgs),
    /// Say what a configuration will do, without sending anything
    Check(CheckArgs),
    /// Pull the summaries of many collectors into a database
    Scraper(ScraperArgs),
    /// Run reflectors and a collector on this machine's loopback and show the result live
    Demo(DemoArgs),
    /// Show the matrix of a running collector, scraper or demo in the terminal, or serve that of a database
    Matrix(MatrixArgs),
    /// Print a shell completion script
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them to a directory
    Man(ManArgs),
}

/// `llama reflector`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama reflector
      Answers on UDP port 8100, IPv4 and IPv6: STAMP, and probes of the older LLAMA
  llama reflector --listen 192.0.2.7:862 --cores 2-3 --stateful
      On STAMP's own port, on two cores, counting replies so that senders can tell forward from reverse loss
  llama reflector --max-pps 200000 --max-pps-per-source 5000
      Beyond it packets are dropped and counted, never delayed

A reply is never longer than the probe, so a reflector amplifies nothing. It needs no privileges
(but for ports below 1024).")]
pub struct ReflectorArgs {
    /// Address and UDP port to answer on, repeatable; [::] takes IPv4 too
    #[arg(long, short, value_name = "ADDR:PORT", value_parser = values::listen, default_value = "[::]:8100")]
    pub listen: Vec<SocketAddr>,
    /// CPUs to run on, one pinned worker each: 0,2-3 [default: every CPU it may use; one, when the system chooses the port]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<CoreList>,
    /// Packets per second answered in all; more are dropped and counted [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::packets_per_second)]
    pub max_pps: Option<u32>,
    /// Packets per second answered to one IPv4 address or IPv6 /64, by each worker; more are dropped and counted
    /// [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::packets_per_second)]
    pub max_pps_per_source: Option<u32>,
    /// Number the replies of each session (stateful STAMP), so that senders learn the direction of a loss
    #[arg(long)]
    pub stateful: bool,
    /// Answer authenticated STAMP only, and no probe of the older LLAMA: file with the shared key (HMAC-SHA-256)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,
    /// How datagrams go in and out
    #[arg(long, value_name = "HOW", value_parser = values::io(), default_value = "auto")]
    pub io: IoChoice,
    /// Write a line of counts every 10 seconds while they change, also when not on a terminal
    #[arg(long)]
    pub stats: bool,
    /// Serve Prometheus metrics of the reflector itself at http://ADDR:PORT/metrics [default: not served]
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listen)]
    pub metrics: Option<SocketAddr>,
    /// Stop after this time: 10s, 5m, 1h [default: on SIGINT or SIGTERM]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub duration: Option<Duration>,
}

/// `llama collector`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama collector --config matrix.yaml --influx 'http://db:8086?db=llama'
      Writes every interval's summaries to InfluxDB 1.x (or VictoriaMetrics)
  INFLUX_TOKEN=… llama collector --config matrix.yaml --influx 'https://db?org=net&bucket=llama'
      InfluxDB 2.x and 3.x
  llama collector --config matrix.yaml --output - --duration 1m | jq .
      One JSON object per path and interval, for a minute
  llama collector --config matrix.yaml --influx 'http://db:8086?db=llama' --spool /var/lib/llama
      Summaries survive a database that is away, and a restart meanwhile
  llama collector --config matrix.yaml --api 127.0.0.1:5000
      What upstream's scraper reads, state, metrics: see http://127.0.0.1:5000/
  llama check matrix.yaml
      First see what a configuration will do

While a database is away summaries wait on disk with --spool, else in bounded memory; what had to be dropped is counted.
SIGHUP reads the configuration again, without a gap; a file with a mistake is refused and the plan before goes on.
Exit status: 0 after --duration or a signal, 1 on a failure, 2 when flags or configuration are wrong.")]
pub struct CollectorArgs {
    /// Configuration file, YAML; upstream's two forms are read too [default: probe 127.0.0.1:8100]
    #[arg(long, short, value_name = "FILE", env = "LLAMA_CONFIG", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Destination port of the legacy form's targets; the full form names its own
    #[arg(long, value_name = "PORT", default_value = "8100", value_parser = clap::value_parser!(u16).range(1..))]
    pub dst_port: u16,
    /// Where summaries go.
    #[command(flatten)]
    pub destinations: DestinationArgs,
    /// What is kept here.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// Serve the HTTP API and metrics here [default: api.bind of the configuration; 0.0.0.0:5000, as upstream, in the
    /// legacy form and without a file; else not served]
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listen)]
    pub api: Option<SocketAddr>,
    /// Let hosts other than this one reload the configuration through the API
    #[arg(long)]
    pub allow_remote_reload: bool,
    /// Stop after this time: 10s, 5m, 1h [default: on SIGINT or SIGTERM]
    #[arg(long, short, value_name = "TIME", value_parser = values::duration)]
    pub duration: Option<Duration>,
    /// CPUs to run on, one pinned worker each: 0,2-3 [default: as many as the rate needs]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<CoreList>,
    /// How datagrams go in and out
    #[arg(long, value_name = "HOW", value_parser = values::io(), default_value = "auto")]
    pub io: IoChoice,
    /// Do not show the live table, which is shown on a terminal unless --output - uses it
    #[arg(long)]
    pub no_table: bool,
}

/// Flags of the destinations of summaries.
#[derive(Clone, Debug, Args)]
pub struct DestinationArgs {
    /// Write summaries to InfluxDB: http://HOST:8086?db=NAME or ?org=ORG&bucket=NAME
    #[arg(long, value_name = "URL", env = "INFLUX_URL", value_parser = values::influx_url, value_hint = ValueHint::Url)]
    pub influx: Option<String>,
    /// Token for InfluxDB 2.x and 3.x; better in the environment than in the process list
    #[arg(long, value_name = "TOKEN", env = "INFLUX_TOKEN", hide_env_values = true)]
    pub influx_token: Option<String>,
    /// Write the histogram of round trips and all listed flows into every point too, so that percentiles of many points are exact
    #[arg(long, requires = "influx")]
    pub influx_detail: bool,
    /// Where summaries wait on disk while the database is away
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// Append summaries to this file as JSON lines; - is standard output
    #[arg(long, short, value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// Flags of the disk spool.
#[derive(Clone, Debug, Args)]
pub struct SpoolArgs {
    /// Keep summaries the database did not take in this directory, also across restarts
    #[arg(long = "spool", value_name = "DIR", requires = "influx", value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
    /// Bytes the spool may use: 500M, 2G; beyond it the oldest summaries are dropped and counted
    #[arg(long = "spool-max-bytes", value_name = "BYTES", value_parser = values::bytes, default_value = "1G", requires = "directory")]
    pub max_bytes: u64,
    /// Age at which spooled summaries are dropped and counted: 12h, 7d
    #[arg(long = "spool-max-age", value_name = "TIME", value_parser = values::duration, default_value = "7d", requires = "directory")]
    pub max_age: Duration,
}

/// Flags of the history.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "History (what the matrix shows)")]
pub struct HistoryArgs {
    /// Keep summaries in this directory; none keeps nothing [default: history in $STATE_DIRECTORY, of root
    /// /var/lib/llama/history-ROLE, else llama/history-ROLE in $XDG_STATE_HOME or ~/.local/state; of demo one that is
    /// removed at its end]
    #[arg(long, value_name = "DIR|none", env = "LLAMA_HISTORY", value_hint = ValueHint::DirPath)]
    pub history: Option<PathBuf>,
    /// How long summaries are kept as they came: 24h, 7d; joined to 5 minutes they are kept two weeks, to hours a year
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "24h")]
    pub history_age: Duration,
    /// Bytes the history may use: 500M, 8G; beyond it the oldest goes [default: 20G, or half of what is free on its disk]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub history_max_bytes: Option<u64>,
}

/// `llama scraper`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama scraper --collectors host1,host2:5001 --influx 'http://db:8086?db=llama'
      Pulls two collectors every 30 seconds and writes their summaries to InfluxDB 1.x (or VictoriaMetrics)
  llama scraper --collectors @hosts.txt --influx 'http://db:8086?db=llama' --spool /var/lib/llama --api [::]:5001
      Collectors from a file, one per line, read again when it changes; summaries survive a database that is away, and
      a restart goes on where it ended; state at http://HOST:5001/api/v1/collectors

Collectors of the first LLAMA are read as well. Without --influx or --output nothing is stored: what was pulled is only
shown, and served by --api. SIGHUP reads the file of collectors again. Exit status: 0 after --duration or a signal, 1 on a failure,
2 when flags are wrong.")]
pub struct ScraperArgs {
    /// Collectors to pull, separated by commas, or @FILE with one per line; PORT is 5000 when left out
    #[arg(long, short, value_name = "HOST[:PORT],…|@FILE", required = true)]
    pub collectors: String,
    /// Where summaries go.
    #[command(flatten)]
    pub destinations: DestinationArgs,
    /// What is kept here.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// How often every collector is asked: 100ms to 1h
    #[arg(long, short, value_name = "TIME", value_parser = values::interval, default_value = "30s")]
    pub interval: Duration,
    /// Remember in this file how far each collector was pulled, across restarts; one scraper per file, with --influx or
    /// --output [default: scraper-positions in --spool DIR]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub positions: Option<PathBuf>,
    /// Serve the state of the collectors and metrics here [default: not served]
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listen)]
    pub api: Option<SocketAddr>,
    /// Stop after this time: 10s, 5m, 1h [default: on SIGINT or SIGTERM]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub duration: Option<Duration>,
}

/// `llama check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama check matrix.yaml
      Paths, flows, probes per second per target and in all, memory, sockets
  llama check matrix.yaml --json
      The same for a script
  llama check matrix.yaml --diff matrix-new.yaml
      What a collector that runs matrix.yaml changes when it is reloaded with the other, and what needs a restart

Exit status: 0 when a collector would run it, 2 with file, line, key and remedy when not.")]
pub struct CheckArgs {
    /// Configuration file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Say what a running collector would change when reloaded from FILE to NEW
    #[arg(long, value_name = "NEW", value_hint = ValueHint::FilePath)]
    pub diff: Option<PathBuf>,
    /// Destination port of the legacy form's targets; the full form names its own
    #[arg(long, value_name = "PORT", default_value = "8100", value_parser = clap::value_parser!(u16).range(1..))]
    pub dst_port: u16,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `llama demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama demo
      Until Ctrl-C
  llama demo --duration 10s --rate 20000
      Ten seconds at a higher rate; --rate is probes per second in all
  llama demo --duration 5s --json
      One JSON object per path and interval

Meanwhile a browser shows the matrix at http://127.0.0.1:5000/ (the log names the port when that one is taken).
Uses loopback addresses only; no privileges, no configuration, nothing left behind.")]
pub struct DemoArgs {
    /// Stop after this time: 10s, 5m, 1h [default: on Ctrl-C]
    #[arg(long, short, value_name = "TIME", value_parser = values::duration)]
    pub duration: Option<Duration>,
    /// Probes per second in all; 0.01 to 10000000
    #[arg(long, short, value_name = "PER_SECOND", value_parser = values::rate, default_value = "2000")]
    pub rate: f64,
    /// Reporting period: 100ms to 1h
    #[arg(long, value_name = "TIME", value_parser = values::interval, default_value = "1s")]
    pub interval: Duration,
    /// Print JSON lines instead of the live table
    #[arg(long)]
    pub json: bool,
    /// Serve the matrix and the HTTP API here [default: 127.0.0.1:5000, another port when it is taken]
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listen)]
    pub api: Option<SocketAddr>,
    /// What is kept.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// How datagrams go in and out
    #[arg(long, value_name = "HOW", value_parser = values::io(), default_value = "auto")]
    pub io: IoChoice,
}

/// `llama matrix`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama matrix --url http://collector:5000
      Loss from groups to groups in the newest interval, whether to believe it, and the worst paths and flows
  llama matrix --url http://collector:5000 --watch --metric p99 --rows src_rack --columns dst_rack
      Redrawn with each interval, until Ctrl-C
  llama matrix --url http://collector:5000 --span 10m --before 1d --where dscp=46 --where group=east
      What changed since yesterday, of one class and one group
  llama matrix --url http://collector:5000 --at 2024-02-29T03:00:00Z --json | jq .total
      That night, for a script
  llama matrix --influx 'http://db:8086?db=llama'
      Serves the matrix of what a fleet wrote to InfluxDB 1.x at http://127.0.0.1:5001/

Exit status: 0 when it was shown, or after a signal, 1 when the server cannot be asked or refuses, or by --fail-above, 2 when
flags are wrong.")]
#[command(group = ArgGroup::new("whose").required(true).args(["url", "influx"]))]
pub struct MatrixArgs {
    /// The matrix in the terminal.
    #[command(flatten)]
    pub view: MatrixViewArgs,
    /// The matrix of a database.
    #[command(flatten)]
    pub serve: MatrixServeArgs,
}

/// Flags of serving the matrix of a database.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Over a database")]
pub struct MatrixServeArgs {
    /// Serve the matrix of summaries in this InfluxDB 1.x: http://HOST:8086?db=NAME
    #[arg(long, value_name = "URL", value_parser = values::influx_url, value_hint = ValueHint::Url)]
    pub influx: Option<String>,
    /// Token for InfluxDB; better in the environment than in the process list
    #[arg(long, value_name = "TOKEN", env = "INFLUX_TOKEN", hide_env_values = true)]
    pub influx_token: Option<String>,
    /// Trust these certificates (PEM) instead of the public ones
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "influx")]
    pub influx_ca: Option<PathBuf>,
    /// Serve the matrix and its API here
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listen, default_value = "127.0.0.1:5001", requires = "influx")]
    pub api: SocketAddr,
}

/// `llama completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama completions bash > ~/.local/share/bash-completion/completions/llama
  llama completions zsh > ~/.zfunc/_llama
  llama completions fish > ~/.config/fish/completions/llama.fish")]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// `llama man`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama man | man -l -
      Read the page
  llama man /usr/local/share/man/man1
      Write llama.1, llama-ping.1 and so on")]
pub struct ManArgs {
    /// Directory for all pages; it must exist [default: print llama.1]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

impl Cli {
    /// The command line of this process. Prints and exits on `--help`, `--version` (0) and usage errors (2).
    pub fn from_command_line() -> Cli {
        let cli = Cli::parse();
        match cli.check() {
            Ok(()) => cli,
            Err(text) => Cli::command().error(ErrorKind::ValueValidation, text).exit(),
        }
    }

    /// What one flag alone cannot tell.
    fn check(&self) -> Result<(), String> {
        let token = |args: &DestinationArgs| match (&args.influx, &args.influx_token) {
            (None, Some(_)) if std::env::var_os("INFLUX_TOKEN").is_none() => {
                Err("--influx-token: a token without a database to use it on; add --influx URL".into())
            }
            _ => Ok(()),
        };
        match &self.mode {
            Mode::Ping(args) => args.check(),
            Mode::Collector(args) => token(&args.destinations),
            Mode::Scraper(args) => token(&args.destinations),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(args: &[&str]) -> PingArgs {
        let line = ["llama", "ping"].iter().chain(args);
        match Cli::try_parse_from(line).unwrap().mode {
            Mode::Ping(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ping_defaults_take_five_seconds() {
        let args = ping(&["192.0.2.7"]);
        assert_eq!((args.probes(), args.sending_time()), (1000, Duration::from_secs(5)));
        assert_eq!((args.port(), args.source_ports, args.payloads()), (8100, 16, vec![44]));
        assert_eq!(ping(&["h", "--duration", "10s", "--rate", "0.5"]).probes(), 5);
        assert_eq!(ping(&["h", "--key-file", "k"]).payloads(), [112]);
        assert_eq!(ping(&["h", "--dscp", "0,EF"]).payloads(), [52], "room for the reflector's report");
        assert_eq!(ping(&["h", "--dscp", "EF", "--verify-dscp", "off"]).payloads(), [44]);
        assert_eq!(ping(&["h", "--dscp", "EF", "--key-file", "k"]).payloads(), [140]);
    }

    #[test]
    fn flags_that_contradict_are_refused() {
        let refused = |args: &[&str]| ping(args).check().unwrap_err();
        assert!(refused(&["h", "--source-port", "65530"]).contains("65545"));
        assert!(refused(&["h", "--source-port", "59990"]).contains("60000 is a port of reflectors"));
        assert!(refused(&["h", "--key-file", "k", "--size", "60"]).contains("112 or more"));
        assert!(refused(&["h", "--source", "10.0.0.1", "-6"]).contains("-6"));
        assert!(refused(&["h", "--dscp", "EF,46"]).contains("class 46 is named twice"));
        assert!(refused(&["h", "--size", "64,64"]).contains("64 is named twice"));
        assert!(refused(&["h", "--size", "44", "--verify-dscp", "on"]).contains("52 or more"));
        assert!(refused(&["h", "--icmp", "--verify-dscp", "on"]).contains("no room"));
        assert!(ping(&["h", "--source-port", "65520"]).check().is_ok());
        assert!(Cli::try_parse_from(["llama", "ping", "h", "-4", "-6"]).is_err());
        assert!(Cli::try_parse_from(["llama", "ping", "h", "--count", "5", "--duration", "1s"]).is_err());
    }

    #[test]
    fn listen_repeats() {
        let cli =
            Cli::try_parse_from(["llama", "reflector", "--listen", "127.0.0.1:1", "--listen", "[::1]:2"]).unwrap();
        match cli.mode {
            Mode::Reflector(args) => assert_eq!(args.listen.len(), 2),
            other => panic!("{other:?}"),
        }
    }
}
