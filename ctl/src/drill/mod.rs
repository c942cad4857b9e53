//! `signalboxctl drill`: something goes wrong, somebody finds out what from the signals alone, and the answer is graded.
//!
//! A drill is a file of `drills/`; what goes wrong is done by a player in the background, so that the terminal is free for the search.

mod clean;
mod compose;
mod definition;
mod explore;
mod grade;
mod play;
mod record;
mod state;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Subcommand;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signalbox_telemetry::SecretUrl;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use self::definition::{Drill, Mode, fill};
use self::grade::Verdict;
use self::play::Signals;
use self::state::{Desk, Run, Solved, now_ms};
use crate::output::say;
use crate::{demo, http};

/// How long the player may take to begin: the shop fills its database first.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(180);
/// How long the player may take to end.
const PLAYER_TIMEOUT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
/// So many seeds are tried for an answer that was not the last one.
const SEEDS: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Order>,
    /// Folder of the drills
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_DRILLS",
        default_value = "drills",
        value_name = "FOLDER"
    )]
    drills: PathBuf,
    /// Folder of the demo, in which also this keeps what is on and what was solved
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_DATA_DIR",
        default_value = "data",
        value_name = "FOLDER"
    )]
    data_dir: PathBuf,
    /// The service
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:18080",
        value_name = "URL"
    )]
    url: String,
    /// The viewer
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_VIEWER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:18090",
        value_name = "URL"
    )]
    viewer: String,
    /// Where it is played: what runs in the stack is told by its container
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_DRILL_MODE",
        value_enum,
        default_value_t = Mode::Demo
    )]
    mode: Mode,
    /// Grafana, on the stack
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_GRAFANA_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:13000",
        value_name = "URL"
    )]
    grafana: String,
    /// Where the shop sends logs, metrics and traces on the stack
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_OTLP_URL",
        hide_env_values = true,
        default_value = "http://alloy:4318",
        value_name = "URL"
    )]
    otlp: String,
    /// Where it sends profiles there
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_PROFILES_URL",
        hide_env_values = true,
        default_value = "http://alloy:4040",
        value_name = "URL"
    )]
    profiles: String,
    /// Loki's push API there
    #[arg(
        long,
        global = true,
        env = "SIGNALBOX_LOKI_PUSH_URL",
        hide_env_values = true,
        default_value = "http://nginx-push:13100",
        value_name = "URL"
    )]
    loki: String,
    /// The service's database; without it the demo's own
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
enum Order {
    /// List the drills, and say which is on (the default)
    List,
    /// Begin one
    Start { number: u32 },
    /// Show the next of three hints
    Hint,
    /// Grade an answer: field=value field=value
    Answer {
        #[arg(required = true)]
        fields: Vec<String>,
    },
    /// End what is on, whatever state it is in
    Stop,
    /// Write what happened since the drill began to one file, with its question
    Record { file: PathBuf },
    /// Show a recorded incident in a viewer of its own, until Ctrl-C
    Open { file: PathBuf },
    /// What `make` tells Docker Compose: a line for each part of the stack that the drill changes, or that is healed
    #[command(hide = true)]
    Compose { what: compose::What },
    /// What runs in the background while a drill is on
    #[command(hide = true)]
    Play,
}

pub async fn run(args: Args) -> Result<(), String> {
    let desk = Desk::open(&args.data_dir)?;
    match args.command.clone().unwrap_or(Order::List) {
        Order::List => list(&args, &desk),
        Order::Start { number } => start(&args, &desk, number).await,
        Order::Hint => hint(&args, &desk),
        Order::Answer { fields } => answer(&args, &desk, &fields.join(" ")).await,
        Order::Stop => stop(&desk).await,
        Order::Record { file } => {
            let (drill, run) = on(&args, &desk)?;
            let size = record::record(&run, &drill.text, &drill.title, &file).await?;
            say!("{}: {} KB", file.display(), size.div_ceil(1024));
            Ok(())
        }
        Order::Open { file } => record::open(&desk, &file, told_story).await,
        Order::Compose { what } => {
            if desk.run()?.is_some() {
                let (drill, run) = on(&args, &desk)?;
                compose::lines(&drill, &run, what)
                    .iter()
                    .for_each(|line| say!("{line}"));
            }
            Ok(())
        }
        Order::Play => {
            let (drill, run) = on(&args, &desk)?;
            let database = args.database.filter(|url| !url.trim().is_empty());
            let database = database.unwrap_or_else(|| demo::database_url(&args.data_dir));
            let signals = match run.mode {
                Mode::Demo => Signals {
                    otlp: run.viewer.clone(),
                    profiles: run.viewer.clone(),
                    loki: String::new(),
                },
                Mode::Stack => Signals {
                    otlp: args.otlp,
                    profiles: args.profiles,
                    loki: args.loki,
                },
            };
            play::play(&desk, &drill, &run, &database, &signals).await
        }
    }
}

