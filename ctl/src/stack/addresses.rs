//! Where the stack's doors are. The defaults are those that .env publishes on this machine; compose sets the variables to the
//! names inside its network.

use clap::Args;

/// Base URLs, without a trailing slash. They may hold a password, which the help does not show. Reads go through the query balancer, as Grafana's do.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Addresses")]
pub struct Addresses {
    /// Alloy's OTLP/HTTP receiver
    #[arg(
        long,
        env = "SIGNALBOX_OTLP_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:4318"
    )]
    pub otlp: String,
    /// Alloy's receiver of profiles
    #[arg(
        long,
        env = "SIGNALBOX_PROFILES_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:4040"
    )]
    pub profiles: String,
    /// Alloy's own page and metrics
    #[arg(
        long,
        env = "SIGNALBOX_ALLOY_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:12345"
    )]
    pub alloy: String,
    /// Loki, through the query balancer
    #[arg(
        long,
        env = "SIGNALBOX_LOKI_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:13100"
    )]
    pub loki: String,
    /// Mimir, through the query balancer
    #[arg(
        long,
        env = "SIGNALBOX_MIMIR_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:19009"
    )]
    pub mimir: String,
    /// Tempo, through the query balancer
    #[arg(
        long,
        env = "SIGNALBOX_TEMPO_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:13200"
    )]
    pub tempo: String,
    /// Pyroscope, through the query balancer
    #[arg(
        long,
        env = "SIGNALBOX_PYROSCOPE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:14040"
    )]
    pub pyroscope: String,
}
