//! The drills on the shop. Each is begun as a learner would, its cause found by the queries of its walk-through, a wrong answer refused,
//! the right one accepted, and healed. All of them are walked by `make verify-drills`; without it one, and the others are begun.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use base64::Engine;
use flate2::read::GzDecoder;

use crate::signals::{
    Healed, Span, attribute, by, drill, eventually, functions, is_delta, list, number, records,
    said, series, spans, totals, walk, without_demo,
};
use crate::support::{Demo, client, folder, signalboxctl};

/// The drill whose recording is opened again.
const RECORDED: u32 = 11;

type Answer = BTreeMap<&'static str, String>;

/// As in `make answer ANSWER='…'`.
fn text(answer: &Answer) -> String {
    let fields = answer
        .iter()
        .map(|(field, value)| format!("{field}={value}"));
    fields.collect::<Vec<_>>().join(" ")
}

/// Plays one drill from its beginning to its end. `find` looks at the signals, and knows the cause when it can be seen.
fn play(number: u32, find: impl Fn(&str) -> Option<Answer>) {
    let data = folder(&format!("drill-{number}"));
    let demo = Demo::start_in(&data, &[]);
    let _healed = Healed(&demo, &data);
    let begun = drill(&demo, &data, &["start", &number.to_string()]);
    assert!(begun.status.success(), "{}", said(&begun));
    let answer = eventually("the cause is seen", || find(&demo.viewer));
    pages_show_it(&demo, number, &answer);
    nothing_tells(&demo);

    for field in answer.keys() {
        let mut wrong = answer.clone();
        wrong.insert(field, "something-else".into());
        let refused = drill(&demo, &data, &["answer", &text(&wrong)]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        let told = said(&refused);
        let not_right = told
            .lines()
            .filter(|line| line.contains(" wrong") || line.contains(" no number"));
        let fields: Vec<&str> = not_right
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(fields, [*field], "{answer:?}: {told}");
    }
    let file = data.join("recorded.incident");
    let recorded = drill(&demo, &data, &["record", &file.to_string_lossy()]);
    assert!(recorded.status.success(), "{}", said(&recorded));
    let solved = drill(&demo, &data, &["answer", &text(&answer)]);
    assert!(solved.status.success(), "{answer:?}: {}", said(&solved));
    assert!(
        said(&solved).contains("The shortest way:"),
        "{}",
        said(&solved)
    );
    assert!(
        said(&solved).contains(&format!("drill {number} is over")),
        "{}",
        said(&solved)
    );
    ended(&demo, &data);
    if number == RECORDED {
        // It shows the same without the demo.
        assert_eq!(graded(&data, &file, &find), answer);
    }
}

/// `signalboxctl drill open`, which ends with its viewer when this is dropped.
struct Opened(Child);

impl Opened {
    /// Opens a file and returns the URL of its viewer.
    fn start(data: &Path, file: &Path) -> (Self, String) {
        let opened = signalboxctl()
            .args(["drill", "open"])
            .arg(file)
            .arg("--data-dir")
            .arg(data)
            .stdout(Stdio::piped())
            .spawn();
        let mut opened = Self(opened.unwrap());
        let lines = BufReader::new(opened.0.stdout.take().unwrap()).lines();
        let line = lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("It was recorded."));
        let line = line.expect("the viewer is named");
        let url = line.split("viewer: ").nth(1).unwrap();
        (opened, url.split("/?").next().unwrap().to_owned())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Opens a recorded incident, finds its cause by what its viewer shows, and answers wrongly and rightly.
fn graded(data: &Path, file: &Path, find: impl Fn(&str) -> Option<Answer>) -> Answer {
    assert!(std::fs::metadata(file).unwrap().len() < 2_000_000);
    let (opened, viewer) = Opened::start(data, file);
    let found = find(&viewer).expect("what was recorded shows the cause");
    let right = text(&found);
    let wrong = without_demo(data, &["answer", &right.replacen('=', "=not-", 1)]);
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    let solved = without_demo(data, &["answer", &right]);
    assert!(solved.status.success(), "{}", said(&solved));
    drop(opened);
    found
}

/// The shop has ended, and so has what was wrong with it: no process of the drill is left.
fn ended(demo: &Demo, data: &Path) {
    let database = data.join("drill/shop.db");
    assert!(database.is_file(), "{}", database.display());
    // The player lets go of its lock a moment before it is gone.
    eventually("the drill's processes have ended", || {
        let left = std::process::Command::new("ps")
            .args(["-A", "-o", "args="])
            .output()
            .unwrap();
        let left = String::from_utf8_lossy(&left.stdout).into_owned();
        let mut own = left
            .lines()
            .filter(|line| line.contains("drill play") && line.contains(&*data.to_string_lossy()));
        own.next().is_none().then_some(())
    });
    assert!(said(&drill(demo, data, &["stop"])).starts_with("no drill is on"));
}

/// Each page of the walk-through, filled in with what was found, shows something.
fn pages_show_it(demo: &Demo, number: u32, answer: &Answer) {
    let get = |page: &str| {
        client()
            .get(format!("{}{page}", demo.viewer))
            .send()
            .unwrap()
    };
    for page in walk(number, answer) {
        let shown = get(&page);
        assert_eq!(shown.status(), 200, "{page}");
        let html = shown.text().unwrap();
        // What the page is drawn of.
        let (path, query) = page.split_once('?').unwrap();
        let items = match path {
            "/traces" => spans(&demo.viewer, query).len(),
            "/logs" => records(&demo.viewer, query).len(),
            "/metrics" => {
                let data: serde_json::Value =
                    serde_json::from_str(&get(&format!("/metrics/data?{query}")).text().unwrap())
                        .unwrap();
                list(&data["charts"]).len()
            }
            _ => html.matches("data-testid=\"function-link\"").count(),
        };
        assert!(items > 0, "{page} shows nothing");
    }
}

/// No signal says that somebody did this on purpose.
fn nothing_tells(demo: &Demo) {
    let signals = records(&demo.viewer, "service=shop")
        .into_iter()
        .map(|record| record.to_string());
    let signals = signals.chain(
        spans(&demo.viewer, "service=shop&limit=200")
            .into_iter()
            .map(|span| span.attributes.to_string()),
    );
    for signal in signals.map(|signal| signal.to_lowercase().replace("default", "")) {
        for word in ["drill", "inject", "fault", "variant"] {
            assert!(!signal.contains(word), "{word}: {signal}");
        }
    }
}

/// The service's requests or statements by what they cost, the dearest on average first; only what was done five times.
fn dearest(viewer: &str, metric: &str, attribute: &str) -> Vec<(String, f64)> {
    let sums = by(&series(viewer, "shop", metric), attribute);
    let mut means: Vec<_> = sums
        .into_iter()
        .filter(|(_, (count, _))| *count >= 5.0)
        .map(|(name, (count, sum))| (name, sum / count))
        .collect();
    means.sort_by(|one, other| other.1.total_cmp(&one.1));
    means
}

fn lost_index(viewer: &str) -> Option<Answer> {
    let means = dearest(viewer, "db.client.operation.duration", "db.query.summary");
    let (slowest, mean) = means.first()?;
    let second = means.get(1)?.1;
    if means.len() < 4 || second * 2.0 > *mean {
        return None;
    }
    let of_it = spans(viewer, "service=shop&limit=500&sort=duration")
        .into_iter()
        .find(|span| span.name == *slowest)?;
    let table = of_it.get("db.collection.name");
    let text = of_it.get("db.query.text");
    // The column that is compared with what was given.
    let column = text.split(" = ?").next()?.rsplit(' ').next()?.to_owned();
    Some(BTreeMap::from([("table", table), ("column", column)]))
}

fn kept_connections(viewer: &str) -> Option<Answer> {
    let points = series(viewer, "shop", "db.client.connection.timeouts");
    if points.iter().all(|point| number(&point["asInt"]) < 1.0) {
        return None;
    }
    let most = number(&series(viewer, "shop", "db.client.connection.max").first()?["asInt"]);
    // So many connections were kept: so many answers of that kind there were before the first wait in vain.
    let vain = spans(
        viewer,
        "service=shop&limit=1000&q=http.response.status_code%3D503",
    );
    let first = vain.iter().map(|span| span.start).min()?;
    let checkouts = spans(
        viewer,
        "service=shop&limit=1000&route=%2Fbaskets%2F%7Bid%7D%2Fcheckout%2F%7Bbrand%7D",
    );
    let before = |status: &str| {
        let of = checkouts.iter().filter(|span| {
            span.get("http.response.status_code") == status
                && span.get("http.route").contains("checkout")
        });
        of.filter(|span| span.start < first).count() as f64
    };
    let status = ["402", "409"]
        .into_iter()
        .find(|status| before(status) == most)?;
    Some(BTreeMap::from([
        ("route", "/baskets/{id}/checkout/{brand}".into()),
        ("status", status.into()),
        ("connections", most.to_string()),
    ]))
}

fn stampede(viewer: &str) -> Option<Answer> {
    let route = "/bestsellers/{category}";
    let made = spans(
        viewer,
        "service=shop&limit=1000&route=SELECT%20order_lines%20products",
    );
    let mut moments: Vec<u128> = made
        .iter()
        .filter(|span| span.name == "SELECT order_lines products")
        .map(|span| span.start / 1_000_000)
        .collect();
    moments.sort_unstable();
    // A burst begins where four lists are made within three seconds, and none began a moment before.
    let mut begins: Vec<u128> = Vec::new();
    for begin in &moments {
        let made = moments
            .iter()
            .filter(|moment| (*begin..begin + 3_000).contains(*moment))
            .count();
        if made >= 4 && begins.last().is_none_or(|last| begin - last > 6_000) {
            begins.push(*begin);
        }
    }
    // The first lists are made when the drill begins, at any moment of a period.
    let gaps: Vec<u128> = begins
        .get(1..)?
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    if gaps.len() < 2 {
        return None;
    }
    let every = gaps.iter().sum::<u128>() as f64 / gaps.len() as f64 / 1000.0;
    Some(BTreeMap::from([
        ("route", route.into()),
        ("statement", "SELECT order_lines products".into()),
        ("every_s", format!("{every:.1}")),
    ]))
}

/// The function of that profile with the largest share whose name passes.
fn widest(viewer: &str, query: &str, passes: impl Fn(&str) -> bool) -> Option<(String, f64)> {
    let own = functions(viewer, query)
        .into_iter()
        .filter(|(name, _)| name.starts_with("shop::") && passes(name));
    own.max_by(|one, other| one.1.total_cmp(&other.1))
}

fn last_part(name: &str) -> String {
    name.split("::")
        .filter(|part| !part.starts_with('{'))
        .last()
        .unwrap_or_default()
        .to_owned()
}

fn quadratic(viewer: &str) -> Option<Answer> {
    // Of both kinds of work, those with much to do; that which takes far longer is the slow one.
    let slow = spans(viewer, "service=shop&limit=1000&sort=duration");
    let large = |name: &str, size: &str| {
        let of = slow.iter().filter(|span| span.name == name);
        of.filter(|span| span.get(size).parse().is_ok_and(|size: u32| size > 1000))
            .cloned()
            .collect::<Vec<_>>()
    };
    let baskets = large("merge lines", "shop.basket.lines");
    let customers = large("add up days", "shop.customer.orders");
    if baskets.len() < 3 || customers.len() < 3 {
        return None;
    }
    // Not the mean: on a busy machine one of them may have waited for long.
    let median = |spans: &[Span]| {
        let mut ms: Vec<u128> = spans.iter().map(|span| span.ms).collect();
        ms.sort_unstable();
        ms[ms.len() / 2]
    };
    let slower = match (median(&baskets), median(&customers)) {
        (one, other) if one > 3 * other => baskets,
        (one, other) if other > 3 * one => customers,
        _ => return None,
    };
    let root = slow
        .iter()
        .find(|span| span.trace == slower[0].trace && !span.get("http.route").is_empty())?;
    let (function, _) = widest(viewer, "type=cpu&service=shop&range=all", |name| {
        name.contains("pairwise")
    })?;
    Some(BTreeMap::from([
        ("route", root.get("http.route")),
        ("function", last_part(&function)),
    ]))
}

fn growing(viewer: &str) -> Option<Answer> {
    let heap = totals(viewer, "type=heap&service=shop&range=all");
    let held = |by: &str| {
        let found = heap.iter().find(|(name, _)| name.ends_with(by));
        found.map_or(0.0, |(_, bytes)| *bytes)
    };
    let (views, terms) = (held("::remember_view"), held("::remember_term"));
    let (function, route, most, other) = match views > terms {
        true => ("remember_view", "/products/{id}", views, terms),
        false => ("remember_term", "/search/{term}", terms, views),
    };
    // Ten lists of what was found are below 2 MB: what holds twice that is not forgotten.
    (most > 4e6 && most > 1.5 * other)
        .then(|| BTreeMap::from([("function", function.into()), ("route", route.into())]))
}

fn flood(viewer: &str) -> Option<Answer> {
    let requests = series(viewer, "shop", "http.server.request.duration");
    let clients = by(&requests, "shop.client.id");
    let (client, (most, _)) = clients
        .iter()
        .max_by(|one, other| one.1.0.total_cmp(&other.1.0))?;
    let others = clients
        .iter()
        .filter(|(name, _)| *name != client)
        .map(|(_, (count, _))| *count)
        .fold(0.0, f64::max);
    if others < 5.0 || *most < 2.0 * others {
        return None;
    }
    let of_it: Vec<_> = requests
        .into_iter()
        .filter(|point| attribute(point, "shop.client.id") == *client)
        .collect();
    let routes = by(&of_it, "http.route");
    let (route, _) = routes
        .iter()
        .max_by(|one, other| one.1.0.total_cmp(&other.1.0))?;
    Some(BTreeMap::from([
        ("client", client.clone()),
        ("route", route.clone()),
    ]))
}

fn blocking(viewer: &str) -> Option<Answer> {
    // While the thread prints, no other request begins: those of the one document have no span beside theirs.
    let all = spans(viewer, "service=shop&limit=1000");
    let mut alone = BTreeMap::new();
    for printing in all.iter().filter(|span| span.name.starts_with("print ")) {
        let end = printing.start + printing.ms * 1_000_000;
        let began = all
            .iter()
            .filter(|span| span.trace != printing.trace && span.parent.is_empty());
        let began = began
            .filter(|span| {
                (printing.start + 2_000_000..end.saturating_sub(2_000_000)).contains(&span.start)
            })
            .count();
        let counted: &mut (usize, usize) = alone.entry(printing.name.clone()).or_default();
        counted.0 += 1;
        counted.1 += began;
    }
    if alone.len() < 2 || alone.values().any(|(count, _)| *count < 8) {
        return None;
    }
    let blocks = alone
        .iter()
        .filter(|(_, (_, began))| *began == 0)
        .map(|(name, _)| name.trim_start_matches("print ").to_owned());
    let blocks: Vec<String> = blocks.collect();
    let [document] = blocks.as_slice() else {
        return None;
    };
    // The flame graph has the function.
    let page = format!("{viewer}/profiles?type=cpu&service=shop&range=all&frames=all");
    let page = client().get(page).send().ok()?.text().ok()?;
    if !page.contains(&format!("print_{document}")) {
        return None;
    }
    Some(BTreeMap::from([
        ("route", format!("/orders/{{id}}/{document}")),
        ("function", format!("print_{document}")),
    ]))
}

fn half_traces(viewer: &str) -> Option<Answer> {
    let of_payment = spans(viewer, "service=payment&limit=500");
    let charges: Vec<_> = of_payment
        .iter()
        .filter(|span| span.service == "payment" && span.name.starts_with("POST /charges"))
        .collect();
    let roots: Vec<_> = charges
        .iter()
        .filter(|span| span.parent.is_empty())
        .collect();
    let kept: Vec<_> = charges
        .iter()
        .filter(|span| !span.parent.is_empty())
        .collect();
    let replica = &roots.first()?.instance;
    if roots.len() < 3 || kept.len() < 3 {
        return None;
    }
    assert!(
        roots.iter().all(|span| span.instance == *replica)
            && kept.iter().all(|span| span.instance != *replica)
    );
    Some(BTreeMap::from([
        ("service", "payment".into()),
        ("replica", replica.clone()),
        ("span", "POST /charges/{brand}/{cents}".into()),
    ]))
}

fn many_queries(viewer: &str) -> Option<Answer> {
    let all = spans(viewer, "service=shop&limit=500&sort=spans");
    let mut repeated: BTreeMap<(String, String), usize> = BTreeMap::new();
    for span in all.iter().filter(|span| span.name.starts_with("SELECT")) {
        *repeated
            .entry((span.trace.clone(), span.name.clone()))
            .or_default() += 1;
    }
    let ((trace, statement), times) = repeated
        .into_iter()
        .filter(|(_, times)| *times > 5)
        .max_by_key(|(_, times)| *times)?;
    let root = all
        .iter()
        .find(|span| span.trace == trace && !span.get("http.route").is_empty())?;
    Some(BTreeMap::from([
        ("route", root.get("http.route")),
        ("statement", statement),
        ("times", times.to_string()),
    ]))
}

fn new_version(viewer: &str) -> Option<Answer> {
    let failed = spans(viewer, "service=payment&status=error&limit=500");
    let failed: Vec<_> = failed
        .iter()
        .filter(|span| span.service == "payment" && span.get("http.response.status_code") == "500")
        .collect();
    let first = failed.first()?;
    let brand = |path: String| path.split('/').nth(2).unwrap_or_default().to_owned();
    let (version, brand_of) = (first.version.clone(), brand(first.get("url.path")));
    assert!(
        failed
            .iter()
            .all(|span| span.version == version && brand(span.get("url.path")) == brand_of)
    );
    (failed.len() >= 3).then(|| {
        BTreeMap::from([
            ("version", version),
            ("brand", brand_of),
            ("status", "500".into()),
        ])
    })
}

/// The one of the shop's two services for which it holds; the other must have been seen as well.
fn only_one(holds: impl Fn(&str) -> Option<bool>) -> Option<String> {
    match (holds("shop")?, holds("payment")?) {
        (true, false) => Some("shop".into()),
        (false, true) => Some("payment".into()),
        _ => None,
    }
}

fn deltas(viewer: &str) -> Option<Answer> {
    let service = only_one(|service| is_delta(viewer, service, "http.server.request.duration"))?;
    Some(BTreeMap::from([
        ("service", service),
        ("temporality", "delta".into()),
    ]))
}

fn no_exemplars(viewer: &str) -> Option<Answer> {
    let service = only_one(|service| {
        let points = series(viewer, service, "http.server.request.duration");
        let requests: f64 = points.iter().map(|point| number(&point["count"])).sum();
        let without = points
            .iter()
            .all(|point| list(&point["exemplars"]).is_empty());
        (requests >= 20.0).then_some(without)
    })?;
    Some(BTreeMap::from([
        ("service", service),
        ("variable", "OTEL_METRICS_EXEMPLAR_FILTER".into()),
    ]))
}

/// The requests that the payment service's replicas have a span of, by replica.
fn charges(spans: &[Span]) -> BTreeMap<String, Vec<&Span>> {
    let mut charges: BTreeMap<String, Vec<&Span>> = BTreeMap::new();
    let of_payment = spans
        .iter()
        .filter(|span| span.service == "payment" && span.name.starts_with("POST /charges"));
    for span in of_payment {
        charges.entry(span.instance.clone()).or_default().push(span);
    }
    charges
}

fn sampled(viewer: &str) -> Option<Answer> {
    let spans = spans(viewer, "service=payment&limit=1000");
    let mut counts: Vec<(String, usize)> = charges(&spans)
        .into_iter()
        .map(|(replica, of_it)| (replica, of_it.len()))
        .collect();
    counts.sort_by_key(|(_, count)| *count);
    let [(replica, few), (_, all)] = counts.as_slice() else {
        return None;
    };
    // Both get equally many requests; a share of fewer would be left to chance.
    (*all >= 200 && few * 2 < *all).then(|| {
        BTreeMap::from([
            ("replica", replica.clone()),
            ("share", format!("{}", few * 100 / all)),
        ])
    })
}

fn slow_clock(viewer: &str) -> Option<Answer> {
    let spans = spans(viewer, "service=payment&limit=500");
    let early: BTreeMap<String, Vec<u128>> = charges(&spans)
        .into_iter()
        .map(|(replica, of_it)| {
            let before = of_it.into_iter().filter_map(|span| {
                let caller = spans.iter().find(|caller| caller.id == span.parent)?;
                Some(caller.start.saturating_sub(span.start) / 1_000_000_000)
            });
            (replica, before.collect())
        })
        .collect();
    if early.len() < 2 || early.values().any(|seconds| seconds.len() < 5) {
        return None;
    }
    let mut off = early
        .into_iter()
        .filter(|(_, seconds)| seconds.iter().all(|seconds| *seconds > 5));
    let (replica, seconds) = off.next()?;
    assert_eq!(off.next(), None);
    let mean = seconds.iter().sum::<u128>() / seconds.len() as u128;
    Some(BTreeMap::from([
        ("replica", replica),
        ("seconds", mean.to_string()),
    ]))
}

#[test]
fn the_repeated_statement_is_found_in_the_widest_trace() {
    play(11, many_queries);
}

/// Those that come with the project, and what they must not tell.
#[test]
fn the_incidents_that_come_with_the_project_are_found_and_graded() {
    type Find = fn(&str) -> Option<Answer>;
    let incidents: [(&str, Find); 2] = [("first", new_version), ("second", blocking)];
    let data = folder("incidents");
    for (name, find) in incidents {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../drills/recorded/{name}.incident"));
        graded(&data, &file, find);

        let mut unpacked = String::new();
        GzDecoder::new(std::fs::File::open(&file).unwrap())
            .read_to_string(&mut unpacked)
            .unwrap();
        let mut told = unpacked;
        // Profiles are in base64.
        for line in told.clone().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let profile = line["pprof"].as_str().unwrap_or_default();
            let profile = base64::engine::general_purpose::STANDARD.decode(profile);
            told += &String::from_utf8_lossy(&profile.unwrap());
        }
        assert!(told.contains("shop/src/"), "{name} has no source");
        for of_the_machine in ["host.name", "process.command", "/root/", "/home/"] {
            assert!(!told.contains(of_the_machine), "{name}: {of_the_machine}");
        }
    }
}

/// The others, one after the other.
#[test]
#[ignore = "takes a quarter of an hour; make verify-drills"]
fn every_drill_on_the_shop_is_found_by_its_signals() {
    type Find = fn(&str) -> Option<Answer>;
    let drills: [(u32, Find); 13] = [
        (3, lost_index),
        (4, kept_connections),
        (5, stampede),
        (6, quadratic),
        (7, growing),
        (8, flood),
        (9, blocking),
        (10, half_traces),
        (12, new_version),
        (13, deltas),
        (14, no_exemplars),
        (15, sampled),
        (16, slow_clock),
    ];
    let only = std::env::var("DRILL")
        .ok()
        .and_then(|only| only.parse::<u32>().ok());
    for (number, find) in drills {
        if only.is_none_or(|only| only == number) {
            println!("drill {number}");
            play(number, find);
        }
    }
}

/// Each begins, and its load arrives.
#[test]
fn every_drill_on_the_shop_begins() {
    let data: PathBuf = folder("drills-begin");
    let demo = Demo::start_in(&data, &[]);
    let _healed = Healed(&demo, &data);
    for number in [3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16] {
        let before = crate::signals::now_ms();
        let begun = drill(&demo, &data, &["start", &number.to_string()]);
        assert!(begun.status.success(), "drill {number}: {}", said(&begun));
        eventually("a request of this drill is seen", || {
            spans(
                &demo.viewer,
                &format!("service=shop&limit=1&from_ms={before}"),
            )
            .pop()
        });
        let stopped = drill(&demo, &data, &["stop"]);
        assert!(
            said(&stopped).starts_with(&format!("drill {number} is over")),
            "{}",
            said(&stopped)
        );
    }
}