/// The drill that is on.
fn on(args: &Args, desk: &Desk) -> Result<(Drill, Run), String> {
    let run = desk
        .run()?
        .ok_or("no drill is on: `make drill` lists them")?;
    let drill = match run.recorded {
        Some(_) => Drill::parse(run.drill, &desk.definition()?)?,
        None => find(args, run.drill)?,
    };
    Ok((drill, run))
}

fn find(args: &Args, number: u32) -> Result<Drill, String> {
    let drills = Drill::all(&args.drills)?;
    let found = drills.into_iter().find(|drill| drill.number == number);
    found.ok_or_else(|| format!("there is no drill {number}: `make drill` lists them"))
}

fn minutes(ms: u64) -> String {
    match ms / 60_000 {
        0 => format!("{} s", ms / 1000),
        minutes => format!("{minutes} min"),
    }
}

/// `1 hint`, `2 hints`.
fn hints(used: usize) -> String {
    match used {
        1 => "1 hint".into(),
        used => format!("{used} hints"),
    }
}

fn list(args: &Args, desk: &Desk) -> Result<(), String> {
    let solved = desk.solved()?;
    let drills = Drill::all(&args.drills)?;
    let widths = drills.iter().map(|drill| drill.title.chars().count());
    let width = widths.max().unwrap_or_default();
    say!(
        "{:>3}  {:<width$} {:>7}  {:<11} solved first",
        "",
        "drill",
        "minutes",
        "played in"
    );
    for drill in drills {
        let modes: Vec<&str> = drill.modes.iter().map(|mode| mode.name()).collect();
        // What somebody already knows is found sooner: the first time is the one that counts.
        let first = solved.iter().find(|one| one.drill == drill.number);
        let first = first.map_or_else(String::new, |one| {
            format!("in {}, {}", minutes(one.took_ms), hints(one.hints))
        });
        say!(
            "{:>3}  {:<width$} {:>7}  {:<11} {first}",
            drill.number,
            drill.title,
            drill.minutes,
            modes.join(", ")
        );
    }
    match desk.run()? {
        None => say!("\nmake drill-1 begins the first"),
        Some(run) => say!("\n{}", since(desk, &run)),
    }
    Ok(())
}

/// Which drill is on, and since when.
fn since(desk: &Desk, run: &Run) -> String {
    let since = minutes(now_ms().saturating_sub(run.started_ms));
    if run.recorded.is_some() {
        return format!(
            "a recorded incident is open since {since}, {} used",
            hints(run.hints)
        );
    }
    match desk.player() {
        Some(_) => format!(
            "drill {} is on since {since}, {} used",
            run.drill,
            hints(run.hints)
        ),
        None => format!(
            "drill {} was begun {since} ago, and its player has ended (see {}): make drill-stop, and begin again",
            run.drill,
            desk.log().display()
        ),
    }
}

async fn start(args: &Args, desk: &Desk, number: u32) -> Result<(), String> {
    if let Some(run) = desk.run()? {
        return Err(format!("{}; make drill-stop ends it", since(desk, &run)));
    }
    let drill = find(args, number)?;
    if !drill.modes.contains(&args.mode) {
        return Err(match args.mode {
            Mode::Demo => format!("drill {number} is played on the stack: make up"),
            Mode::Stack => format!("drill {number} is played in the demo: make down, make demo"),
        });
    }
    let client = http::client(Duration::from_secs(5), 1).map_err(|error| error.to_string())?;
    let begun_by = match args.mode {
        Mode::Demo => "make demo",
        Mode::Stack => "make up",
    };
    let ready = http::ask(client.get(format!("{}/readyz", args.url))).await;
    ready.map_err(|reason| {
        let url = SecretUrl::from(args.url.as_str());
        format!("{url}: {reason}; start it with `{begun_by}`")
    })?;
    if args.mode == Mode::Demo {
        demo::is_lens(&client, &args.viewer)
            .await
            .map_err(|reason| {
                let url = SecretUrl::from(args.viewer.as_str());
                format!("{url}: {reason}; start it with `{begun_by}`")
            })?;
    }

    desk.keep(&Run {
        drill: number,
        seed: another(&drill, &desk.solved()?),
        started_ms: now_ms(),
        hints: 0,
        mode: args.mode,
        service: args.url.clone(),
        viewer: match args.mode {
            Mode::Demo => args.viewer.clone(),
            Mode::Stack => args.grafana.clone(),
        },
        recorded: None,
    })?;
    if let Err(reason) = begin(args, desk).await {
        desk.forget()?;
        return Err(reason);
    }
    let (drill, run) = on(args, desk)?;
    told_story(&drill, &run);
    Ok(())
}

