//! The shop of a drill: its payment service in two replicas, and itself, on free ports of this machine. They end with the player.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use reqwest::{Client, Url};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Signals, clock, proxy};
use crate::demo::{self, Child, Log, Plan};
use crate::drill::definition::{Drill, Fault, ShopPart, fill};
use crate::http;

/// The shop's own stop flushes for 2 s at most.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// The first start fills the database.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);
const REPLICAS: [&str; 2] = ["payment-1", "payment-2"];

/// The running programs.
pub struct Shop {
    children: Vec<Child>,
    /// Base URL of the port where a program's variants are chosen, by the program's name.
    controls: BTreeMap<&'static str, String>,
    client: Client,
    /// The shop's own URL.
    pub url: Url,
    /// URL of its database.
    pub database: String,
    /// Servers of this process that stand between the programs, or between one and where its signals go.
    between: Vec<JoinHandle<()>>,
    signals: Signals,
    faults: Faults,
}

/// What a drill says of how single programs are started.
#[derive(Default)]
struct Faults {
    /// Program, variable, value.
    settings: Vec<(String, String, String)>,
    /// Program, and how slow its clock is.
    clocks: Vec<(String, Duration)>,
}

impl Faults {
    fn read(drill: &Drill, chosen: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut faults = Self::default();
        for fault in &drill.fault {
            match fault {
                Fault::Setting {
                    program,
                    name,
                    value,
                } => faults.settings.push((
                    fill(program, chosen),
                    fill(name, chosen),
                    fill(value, chosen),
                )),
                Fault::Clock { program, behind_s } => {
                    let behind = fill(behind_s, chosen);
                    let seconds = behind
                        .parse()
                        .map_err(|_| format!("`{behind}` is no whole number of seconds"))?;
                    let program = fill(program, chosen);
                    faults.clocks.push((program, Duration::from_secs(seconds)));
                }
                _ => {}
            }
        }
        Ok(faults)
    }
}

/// Whether `program` of a drill's file means the one called `name`: `payment` means both replicas.
fn is_meant(program: &str, name: &str) -> bool {
    program == name || program == "payment" && REPLICAS.contains(&name)
}

impl Shop {
    /// Starts all, and returns when they are ready.
    pub async fn start(
        folder: &Path,
        signals: &Signals,
        drill: &Drill,
        part: &ShopPart,
        chosen: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let faults = Faults::read(drill, chosen)?;
        let program = demo::sibling("shop")?;
        let plan = Plan {
            signalbox: PathBuf::new(),
            lens: PathBuf::new(),
            data_dir: folder.to_owned(),
            environment: demo::environment().collect(),
        };
        // Each run has a database of its own, so that nothing of the run before is left in it.
        for file in ["shop.db", "shop.db-wal", "shop.db-shm"] {
            let _ = std::fs::remove_file(folder.join(file));
        }
        let absolute = std::path::absolute(folder).map_err(|error| error.to_string())?;
        let database = demo::sqlite_url(&absolute, "shop.db");
        let client = http::client(Duration::from_secs(5), 4).map_err(|error| error.to_string())?;
        let mut shop = Self {
            children: Vec::new(),
            controls: BTreeMap::new(),
            client,
            url: Url::parse("http://127.0.0.1").map_err(|error| error.to_string())?,
            database,
            between: Vec::new(),
            signals: signals.clone(),
            faults,
        };
        let of = |text: &Option<String>| text.as_ref().map(|text| fill(text, chosen));
        let (newer, version, proxied) = (of(&part.newer), of(&part.version), of(&part.proxied));
        let mut payments = Vec::new();
        for name in REPLICAS {
            let mut attributes = format!("service.instance.id={name}");
            if let (true, Some(version)) = (newer.as_deref() == Some(name), &version) {
                attributes += &format!(",service.version={version}");
            }
            let mut command = plan.program(&program, &signals.otlp, &attributes);
            command.arg("payment");
            let url = shop.run(name, command, folder).await?;
            payments.push(match proxied.as_deref() == Some(name) {
                true => shop.proxied(url)?,
                false => url,
            });
        }
        let mut command = plan.program(&program, &signals.otlp, "service.instance.id=shop-1");
        command
            .arg("serve")
            .env("DATABASE_URL", &shop.database)
            .env("SHOP_PAYMENT_URLS", payments.join(","));
        if let Some(connections) = of(&part.connections) {
            command.env("SHOP_DATABASE_CONNECTIONS", connections);
        }
        let url = shop.run("shop", command, folder).await?;
        shop.url = url.parse().map_err(|error| format!("{url}: {error}"))?;
        Ok(shop)
    }

