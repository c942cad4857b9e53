//! Incidents that were recorded: one file with the signals of a drill and its question, which the viewer shows without load, Docker or internet.
//!
//! Nothing in it tells of the machine that it was recorded on: clean.rs.
//!
//! Gzipped lines of JSON. The first says what it is; the others are the viewer's export (OTLP/JSON, a request a line) and profiles (pprof in base64).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::clean;
use super::definition::{Drill, Mode};
use super::state::{Desk, Run, now_ms};
use crate::demo::{self, Child, Log, Plan};
use crate::http;
use crate::output::say;
use crate::stop::Stop;

/// What is read of a file, in bytes after decompression.
const MAX_INCIDENT: u64 = 256 << 20;
/// Lines that are handed to the viewer at once, in bytes.
const BATCH: usize = 4 << 20;
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    signalbox_incident: u32,
    title: String,
    /// What the grader needs. Not readable at a glance; whoever wants to can unpack it.
    sealed: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    drill: u32,
    definition: String,
    seed: u64,
    from_ms: u64,
    to_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct RecordedProfile {
    profile: String,
    service: String,
    from_s: u64,
    until_s: u64,
    pprof: String,
}

/// Lists of `/api/profiles`.
#[derive(Deserialize)]
struct Profiles {
    profiles: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    r#type: String,
    service: String,
}

/// Writes what happened since the drill began to `path`; returns its size in bytes.
///
/// # Errors
/// On the stack, where each signal is in a store of its own; and when the viewer does not answer, or the file cannot be written.
pub async fn record(run: &Run, definition: &str, title: &str, path: &Path) -> Result<u64, String> {
    if run.mode == Mode::Stack {
        return Err("what the viewer has is recorded: play the drill in the demo".into());
    }
    let client = http::client(Duration::from_secs(60), 2).map_err(|error| error.to_string())?;
    let (from_ms, to_ms) = (run.started_ms, now_ms());
    let sealed = Sealed {
        drill: run.drill,
        definition: definition.to_owned(),
        seed: run.seed,
        from_ms,
        to_ms,
    };
    let sealed = serde_json::to_vec(&sealed).map_err(|error| error.to_string())?;
    let head = Head {
        signalbox_incident: 1,
        title: title.to_owned(),
        sealed: STANDARD.encode(packed(&sealed)?),
    };
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = GzEncoder::new(File::create(path).map_err(told)?, Compression::best());
    let line = serde_json::to_string(&head).map_err(|error| error.to_string())?;
    writeln!(file, "{line}").map_err(told)?;
    let range = format!("from_ms={from_ms}&to_ms={to_ms}");
    for signal in ["traces", "logs", "metrics"] {
        let url = format!("{}/api/export?signal={signal}&{range}", run.viewer);
        let mut answer = client
            .get(url)
            .send()
            .await
            .map_err(|error| http::cause(&error))?;
        let mut unread = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| http::cause(&error))? {
            unread.extend_from_slice(&part);
            let whole = unread.iter().rposition(|byte| *byte == b'\n');
            let lines: Vec<u8> = unread.drain(..whole.map_or(0, |end| end + 1)).collect();
            write_lines(&mut file, &lines).map_err(|reason| format!("{signal}: {reason}"))?;
        }
        write_lines(&mut file, &unread).map_err(|reason| format!("{signal}: {reason}"))?;
    }
    let listed: Profiles =
        http::ask_json(client.get(format!("{}/api/profiles", run.viewer))).await?;
    let kinds: BTreeMap<(String, String), ()> = listed
        .profiles
        .into_iter()
        .map(|one| ((one.r#type, one.service), ()))
        .collect();
    for (kind, service) in kinds.into_keys() {
        let url = format!(
            "{}/api/profiles/{kind}?service={service}&{range}",
            run.viewer
        );
        let answer = client
            .get(url)
            .send()
            .await
            .map_err(|error| http::cause(&error))?;
        // None of this service in this range.
        if !answer.status().is_success() {
            continue;
        }
        let pprof = answer.bytes().await.map_err(|error| http::cause(&error))?;
        let pprof = clean::pprof(&unpacked(&pprof)?)?;
        let profile = RecordedProfile {
            profile: kind,
            service,
            from_s: from_ms / 1000,
            until_s: to_ms / 1000,
            pprof: STANDARD.encode(&pprof),
        };
        let line = serde_json::to_string(&profile).map_err(|error| error.to_string())?;
        writeln!(file, "{line}").map_err(told)?;
    }
    let written = file.finish().map_err(told)?;
    Ok(written.metadata().map_err(told)?.len())
}

/// Shows a recorded incident in a viewer of its own until it is told to stop. `begun` is told which it is, once it can be seen.
pub async fn open(
    desk: &Desk,
    path: &Path,
    begun: impl FnOnce(&Drill, &Run),
) -> Result<(), String> {
    let mut stop = Stop::listen().map_err(|error| error.to_string())?;
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut lines =
        BufReader::new(GzDecoder::new(File::open(path).map_err(told)?).take(MAX_INCIDENT)).lines();
    let head = lines
        .next()
        .ok_or_else(|| format!("{}: it is empty", path.display()))?
        .map_err(told)?;
    let (drill, sealed) = unsealed(&head)
        .map_err(|reason| format!("{}: no recorded incident ({reason})", path.display()))?;
    if desk.run()?.is_some() {
        return Err("a drill is on: make drill-stop ends it".into());
    }

    let folder = desk.folder().join("incident");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (viewer, url) = start_viewer(&folder).await?;
    let outcome = async {
        import(&url, lines, path).await?;
        let run = Run {
            drill: drill.number,
            seed: sealed.seed,
            started_ms: now_ms(),
            hints: 0,
            mode: Mode::Demo,
            service: String::new(),
            viewer: url.clone(),
            recorded: Some((sealed.from_ms, sealed.to_ms)),
        };
        desk.keep_definition(&sealed.definition)?;
        desk.keep(&run)?;
        begun(&drill, &run);
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = outcome => outcome,
        () = stop.requested() => return Ok(()),
    };
    if outcome.is_ok() {
        tokio::select! {
            () = stop.requested() => {}
            how = viewer.exited() => say!("the viewer ended ({how})"),
        }
        desk.forget()?;
    }
    viewer.stop(STOP_DEADLINE).await;
    outcome
}

fn unsealed(head: &str) -> Result<(Drill, Sealed), String> {
    let head: Head = serde_json::from_str(head).map_err(|error| error.to_string())?;
    if head.signalbox_incident != 1 {
        return Err(format!("of a newer kind, {}", head.signalbox_incident));
    }
    let packed = STANDARD
        .decode(head.sealed)
        .map_err(|error| error.to_string())?;
    let mut sealed = String::new();
    GzDecoder::new(packed.as_slice())
        .take(1 << 20)
        .read_to_string(&mut sealed)
        .map_err(|error| error.to_string())?;
    let sealed: Sealed = serde_json::from_str(&sealed).map_err(|error| error.to_string())?;
    Ok((Drill::parse(sealed.drill, &sealed.definition)?, sealed))
}

/// Lines of the export, cleaned.
fn write_lines(file: &mut impl Write, lines: &[u8]) -> Result<(), String> {
    let lines = std::str::from_utf8(lines).map_err(|error| error.to_string())?;
    for line in lines.lines().filter(|line| !line.is_empty()) {
        writeln!(file, "{}", clean::line(line)?).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A profile as it is, or out of its gzip.
fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_owned());
    }
    let mut profile = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_INCIDENT)
        .read_to_end(&mut profile)
        .map_err(|error| error.to_string())?;
    Ok(profile)
}