/// A seed whose right answer is another one than that of the last time this drill was solved, where there is another.
fn another(drill: &Drill, solved: &[Solved]) -> u64 {
    let of_drill = solved.iter().rev().find(|one| one.drill == drill.number);
    let last = of_drill.map(|one| drill.answers(one.seed));
    let seeds = std::iter::repeat_with(|| fastrand::u64(..)).take(SEEDS);
    let mut seed = 0;
    for one in seeds {
        seed = one;
        if last.as_ref() != Some(&drill.answers(seed)) {
            break;
        }
    }
    seed
}

/// Tells what somebody noticed, and what is asked.
fn told_story(drill: &Drill, run: &Run) {
    say!(
        "Drill {}: {}\n\n{}\n",
        drill.number,
        drill.title,
        drill.story.trim()
    );
    for question in &drill.question {
        say!("  {:<12} {}", question.field, question.ask);
    }
    let fields: Vec<String> = drill
        .question
        .iter()
        .map(|question| format!("{}=…", question.field))
        .collect();
    say!(
        "\n{} {}: {}\nmake hint · make answer ANSWER='{}' · make drill-stop",
        match run.recorded {
            None => "It is on now, in the background.",
            Some(_) => "It was recorded.",
        },
        match run.mode {
            Mode::Demo => "The viewer",
            Mode::Stack => "Grafana",
        },
        match run.recorded {
            None => format!("{}/", run.viewer), // its usual range, which ends now
            Some(_) => seen_at(run, "/"),
        },
        fields.join(" ")
    );
}

