//! What the stores say of the places where they keep their data: the object store, and their own disks. A store that can write to neither
//! goes on taking telemetry for a while, so no hop shows it.

use std::time::Duration;

use super::causes::Facts;
use super::flow::{Pages, sum};
use super::hops::{Counter, all, bad};

/// Where a store keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    ObjectStore,
    Disk,
}

/// What failed between the two readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    pub part: String,
    pub place: Place,
    pub count: f64,
}

/// Operations that failed, as Loki, Tempo, Mimir and Pyroscope count them.
const COUNTERS: [(Place, Counter); 5] = [
    (
        Place::ObjectStore,
        bad("loki_s3_request_duration_seconds_count"),
    ),
    (
        Place::ObjectStore,
        bad("tempodb_backend_request_duration_seconds_count"),
    ),
    (
        Place::ObjectStore,
        all("thanos_objstore_bucket_operation_failures_total"),
    ),
    (
        Place::ObjectStore,
        all("objstore_bucket_operation_failures_total"),
    ),
    (
        Place::Disk,
        all("loki_ingester_wal_disk_full_failures_total"),
    ),
];

/// Of one part, replicas together.
pub fn failed(part: &str, pages: &[Pages<'_>]) -> Vec<Failed> {
    let counted = COUNTERS.iter().filter_map(|(place, counter)| {
        let count = sum(&[*counter], pages)?.new;
        (count > 0.0).then(|| Failed {
            part: part.to_owned(),
            place: *place,
            count,
        })
    });
    counted.collect()
}

/// A sentence for each.
pub fn findings(failed: &[Failed], facts: Facts<'_>, over: Duration) -> Vec<String> {
    let sentence = |failed: &Failed| {
        let Failed { part, place, count } = failed;
        let (what, cause) = match place {
            Place::ObjectStore if facts.away("minio") => {
                ("operations on the object store", "minio is away")
            }
            Place::ObjectStore => (
                "operations on the object store",
                "S3_ENDPOINT, S3_ACCESS_KEY or S3_SECRET_KEY in .env is not what the object store has, or it refuses; \
                 what is new stays in the store's own memory and disk, which end",
            ),
            Place::Disk => (
                "writes to its own disk",
                "its volume is full: `docker system df`; a restart now loses what was not written",
            ),
        };
        let logs = facts.logs(part);
        format!(
            "{part}: {count} {what} failed in {} s. Likely: {cause}. {logs}",
            over.as_secs()
        )
    };
    failed.iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::exposition;
    use super::super::read::Answer;
    use super::*;

    fn answer(name: &str, trouble: Option<&str>) -> Answer {
        Answer {
            name: name.into(),
            trouble: trouble.map(str::to_owned),
            series: Vec::new(),
        }
    }

    #[test]
    fn a_refused_object_store_and_a_full_disk_are_told_with_their_cause() {
        let before = exposition::parse(
            "loki_s3_request_duration_seconds_count{operation=\"S3.PutObject\",status_code=\"403\"} 2",
        );
        let after = exposition::parse(
            "loki_s3_request_duration_seconds_count{operation=\"S3.PutObject\",status_code=\"403\"} 5\n\
             loki_s3_request_duration_seconds_count{operation=\"S3.GetObject\",status_code=\"200\"} 9\n\
             loki_ingester_wal_disk_full_failures_total 1",
        );
        let failed = failed(
            "loki",
            &[Pages {
                before: &before,
                after: &after,
            }],
        );
        let told = |minio: Option<&str>| {
            let answers = [answer("loki", None), answer("minio", minio)];
            let facts = Facts {
                flows: &[],
                answers: &answers,
            };
            findings(&failed, facts, Duration::from_secs(20))
        };
        let healthy = told(None);
        assert!(
            healthy[0].starts_with("loki: 3 operations on the object store failed in 20 s. Likely: S3_ENDPOINT, S3_ACCESS_KEY or S3_SECRET_KEY in .env"),
            "{healthy:?}"
        );
        assert!(healthy[0].ends_with("`make logs-loki`"), "{healthy:?}");
        assert!(
            healthy[1].starts_with("loki: 1 writes to its own disk failed"),
            "{healthy:?}"
        );
        assert!(told(Some("no answer"))[0].contains("Likely: minio is away."));
    }

    #[test]
    fn what_went_well_and_what_is_over_is_nothing() {
        let page = exposition::parse(
            "thanos_objstore_bucket_operation_failures_total{operation=\"get\"} 7\n\
             tempodb_backend_request_duration_seconds_count{operation=\"PUT\",status_code=\"204\"} 7",
        );
        let pages = [Pages {
            before: &page,
            after: &page,
        }];
        assert_eq!(failed("mimir", &pages), []);
    }
}
