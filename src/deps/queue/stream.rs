//! The Redis stream that jobs travel on: bounded, read by a consumer group, each job acknowledged and removed when it is done.

use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands, RedisResult};

use crate::deps::job::Job;
use crate::deps::redis::{connection, fresh};

const KEY: &str = "signalbox:jobs";
const GROUP: &str = "workers";
const FIELD: &str = "job";

/// A job that its consumer did not acknowledge for so long belongs to whoever asks next.
const ABANDONED_MS: usize = 30_000;

/// The stream. Cheap to clone. Connections are made at first use and again after each loss.
#[derive(Clone)]
pub struct Stream {
    connection: ConnectionManager,
    /// For [`Stream::read`] alone: what else is sent on its connection waits until the read returns.
    blocking: ConnectionManager,
    /// Jobs that wait at most, about: senders do not lock each other out.
    capacity: usize,
}

/// A job with what is needed to acknowledge it.
pub struct Delivery {
    id: String,
    /// `None` if it is not readable; acknowledge it all the same.
    pub job: Option<Job>,
}

impl Stream {
    /// Must be called inside a runtime. `timeout` bounds connecting and each answer.
    pub fn open(url: &str, timeout: Duration, capacity: usize) -> RedisResult<Self> {
        let client = redis::Client::open(url)?;
        Ok(Self {
            connection: connection(client.clone(), timeout)?,
            blocking: connection(client, timeout)?,
            capacity,
        })
    }

    /// Jobs that may wait.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends a job. False if no more may wait.
    pub async fn add(&self, job: &Job) -> RedisResult<bool> {
        let body = serde_json::to_string(job).unwrap_or_default();
        let add = async || {
            let mut connection = self.connection.clone();
            let waiting: usize = connection.xlen(KEY).await?;
            if waiting >= self.capacity {
                return Ok(false);
            }
            let _id: Option<String> = connection.xadd(KEY, "*", &[(FIELD, &body)]).await?;
            Ok(true)
        };
        fresh(add).await
    }

    /// Makes stream and group if they are not there yet, also after Redis lost them.
    pub async fn ensure_group(&self) -> RedisResult<()> {
        let mut connection = self.connection.clone();
        let made: RedisResult<()> = connection.xgroup_create_mkstream(KEY, GROUP, "0").await;
        match made {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            outcome => outcome,
        }
    }

    /// Waits at most `wait` for at most `count` new jobs. The timeout of [`Stream::open`] must be longer than `wait`.
    pub async fn read(
        &self,
        consumer: &str,
        count: usize,
        wait: Duration,
    ) -> RedisResult<Vec<Delivery>> {
        let wait = usize::try_from(wait.as_millis()).unwrap_or(usize::MAX);
        let options = StreamReadOptions::default()
            .group(GROUP, consumer)
            .count(count)
            .block(wait);
        let reply: Option<StreamReadReply> = self
            .blocking
            .clone()
            .xread_options(&[KEY], &[">"], &options)
            .await?;
        let streams = reply.map(|reply| reply.keys).unwrap_or_default();
        let ids = streams.into_iter().flat_map(|stream| stream.ids);
        Ok(ids.map(Delivery::from).collect())
    }

    /// Takes over at most `count` jobs that another consumer left behind.
    pub async fn claim(&self, consumer: &str, count: usize) -> RedisResult<Vec<Delivery>> {
        let options = StreamAutoClaimOptions::default().count(count);
        let reply: StreamAutoClaimReply = self
            .connection
            .clone()
            .xautoclaim_options(KEY, GROUP, consumer, ABANDONED_MS, "0-0", options)
            .await?;
        Ok(reply.claimed.into_iter().map(Delivery::from).collect())
    }

    /// Says that a job is done, and removes it.
    pub async fn acknowledge(&self, delivery: &Delivery) -> RedisResult<()> {
        redis::pipe()
            .atomic()
            .xack(KEY, GROUP, &[&delivery.id])
            .ignore()
            .xdel(KEY, &[&delivery.id])
            .ignore()
            .query_async(&mut self.connection.clone())
            .await
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> RedisResult<()> {
        let ping = async || {
            redis::cmd("PING")
                .query_async(&mut self.connection.clone())
                .await
        };
        fresh(ping).await
    }
}

impl From<StreamId> for Delivery {
    fn from(entry: StreamId) -> Self {
        let body: Option<Vec<u8>> = entry.get(FIELD);
        Self {
            job: body.and_then(|body| Job::read(&body)),
            id: entry.id,
        }
    }
}