/// Starts the player and returns when it is at work.
async fn begin(args: &Args, desk: &Desk) -> Result<(), String> {
    let told = |error: std::io::Error| format!("the player: {error}");
    let log = File::create(desk.log()).map_err(told)?;
    let mut command = Command::new(std::env::current_exe().map_err(told)?);
    command
        .args(["drill", "play", "--drills"])
        .arg(&args.drills)
        .arg("--data-dir")
        .arg(&args.data_dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(told)?)
        .stderr(log)
        .process_group(0); // a Ctrl-C in this terminal is not for it
    // By the environment, where a process list does not show it.
    if let Some(database) = &args.database {
        command.env("DATABASE_URL", database);
    }
    command
        .env("SIGNALBOX_OTLP_URL", &args.otlp)
        .env("SIGNALBOX_PROFILES_URL", &args.profiles)
        .env("SIGNALBOX_LOKI_PUSH_URL", &args.loki);
    let mut player = command.spawn().map_err(told)?;
    let end = Instant::now() + BEGIN_TIMEOUT;
    loop {
        if player.try_wait().map_err(told)?.is_some() || Instant::now() > end {
            let said = std::fs::read_to_string(desk.log()).unwrap_or_default();
            if let Some(pid) = player.id().and_then(|pid| i32::try_from(pid).ok()) {
                // It has not begun in time; what it has started ends with it.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            return Err(format!("the player did not begin: {}", http::gist(&said)));
        }
        if desk.is_ready() {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

fn hint(args: &Args, desk: &Desk) -> Result<(), String> {
    let (drill, mut run) = on(args, desk)?;
    let Some(hint) = drill.hints.get(run.hints) else {
        for (number, hint) in drill.hints.iter().enumerate() {
            say!("hint {} of {}: {hint}", number + 1, drill.hints.len());
        }
        return Err("there are no more".into());
    };
    run.hints += 1;
    desk.keep(&run)?;
    say!("hint {} of {}: {hint}", run.hints, drill.hints.len());
    Ok(())
}

async fn answer(args: &Args, desk: &Desk, text: &str) -> Result<(), String> {
    let (drill, run) = on(args, desk)?;
    let chosen = drill.chosen(run.seed);
    let given = grade::read(text, &drill.question)?;
    let graded = grade::grade(&given, &drill.question, &chosen);
    for (field, verdict) in &graded {
        let word = match verdict {
            Verdict::Right => "right",
            Verdict::Wrong => "wrong",
            Verdict::Missing => "missing",
            Verdict::NoNumber => "no number: digits alone, without a unit",
        };
        say!("  {field:<12} {word}");
    }
    if graded.iter().any(|(_, verdict)| *verdict != Verdict::Right) {
        return Err("not yet: look again, or `make hint`".into());
    }
    let now = now_ms();
    let took_ms = now.saturating_sub(run.started_ms);
    desk.add_solved(Solved {
        drill: drill.number,
        at_ms: now,
        took_ms,
        hints: run.hints,
        seed: run.seed,
    })?;
    say!(
        "\nSolved in {}, with {}. The shortest way:\n",
        minutes(took_ms),
        hints(run.hints)
    );
    walk(&drill, &run, chosen);
    stop(desk).await
}

/// The walk-through with the addresses of this very run.
fn walk(drill: &Drill, run: &Run, mut values: BTreeMap<String, String>) {
    values.insert("from_ms".into(), run.started_ms.to_string());
    values.insert("to_ms".into(), now_ms().to_string());
    for (number, step) in drill.walk.iter().enumerate() {
        say!("  {} {}", number + 1, fill(step.see.trim(), &values));
        match (run.mode, &step.stack) {
            (Mode::Demo, _) => say!("    {}", seen_at(run, &fill(&step.demo, &values))),
            (Mode::Stack, None) => {}
            (Mode::Stack, Some(query)) => {
                let query = query.filled(&values);
                say!("    {}", query.text());
                say!(
                    "    {}",
                    explore::link(&run.viewer, &query, run.started_ms, now_ms())
                );
            }
        }
    }
    if let Some(told) = &drill.told_by {
        say!("\n  told by the dashboard   {}", told.dashboard.trim());
        say!("          an alert        {}", told.alert.trim());
        say!("          make doctor     {}", told.doctor.trim());
    }
}

/// A page of the run's viewer, of the time of the run alone: what a drill before it has left would be counted with it.
fn seen_at(run: &Run, page: &str) -> String {
    let (from_ms, to_ms) = match (run.recorded, run.mode) {
        (Some(recorded), _) => recorded,
        (None, Mode::Demo) => (run.started_ms, now_ms()),
        (None, Mode::Stack) => return format!("{}{page}", run.viewer),
    };
    let joint = if page.contains('?') { '&' } else { '?' };
    format!("{}{page}{joint}from_ms={from_ms}&to_ms={to_ms}", run.viewer)
}

async fn stop(desk: &Desk) -> Result<(), String> {
    let run = desk.run()?;
    if let Some(pid) = desk.player() {
        // It fails only when the player has ended meanwhile, which is what was wanted.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let end = Instant::now() + PLAYER_TIMEOUT;
        while desk.player().is_some() {
            if Instant::now() > end {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            sleep(PAUSE).await;
        }
    }
    desk.forget()?;
    match run {
        Some(Run {
            recorded: Some(_), ..
        }) => say!("the incident is closed; Ctrl-C where it was opened ends its viewer"),
        Some(run) => say!(
            "drill {} is over, and its cause is taken away again",
            run.drill
        ),
        None => say!("no drill is on"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_that_was_solved_has_another_answer_where_there_is_one() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../drills");
        let mut choices = 0;
        for drill in Drill::all(folder.as_ref()).unwrap() {
            let last = drill.answers(7);
            let has_others = (0..200).any(|seed| drill.answers(seed) != last);
            choices += usize::from(has_others);
            let solved = [Solved {
                drill: drill.number,
                at_ms: 0,
                took_ms: 0,
                hints: 0,
                seed: 7,
            }];
            for _ in 0..20 {
                let next = drill.answers(another(&drill, &solved));
                assert_eq!(next != last, has_others, "drill {}", drill.number);
            }
        }
        assert!(choices > 15, "{choices} drills have a choice");
    }
}
