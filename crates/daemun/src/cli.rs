//! The command line: its grammar, and which command it calls. What the commands do is in [`crate::command`] and [`crate::run`].

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use daemun_config::diagnostic::nearest;

use crate::code::{Code, Failure};
use crate::output::{Output, wants_color};
use crate::{command, panics, run};

/// An API gateway: one binary, one configuration.
#[derive(Debug, Parser)]
#[command(name = "daemun", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve; SIGHUP reloads, SIGTERM drains, SIGUSR1 reopens logs, SIGUSR2 hands over to a new binary
    Run(ConfigFile),
    /// Show every error and warning of a configuration
    Check(Check),
    /// Say what would be done with a request, without doing it
    Explain(Explain),
    /// Show the route table in the order it matches
    Routes(Routes),
    /// Make an API key, or the digest of one
    #[command(subcommand)]
    Key(Key),
    /// Make the hash of a user's password
    #[command(subcommand)]
    Password(Password),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Run a gateway with sample backends and keys, and show calls to try
    Demo,
    /// Print version, commit and features
    Version,
}

/// Where the configuration is.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigFile {
    /// Configuration file or folder [default: ./daemun.yaml, then /etc/daemun/daemun.yaml]
    #[arg(short, long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Routes {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Form of the table
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Method, such as GET
    pub(crate) method: String,
    /// Whole URL, such as `https://api.example.com/items/1?x=2`
    pub(crate) url: String,
    /// Request field, as often as needed
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Address the request would come from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) client_ip: IpAddr,
    /// Form of the explanation
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a new key and its digest
    New {
        /// Form of the result
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print the digest of a key read from standard input
    Hash {
        /// The key; other users of this machine can see it in the list of processes
        key: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Password {
    /// Print the hash of a password read from standard input
    Hash,
}

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Runs the command that the program was started with.
#[must_use]
pub fn main() -> ExitCode {
    let mut out = io::stdout();
    let mut err = io::stderr();
    let mut output = Output { out: &mut out, err: &mut err, color: wants_color() };
    panics::tell_on_stderr();
    if let Err(error) = daemun_sys::write_no_core() {
        output.note(format!(
            "warning: this process may leave its memory, with its secrets, in a file if it crashes: {error}"
        ));
    }
    // What has panicked has said so on standard error already.
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| run_command(std::env::args_os(), &mut output)));
    ExitCode::from(ran.unwrap_or(Code::Internal) as u8)
}

/// Runs one command: `arguments` begin with the program's name. Results and findings go to `output`.
pub fn run_command(arguments: impl IntoIterator<Item = OsString>, output: &mut Output<'_>) -> Code {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(error, output),
    };
    match dispatch(cli.command, output) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message().is_empty() {
                output.note(format!("error: {failure}"));
            }
            failure.code()
        }
    }
}

fn usage(mut error: clap::Error, output: &mut Output<'_>) -> Code {
    suggest(&mut error);
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match output.line(text.trim_end()) {
            Ok(()) => Code::Done,
            Err(error) => Failure::from(error).code(),
        };
    }
    output.note(text.trim_end());
    Code::Usage
}

/// Offers the command that was probably meant, as findings do it: what clap holds for near may be far.
fn suggest(error: &mut clap::Error) {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let grammar = Cli::command();
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let below = grammar.get_subcommands().find(|command| usage.contains(&format!("daemun {} <", command.get_name())));
    let names = below.unwrap_or(&grammar).get_subcommands().map(clap::Command::get_name);
    let near = nearest(typed, names).map(str::to_owned);
    if let Some(near) = near {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![near]));
    }
}

fn dispatch(command: Command, output: &mut Output<'_>) -> Result<Code, Failure> {
    match command {
        Command::Run(file) => run::run(&file, output),
        Command::Check(check) => command::check::run(&check, output),
        Command::Explain(explain) => command::explain::run(&explain, output),
        Command::Routes(routes) => command::routes::run(&routes, output),
        Command::Key(key) => command::key::run(&key, output),
        Command::Password(password) => command::password::run(&password, output),
        Command::Schema => command::schema::run(output),
        Command::Demo => command::demo::run(output),
        Command::Version => command::version::run(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }
}
