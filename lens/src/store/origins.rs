//! Where a record came from: its resource and instrumentation scope, stored once.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use sqlx::{SqliteConnection, SqlitePool};

use super::known::REMEMBERED_BYTES;
use crate::attributes;

/// Resource and scope as they arrived.
#[derive(Clone, PartialEq, Message)]
pub struct Origin {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(string, tag = "2")]
    pub resource_schema_url: String,
    #[prost(message, optional, tag = "3")]
    pub scope: Option<InstrumentationScope>,
    #[prost(string, tag = "4")]
    pub scope_schema_url: String,
}

impl Origin {
    /// `service.name`, or what the specification calls a service without one.
    pub fn service(&self) -> String {
        self.resource
            .as_ref()
            .and_then(|resource| attributes::find(&resource.attributes, "service.name"))
            .map_or_else(|| "unknown_service".to_owned(), attributes::column)
    }
}

/// An origin ready to be stored.
pub struct OriginRow {
    pub service: String,
    text: String,
    body: Vec<u8>,
}

impl From<&Origin> for OriginRow {
    fn from(origin: &Origin) -> Self {
        Self {
            service: origin.service(),
            text: attributes::searchable(
                origin
                    .resource
                    .as_ref()
                    .map_or(&[], |resource| &resource.attributes),
                &[],
            ),
            body: origin.encode_to_vec(),
        }
    }
}

/// The origin's id, and whether it is new.
pub async fn intern(
    connection: &mut SqliteConnection,
    known: &mut HashMap<Vec<u8>, i64>,
    row: &OriginRow,
) -> sqlx::Result<(i64, bool)> {
    if let Some(id) = known.get(&row.body) {
        return Ok((*id, false));
    }
    let new = sqlx::query("INSERT OR IGNORE INTO origins (body, service, text) VALUES (?, ?, ?)")
        .bind(&row.body)
        .bind(&row.service)
        .bind(&row.text)
        .execute(&mut *connection)
        .await?
        .rows_affected()
        == 1;
    let id = sqlx::query_scalar("SELECT id FROM origins WHERE body = ?")
        .bind(&row.body)
        .fetch_one(connection)
        .await?;
    if row.body.len() <= REMEMBERED_BYTES {
        known.insert(row.body.clone(), id);
    }
    Ok((id, new))
}

/// Deletes the origins that no row uses any more.
pub async fn sweep(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM origins WHERE id NOT IN
         (SELECT origin FROM spans UNION SELECT origin FROM logs UNION SELECT origin FROM series)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts rows back under the resource and scope they came with, in OTLP's nesting: `of_scope` and `of_resource` make the signal's messages of a scope or
/// resource, its schema's URL, and what belongs to it.
pub fn nest<T, S, R>(
    rows: Vec<(i64, T)>,
    origins: &HashMap<i64, Origin>,
    of_scope: impl Fn(Option<InstrumentationScope>, String, Vec<T>) -> S,
    of_resource: impl Fn(Option<Resource>, String, Vec<S>) -> R,
) -> Vec<R> {
    let mut by_origin: Vec<(i64, Vec<T>)> = Vec::new();
    let mut places: HashMap<i64, usize> = HashMap::new();
    for (origin, item) in rows {
        let place = *places.entry(origin).or_insert_with(|| {
            by_origin.push((origin, Vec::new()));
            by_origin.len() - 1
        });
        by_origin[place].1.push(item);
    }
    let mut nested: Vec<(Option<Resource>, String, Vec<S>)> = Vec::new();
    for (id, items) in by_origin {
        // Rows evicted between two reads may take their origin along: they are shown without it.
        let origin = origins.get(&id).cloned().unwrap_or_default();
        let (resource, url) = (origin.resource, origin.resource_schema_url);
        let scope = of_scope(origin.scope, origin.scope_schema_url, items);
        let mut found = nested.iter_mut();
        match found.find(|of| (&of.0, &of.1) == (&resource, &url)) {
            Some((.., scopes)) => scopes.push(scope),
            None => nested.push((resource, url, vec![scope])),
        }
    }
    let nested = nested.into_iter();
    nested
        .map(|(resource, url, scopes)| of_resource(resource, url, scopes))
        .collect()
}

/// The origins with these ids.
pub async fn all(
    pool: &SqlitePool,
    ids: std::collections::HashSet<i64>,
) -> sqlx::Result<HashMap<i64, Origin>> {
    let ids: Vec<i64> = ids.into_iter().collect();
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT id, body FROM origins WHERE id IN (SELECT value FROM json_each(?))")
            .bind(super::traces::json_list(&ids))
            .fetch_all(pool)
            .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, body)| Some((id, Origin::decode(body.as_slice()).ok()?)))
        .collect())
}
