//! `/services`: who calls whom, as spans tell it.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{PageProblem, Services, Shell, Tab, TimeRange, heading, href, same};
use crate::format;
use crate::query;
use crate::store::traces::{self, Edge};
use crate::store::{Signal, Store};

const NODE_WIDTH: i32 = 190;
const NODE_HEIGHT: i32 = 54;
const COLUMN: i32 = 400;
const ROW: i32 = 104;
/// Between two edges of the same two nodes.
const APART: i32 = 40;

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    time: web::Query<query::Time>,
) -> Result<HttpResponse, PageProblem> {
    let now_ns = format::now_ns();
    let bounds = time.bounds("15m", now_ns)?;
    let edges = traces::edges(&store.pool, bounds).await?;
    let minutes = traces::minutes_covered(&store.pool, bounds, now_ns).await?;
    let shell = Shell {
        tab: Tab::Services,
        title: "Services".to_owned(),
        signals: "traces",
        range: Some(TimeRange {
            kept_since: store.kept_since(Signal::Traces).await?,
            ..TimeRange::of(&request, &time, "15m", now_ns)
        }),
        not: "Lens draws calls between services, to databases and through messages; Tempo's generator keeps them as metrics over time.",
        same: vec![same::services()],
        ..Shell::of(&request, &store).await?
    };
    let fixed = heading(
        html! { "Services" },
        html! { span.faint { (format::three(minutes)) " minutes" } },
    );
    let changing = html! {
        @if edges.is_empty() {
            (shell.nothing("No call between services in this time.", html! { "A call is a server or consumer span whose parent is another service's." }))
        } @else {
            @if edges.len() == traces::MOST_EDGES { p.context { "Only the " (traces::MOST_EDGES) " calls that were made most are shown." } }
            (graph(&edges, &shell.services, minutes))
            (table(&edges, &shell.services, minutes))
        }
    };
    Ok(shell.page(&store, fixed, changing))
}

/// Each node's column is its longest way from a caller that nobody calls; ways round and round end after as many steps as there are nodes.
fn columns(edges: &[Edge]) -> BTreeMap<&str, usize> {
    let mut columns: BTreeMap<&str, usize> = edges
        .iter()
        .flat_map(|edge| [edge.caller.as_str(), edge.callee.as_str()])
        .map(|name| (name, 0))
        .collect();
    for _ in 0..columns.len() {
        for edge in edges.iter().filter(|edge| edge.caller != edge.callee) {
            let caller = columns.get(edge.caller.as_str()).copied().unwrap_or(0);
            let back = edges.iter().any(|other| {
                other.caller == edge.callee
                    && other.callee == edge.caller
                    && other.calls > edge.calls
            });
            let most = columns.len() - 1;
            if let Some(column) = columns
                .get_mut(edge.callee.as_str())
                .filter(|column| **column <= caller && caller < most && !back)
            {
                *column = caller + 1;
            }
        }
    }
    columns
}

