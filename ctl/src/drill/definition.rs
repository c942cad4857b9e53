//! A drill as data: one TOML file of `drills/`. docs/drills.md says how to make one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Hints of every drill: one that points to the signal, one to the page, one to the very place.
const HINTS: usize = 3;

/// One drill. `{name}` in its texts stands for what [`Drill::choose`] lists under that name, or for `{service}`, `{viewer}`,
/// `{from_ms}` and `{to_ms}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Its number, from the file's name: `drills/02-the-held-row.toml`.
    #[serde(skip)]
    pub number: u32,
    /// The file's text, for a recording.
    #[serde(skip)]
    pub text: String,
    /// As in the list: it gives nothing away.
    pub title: String,
    /// How long somebody who knows the tools needs.
    pub minutes: u32,
    /// Where it can be played.
    pub modes: Vec<Mode>,
    /// What a customer, a colleague or a pager says.
    pub story: String,
    /// What is chosen anew in each run: one of each list.
    #[serde(default)]
    pub choose: BTreeMap<String, Vec<String>>,
    /// What is chosen together: each run takes one of these tables, and each of its names stands for its value.
    #[serde(default)]
    pub one_of: Vec<BTreeMap<String, String>>,
    /// Played on the shop, which is started with it, and not on the service.
    #[serde(default)]
    pub shop: Option<ShopPart>,
    /// What everybody sends all the time.
    pub load: Load,
    /// What goes wrong, and how it is begun and ended.
    pub fault: Vec<Fault>,
    pub question: Vec<Question>,
    pub hints: Vec<String>,
    /// The shortest way through the signals, told when the answer is right.
    pub walk: Vec<Step>,
    /// Of a drill in which the telemetry is broken and not the service: what of the stack tells it.
    #[serde(default)]
    pub told_by: Option<ToldBy>,
}

/// Where the stack itself says that its telemetry is broken; each says `nothing` and why where it does not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToldBy {
    pub dashboard: String,
    pub alert: String,
    /// A line of `make doctor`.
    pub doctor: String,
}

/// Where a drill is played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `make demo`, looked at in its viewer
    #[default]
    Demo,
    /// `make up`, looked at in Grafana
    Stack,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Stack => "stack",
        }
    }
}

/// How the shop is deployed, where that differs from one shop and two replicas of its payment service, all of one version.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopPart {
    /// Connections that the shop may have to its database.
    #[serde(default)]
    pub connections: Option<String>,
    /// The replica that has another version: `payment-1` or `payment-2`.
    #[serde(default)]
    pub newer: Option<String>,
    /// That version.
    #[serde(default)]
    pub version: Option<String>,
    /// The replica that is reached through a proxy which hands on few headers.
    #[serde(default)]
    pub proxied: Option<String>,
}

/// Requests at a fixed rate, in the words of `signalboxctl load`; those to the shop as `METHOD /path=weight,…`, where `~500` in a path
/// is a number from 1 to 500, chosen for each request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// `name=weight,…`
    pub mix: String,
    /// Requests a second.
    pub rate: f64,
}

/// A mechanism. Each is what its counterpart in life would be, so that its traces are those: no signal names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Fault {
    /// A transaction that changes a row and is left open for `hold_ms`, every `every_ms`. With SQLite it holds the whole file.
    HeldTransaction {
        /// The statement that takes the lock.
        statement: String,
        hold_ms: String,
        every_ms: String,
    },
    /// A client that sends a request at a fixed rate, and sends it again at once, `attempts` times in all, as long as it is answered
    /// with a 5xx.
    Retries {
        target: String,
        rate: f64,
        attempts: String,
        /// Its `Client-ID`.
        client: String,
    },
    /// A client that sends one request (a target as in the load of the shop) at a fixed rate.
    Flood {
        target: String,
        rate: f64,
        /// Its `Client-ID`.
        client: String,
    },
    /// A statement that somebody runs on the database, once.
    Statement { statement: String },
    /// One program of the shop (`shop`, `payment-1`, `payment-2`) uses another implementation of the same thing: shop/src/variants.rs.
    Variant {
        program: String,
        name: String,
        value: String,
    },
    /// How the shop is deployed is the fault.
    Deployment,
    /// A program of the shop, or both replicas of `payment`, is started with this variable in its environment.
    Setting {
        program: String,
        name: String,
        value: String,
    },
    /// The clock of the machine of one program is so many seconds slow.
    Clock { program: String, behind_s: String },
    /// A log agent of another service makes a label of what each line has a value of its own in. On the stack alone.
    Streams {
        service: String,
        label: String,
        /// Lines a second.
        rate: f64,
    },
    /// Another service exports each of its records by itself.
    Singly {
        service: String,
        /// Records a second.
        rate: f64,
    },
    /// Somebody changes a part of the stack with `docker compose`, which `make` runs: the drill is played on the stack alone.
    Compose {
        /// A file of `drills/stack/` or `systems/` that is laid over the stack's own, or empty.
        #[serde(default)]
        overlay: String,
        /// What Compose is told, such as `stop mimir-2`.
        begin: String,
        heal: String,
    },
}