fn packed(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer
        .write_all(bytes)
        .and_then(|()| packer.finish())
        .map_err(|error| error.to_string())
}

/// A viewer with nothing in it, on the usual port if that is free, and its URL.
async fn start_viewer(folder: &Path) -> Result<(Child, String), String> {
    let plan = Plan {
        signalbox: PathBuf::new(),
        lens: demo::sibling("lens")?,
        data_dir: folder.to_owned(),
        environment: demo::environment()
            .filter(|(name, _)| name != "LENS_DATA_DIR")
            .collect(),
    };
    let told = |error: std::io::Error| format!("the viewer: {error}");
    let listener = TcpListener::bind("127.0.0.1:18090")
        .or_else(|_| TcpListener::bind("127.0.0.1:0"))
        .map_err(told)?;
    let url = format!("http://{}", listener.local_addr().map_err(told)?);
    let log = Log::create(folder.join("viewer.log")).map_err(told)?;
    let mut command = plan.viewer();
    command.env("LENS_DATA_DIR", folder.join("lens"));
    let viewer = Child::start("viewer", command, listener, log, false).map_err(told)?;
    let client = http::client(Duration::from_secs(5), 1).map_err(|error| error.to_string())?;
    let ready = async {
        while http::ask(client.get(format!("{url}/readyz")))
            .await
            .is_err()
        {
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        ready = timeout(READY_TIMEOUT, ready) => ready.map_err(|_| "the viewer was not ready in time".to_owned())?,
        how = viewer.exited() => return Err(format!("the viewer ended ({how}): {}", viewer.log.tail().join("\n"))),
    }
    Ok((viewer, url))
}

/// Hands every line to the viewer.
async fn import(
    url: &str,
    lines: impl Iterator<Item = std::io::Result<String>>,
    path: &Path,
) -> Result<(), String> {
    let client = http::client(Duration::from_secs(120), 1).map_err(|error| error.to_string())?;
    let mut batch = String::new();
    for line in lines {
        let line = line.map_err(|error| format!("{}: {error}", path.display()))?;
        if line.starts_with("{\"profile\"") {
            import_profile(&client, url, &line).await?;
            continue;
        }
        batch += &line;
        batch.push('\n');
        if batch.len() > BATCH {
            import_lines(&client, url, std::mem::take(&mut batch)).await?;
        }
    }
    import_lines(&client, url, batch).await
}

async fn import_lines(client: &Client, url: &str, lines: String) -> Result<(), String> {
    if lines.is_empty() {
        return Ok(());
    }
    let request = client
        .post(format!("{url}/api/import"))
        .header("content-type", "application/x-ndjson")
        .body(lines);
    http::ask(request).await.map(drop)
}

async fn import_profile(client: &Client, url: &str, line: &str) -> Result<(), String> {
    let profile: RecordedProfile = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let pprof = STANDARD
        .decode(profile.pprof)
        .map_err(|error| error.to_string())?;
    let times = format!("from={}&until={}", profile.from_s, profile.until_s);
    let request = client.post(format!(
        "{url}/ingest?name={}&format=pprof&{times}",
        profile.service
    ));
    http::ask(
        request
            .header("content-type", "application/octet-stream")
            .body(pprof),
    )
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_incident_is_refused() {
        for head in [
            "",
            "{}",
            r#"{"signalbox_incident":2,"title":"","sealed":""}"#,
            r#"{"signalbox_incident":1,"title":"","sealed":"eA=="}"#,
        ] {
            assert!(unsealed(head).is_err(), "{head}");
        }
    }
}
