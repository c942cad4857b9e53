//! The command line: which role to run. Everything else is a setting.

use clap::{Parser, Subcommand, ValueEnum};

use crate::settings::Role;

/// A demo REST service that instruments itself completely. Settings are environment variables: see src/settings.rs.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API.
    Serve,
    /// Serve what the API calls, and do its jobs.
    Worker,
    /// Ask the process beside it whether it is ready: the container's health probe.
    Check {
        /// Which of the two it is.
        #[arg(default_value = "serve")]
        process: Process,
    },
}

/// A role by the name of its command.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Process {
    Serve,
    Worker,
}

impl From<Process> for Role {
    fn from(process: Process) -> Self {
        match process {
            Process::Serve => Self::Api,
            Process::Worker => Self::Worker,
        }
    }
}