/// One field of the answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// As in `make answer ANSWER='field=…'`.
    pub field: String,
    pub ask: String,
    /// The right one. Compared without regard to case and to blanks around it.
    pub answer: String,
    /// For numbers: how far off an answer may be, as a part of the right one.
    #[serde(default)]
    pub within: f64,
}

/// One step of the walk-through.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What one sees there, and what follows from it.
    pub see: String,
    /// The viewer's page, from its first `/`; empty in a drill that is not played in the demo.
    #[serde(default)]
    pub demo: String,
    /// What Grafana asks for; absent in a drill that is not played on the stack.
    #[serde(default)]
    pub stack: Option<Query>,
}

/// A query, in the language of the store that answers it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// Mimir's
    Promql(String),
    /// Loki's
    Logql(String),
    /// Tempo's
    Traceql(String),
    /// Pyroscope's: `type{selector}`
    Profile(String),
}

impl Drill {
    /// All drills of a folder, in the order of their numbers.
    pub fn all(folder: &Path) -> Result<Vec<Self>, String> {
        let told = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut drills = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(told)? {
            let path = entry.map_err(told)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                drills.push(Self::read(&path)?);
            }
        }
        drills.sort_by_key(|drill: &Self| drill.number);
        match drills
            .windows(2)
            .find(|pair| pair[0].number == pair[1].number)
        {
            Some(pair) => Err(format!(
                "{}: two drills have the number {}",
                folder.display(),
                pair[0].number
            )),
            None => Ok(drills),
        }
    }

    fn read(path: &PathBuf) -> Result<Self, String> {
        let told = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
        let size = std::fs::metadata(path).map_err(|error| told(&error))?.len();
        if size > MAX_FILE {
            return Err(told(&format!("larger than {MAX_FILE} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let number = name
            .split('-')
            .next()
            .and_then(|number| number.parse().ok());
        let number =
            number.ok_or_else(|| told(&"the name does not begin with a number and `-`"))?;
        Self::parse(number, &text).map_err(|reason| told(&reason))
    }

    /// Reads one and checks what its form alone does not say.
    pub fn parse(number: u32, text: &str) -> Result<Self, String> {
        let mut drill: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        drill.number = number;
        drill.text = text.to_owned();
        if drill.hints.len() != HINTS {
            return Err(format!("{} hints, not {HINTS}", drill.hints.len()));
        }
        for (what, empty) in [
            ("modes", drill.modes.is_empty()),
            ("fault", drill.fault.is_empty()),
            ("question", drill.question.is_empty()),
            ("walk", drill.walk.is_empty()),
        ] {
            if empty {
                return Err(format!("`{what}` is empty"));
            }
        }
        if let Some((name, _)) = drill.choose.iter().find(|(_, values)| values.len() < 2) {
            return Err(format!("`choose.{name}` leaves no choice"));
        }
        if let [first, rest @ ..] = drill.one_of.as_slice() {
            let names =
                |table: &BTreeMap<String, String>| table.keys().cloned().collect::<Vec<_>>();
            if rest.is_empty() || rest.iter().any(|table| names(table) != names(first)) {
                return Err("`one_of` needs two tables at least, all with the same names".into());
            }
        }
        let needs_shop = |fault: &Fault| {
            matches!(
                fault,
                Fault::Flood { .. }
                    | Fault::Variant { .. }
                    | Fault::Statement { .. }
                    | Fault::Deployment
                    | Fault::Setting { .. }
                    | Fault::Clock { .. }
            )
        };
        if drill.shop.is_none() && drill.fault.iter().any(needs_shop) {
            return Err("a fault is the shop's, and there is no `[shop]`".into());
        }
        let on_stack = drill.modes.contains(&Mode::Stack);
        if on_stack && drill.walk.iter().any(|step| step.stack.is_none()) {
            return Err("a step of the walk has no query for the stack".into());
        }
        let in_demo = drill.modes.contains(&Mode::Demo);
        if in_demo && drill.walk.iter().any(|step| step.demo.is_empty()) {
            return Err("a step of the walk has no page of the viewer".into());
        }
        let of_stack =
            |fault: &Fault| matches!(fault, Fault::Compose { .. } | Fault::Streams { .. });
        if in_demo && drill.fault.iter().any(of_stack) {
            return Err("a fault is the stack's, and `modes` names the demo".into());
        }
        Ok(drill)
    }

    /// The right answer to each question in the run with this seed.
    pub fn answers(&self, seed: u64) -> Vec<String> {
        let chosen = self.chosen(seed);
        let answers = self.question.iter();
        answers
            .map(|question| fill(&question.answer, &chosen))
            .collect()
    }

    /// What this run's seed chooses: the same for the same seed, so that only the seed need be kept.
    pub fn chosen(&self, seed: u64) -> BTreeMap<String, String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut chosen: BTreeMap<String, String> = self
            .choose
            .iter()
            .map(|(name, values)| (name.clone(), values[random.usize(..values.len())].clone()))
            .collect();
        chosen.extend(random.choice(&self.one_of).cloned().unwrap_or_default());
        chosen
    }
}

/// `{name}` for each value put in its place. Other braces are text.
pub fn fill(text: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRILL: &str = r#"
title = "A title"
minutes = 5
modes = ["demo"]
story = "A client calls."
hints = ["one", "two", "three"]
choose.client = ["1", "2", "3"]
load = { mix = "ping=1", rate = 1.0 }
[[fault]]
kind = "retries"
target = "/api?sc=503"
rate = 1.0
attempts = "3"
client = "{client}"
[[question]]
field = "client"
ask = "Who?"
answer = "{client}"
[[walk]]
see = "it"
demo = "/metrics"
"#;

    #[test]
    fn what_a_drill_lacks_is_said() {
        assert!(Drill::parse(1, DRILL).is_ok());
        for (from, to, said) in [
            ("\"one\", ", "", "2 hints, not 3"),
            ("\"2\", \"3\"", "", "`choose.client` leaves no choice"),
            ("[\"demo\"]", "[\"stack\"]", "has no query for the stack"),
            (
                "demo = \"/metrics\"",
                "stack = { logql = \"{}\" }",
                "has no page of the viewer",
            ),
            (
                "[[question]]",
                "[[fault]]\nkind = \"compose\"\nbegin = \"stop loki\"\nheal = \"start loki\"\n[[question]]",
                "a fault is the stack's",
            ),
            (
                "[[fault]]",
                "[[one_of]]\nx = \"1\"\n[[fault]]",
                "`one_of` needs two tables",
            ),
            ("[\"demo\"]", "[]", "`modes` is empty"),
            ("minutes = 5", "minuets = 5", "unknown field `minuets`"),
            ("\"retries\"", "\"sleep\"", "unknown variant `sleep`"),
            (
                "kind = \"retries\"\ntarget = \"/api?sc=503\"\nrate = 1.0\nattempts = \"3\"\nclient = \"{client}\"",
                "kind = \"deployment\"",
                "there is no `[shop]`",
            ),
        ] {
            let changed = DRILL.replace(from, to);
            assert_ne!(changed, DRILL);
            let error = Drill::parse(1, &changed).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn a_seed_chooses_the_same_again_and_seeds_choose_everything() {
        let drill = Drill::parse(1, DRILL).unwrap();
        assert_eq!(drill.chosen(7), drill.chosen(7));
        let seen: std::collections::BTreeSet<String> = (0..50)
            .map(|seed| drill.chosen(seed)["client"].clone())
            .collect();
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn values_are_put_in_and_other_braces_stay() {
        let values = BTreeMap::from([("client".to_owned(), "7".to_owned())]);
        assert_eq!(fill("{client} in {other} {", &values), "7 in {other} {");
    }

    #[test]
    fn every_drill_that_comes_with_the_project_is_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../drills");
        let drills = Drill::all(&folder).unwrap();
        assert!(!drills.is_empty());
        for drill in drills {
            let together = drill.one_of.iter().flat_map(BTreeMap::keys);
            let names: Vec<&String> = drill.choose.keys().chain(together).collect();
            assert!(
                drill
                    .question
                    .iter()
                    .any(|question| question.answer.contains('{')),
                "{}: every answer stands in the file",
                drill.title
            );
            // What is told before the answer gives no choice away.
            let told = drill.hints.iter().chain([&drill.story]);
            for text in told {
                let given_away = names
                    .iter()
                    .find(|name| text.contains(&format!("{{{name}}}")));
                assert_eq!(given_away, None, "{}: {text}", drill.title);
            }
        }
    }
}