    /// Starts one program, waits until it is ready, and returns its URL.
    async fn run(
        &mut self,
        name: &'static str,
        mut command: tokio::process::Command,
        folder: &Path,
    ) -> Result<String, String> {
        let told = |error: std::io::Error| format!("{name}: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
        let url = format!("http://{}", listener.local_addr().map_err(told)?);
        let control = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .map_err(told)?;
        let signals = self.signals_of(name)?;
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", signals.otlp)
            .env("PYROSCOPE_SERVER_ADDRESS", signals.profiles)
            .env("SHOP_LISTEN", "stdin")
            .env("SHOP_CONTROL_LISTEN", control.to_string());
        let settings = self.faults.settings.iter();
        for (_, variable, value) in settings.filter(|(program, ..)| is_meant(program, name)) {
            command.env(variable, value);
        }
        let log = Log::create(folder.join(format!("{name}.log"))).map_err(told)?;
        let child = Child::start(name, command, listener, log, false).map_err(told)?;
        let ready = async {
            while http::ask(self.client.get(format!("{url}/readyz")))
                .await
                .is_err()
            {
                sleep(PAUSE).await;
            }
        };
        let outcome = tokio::select! {
            ready = timeout(READY_TIMEOUT, ready) => ready.map_err(|_| "was not ready in time".to_owned()),
            how = child.exited() => Err(format!("ended before it was ready ({how})")),
        };
        let tail = child.log.tail().join("\n");
        self.children.push(child);
        outcome.map_err(|what| format!("{name} {what}: {tail}"))?;
        self.controls.insert(name, format!("http://{control}"));
        Ok(url)
    }

    /// Where that program sends its signals: to a server of this process, if its clock is slow.
    fn signals_of(&mut self, name: &str) -> Result<Signals, String> {
        let clocks = &self.faults.clocks;
        let Some((_, behind)) = clocks.iter().find(|(program, _)| is_meant(program, name)) else {
            return Ok(self.signals.clone());
        };
        let told = |error: std::io::Error| format!("the slow clock: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
        let url = format!("http://{}", listener.local_addr().map_err(told)?);
        let (client, signals) = (self.client.clone(), self.signals.clone());
        let server = clock::start(listener, client, signals, *behind).map_err(told)?;
        self.keep(server);
        Ok(Signals {
            otlp: url.clone(),
            profiles: url,
            ..self.signals.clone()
        })
    }

    /// Lets a server run until all stops.
    fn keep(&mut self, server: actix_web::dev::Server) {
        self.between.push(tokio::spawn(async move {
            let _ = server.await;
        }));
    }

    /// Puts a proxy before `url`, and returns the proxy's own.
    fn proxied(&mut self, url: String) -> Result<String, String> {
        let told = |error: std::io::Error| format!("the proxy: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
        let own = format!("http://{}", listener.local_addr().map_err(told)?);
        let server = proxy::start(listener, self.client.clone(), url).map_err(told)?;
        self.keep(server);
        Ok(own)
    }

    /// Chooses a variant of one program.
    pub async fn choose(&self, program: &str, name: &str, value: &str) -> Result<(), String> {
        let control = self
            .controls
            .get(program)
            .ok_or_else(|| format!("there is no program {program}"))?;
        let asked = http::ask(self.client.put(format!("{control}/{name}/{value}"))).await;
        asked
            .map(drop)
            .map_err(|reason| format!("{program} does not know {name}={value}: {reason}"))
    }

    /// Returns when one of the programs ends, which none should.
    pub async fn ended(&self) -> String {
        let ends = self.children.iter().map(|child| Box::pin(child.exited()));
        let (how, index, _) = select_all(ends).await;
        let child = &self.children[index];
        format!(
            "{} ended by itself ({how}); its log: {}",
            child.name,
            child.log.path().display()
        )
    }

    /// Stops all, and lets each hand over its last signals.
    pub async fn stop(self) {
        join_all(self.children.iter().map(|child| child.stop(STOP_DEADLINE))).await;
        // The last signals have gone through them.
        for server in self.between {
            server.abort();
        }
    }
}