fn graph(edges: &[Edge], services: &Services, minutes: f64) -> Markup {
    let columns = columns(edges);
    let mut filled: BTreeMap<usize, i32> = BTreeMap::new();
    let tallest = columns
        .values()
        .map(|column| columns.values().filter(|other| *other == column).count())
        .max()
        .unwrap_or(1) as i32;
    let places: BTreeMap<&str, (i32, i32)> = columns
        .iter()
        .map(|(name, column)| {
            let row = filled.entry(*column).or_default();
            let in_column = columns.values().filter(|other| *other == column).count() as i32;
            let y = 20 + *row * ROW + (tallest - in_column) * ROW / 2;
            *row += 1;
            (*name, (20 + *column as i32 * COLUMN, y))
        })
        .collect();
    let width = 40 + columns.values().max().copied().unwrap_or(0) as i32 * COLUMN + NODE_WIDTH;
    let height = 40 + (tallest - 1) * ROW + NODE_HEIGHT;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Graph" {
            svg.graph data-testid="service-graph" viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) role="group" aria-label="Service graph" {
                @for (place, edge) in edges.iter().enumerate() {
                    // Calls and messages between the same two run apart.
                    @let alike = |other: &&Edge| other.caller == edge.caller && other.callee == edge.callee;
                    @let apart = edges.iter().filter(alike).count() as i32 - 1;
                    @let shift = (2 * edges[..place].iter().filter(alike).count() as i32 - apart) * APART / 2;
                    @let from = places[edge.caller.as_str()];
                    @let to = places[edge.callee.as_str()];
                    @let (x1, y1) = (from.0 + NODE_WIDTH, from.1 + NODE_HEIGHT / 2 + shift / 3);
                    @let (x2, y2) = (to.0, to.1 + NODE_HEIGHT / 2 + shift / 3);
                    @let bend = COLUMN / 5;
                    path.edge.failing[edge.errors > 0].messages[edge.messages] d={ "M" (x1) " " (y1) "C" (x1 + bend) " " (y1 + shift) " " (x2 - bend) " " (y2 + shift) " " (x2) " " (y2) } {}
                    text.edge-label x=((x1 + x2) / 2) y=((y1 + y2) / 2 + shift * 3 / 4 + 4) text-anchor="middle" {
                        (rate(edge, minutes)) " · " (format::duration(edge.mean_ns))
                        @if edge.errors > 0 { tspan.bad x=((x1 + x2) / 2) dy="16" { (failed(edge)) } }
                    }
                }
                @for (name, (x, y)) in &places {
                    @let external = edges.iter().any(|edge| edge.callee == *name && edge.external);
                    a href=(link(name, external)) {
                        rect.node.external[external] x=(x) y=(y) width=(NODE_WIDTH) height=(NODE_HEIGHT) rx="9" {}
                        circle.chip.(if external { "plain".to_owned() } else { services.colour(name) }) cx=(x + 19) cy=(y + NODE_HEIGHT / 2) r="5" {}
                        text.node-name x=(x + 34) y=(y + NODE_HEIGHT / 2 + 5) { (name) }
                    }
                }
            }
        }
    }
}

/// A service's traces; of a database those of its callers are found by its edges.
fn link(name: &str, external: bool) -> String {
    if external {
        "#edges".to_owned()
    } else {
        href("/traces", &[("service", name)])
    }
}

fn rate(edge: &Edge, minutes: f64) -> String {
    format!("{}/min", format::three(edge.calls as f64 / minutes))
}

fn failed(edge: &Edge) -> String {
    format!(
        "{:.1} % failed",
        100.0 * edge.errors as f64 / edge.calls.max(1) as f64
    )
}

fn table(edges: &[Edge], services: &Services, minutes: f64) -> Markup {
    html! {
        h2 id="edges" { "Calls" }
        div.scroll tabindex="0" role="region" aria-label="Table" {
            table.list data-testid="edges" {
                thead { tr { th { "From" } th { "To" } th.right { "Calls" } th.right { "Rate" } th.right { "Failed" } th.right { "Mean" } } }
                tbody { @for edge in edges {
                    tr data-testid="edge" data-from=(edge.caller) data-to=(edge.callee) {
                        td { (services.tag(&edge.caller)) }
                        td { @if edge.external { span.service.plain { (edge.callee) } } @else { (services.tag(&edge.callee)) } @if edge.messages { " " span.faint { "by message" } } }
                        td.right.number { (format::count(edge.calls)) }
                        td.right.number { (rate(edge, minutes)) }
                        td.right.number.bad[edge.errors > 0] { (format::count(edge.errors)) }
                        td.right.number { (format::duration(edge.mean_ns)) }
                    }
                } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(caller: &str, callee: &str) -> Edge {
        Edge {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            external: false,
            messages: false,
            calls: 1,
            errors: 0,
            mean_ns: 1.0,
        }
    }

    #[test]
    fn callees_stand_right_of_their_callers_and_circles_end() {
        let edges = [
            edge("api", "worker"),
            edge("api", "sqlite"),
            edge("worker", "sqlite"),
        ];
        let expected = [("api", 0), ("sqlite", 2), ("worker", 1)];
        assert_eq!(columns(&edges), BTreeMap::from(expected));
        let circle = [edge("a", "b"), edge("b", "a"), edge("a", "a")];
        assert!(columns(&circle).values().all(|column| *column <= 1));
    }
}
