//! The stores keep their objects in SeaweedFS: each has a bucket there, and something lies in at least one of them.

use serde::Deserialize;

use super::World;

/// SeaweedFS's own listing, which needs no signature inside the stack's network.
const FILER: &str = "http://seaweedfs:8888/buckets";

/// One of each store, of those that minio/buckets.sh makes.
const BUCKETS: [&str; 4] = ["loki", "mimir", "pyroscope", "tempo"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    full_path: String,
}

pub async fn keeps(world: &World<'_>) -> Result<String, String> {
    let mut kept = Vec::new();
    for bucket in BUCKETS {
        let url = format!("{FILER}/{bucket}/?limit=1");
        let request = world.client.get(&url).header("accept", "application/json");
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let answer = answer
            .error_for_status()
            .map_err(|error| format!("{error}: `make logs-seaweedfs`, `make logs-minio-init`"))?;
        let listing: Listing = answer
            .json()
            .await
            .map_err(|error| format!("{url}: {error}"))?;
        kept.extend(listing.entries.unwrap_or_default());
    }
    match kept.first() {
        Some(entry) => Ok(format!(
            "a bucket of each store, and {} in them",
            entry.full_path
        )),
        None => Err("the buckets are empty: is S3_ENDPOINT of the stores seaweedfs:8333?".into()),
    }
}
