//! Each client's requests are in that client's tenant and in no other; a client that nobody knows is the default tenant's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::World;
use crate::http;
use crate::stack::send::sample::random_id;
use crate::stack::verify::read::Reader;

const MINUTE: Duration = Duration::from_secs(60);

/// Client id sent, requests, tenant in Mimir and in Loki, and what the service calls the client.
const CLIENTS: [(&str, u32, &str, &str, &str); 3] = [
    ("11111", 3, "11111", "11111", "11111"),
    ("22222", 2, "22222", "22222", "22222"),
    ("99999", 1, "anonymous", "fake", "other"),
];

/// Requests of three clients, with a status and request ids of their own.
pub struct Sent {
    status: u32,
    /// Counted for each client before.
    before: [f64; 3],
    run: String,
    time: Duration,
}

fn request_id(run: &str, client: &str) -> String {
    format!("verify-{run}-{client}")
}

impl Sent {
    pub async fn send(world: &World<'_>) -> Result<Self, String> {
        let run = random_id();
        // 430 to 499, which no load sends.
        let status = 430 + u32::from_str_radix(&run[..4], 16).unwrap_or_default() % 70;
        let mut before = [0.0; 3];
        for (before, (_, _, tenant, _, label)) in before.iter_mut().zip(CLIENTS) {
            *before = count(world, tenant, status, label).await?;
        }
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        for (client, requests, ..) in CLIENTS {
            for _ in 0..requests {
                let url = format!("{}/api?sc={status}&delay_ms=0", world.api);
                let request = world
                    .client
                    .get(url)
                    .header("client-id", client)
                    .header("x-request-id", request_id(&run, client));
                let answer = request.send().await.map_err(|error| http::cause(&error))?;
                if u32::from(answer.status().as_u16()) != status {
                    return Err(format!("the service answered {}", answer.status()));
                }
            }
        }
        Ok(Self {
            status,
            before,
            run,
            time,
        })
    }
}

/// Reads the stores as one tenant.
fn reader(world: &World<'_>, tenant: &'static str) -> Result<Reader, String> {
    let client = http::client_as(tenant).map_err(|error| error.to_string())?;
    Ok(Reader::at(client, &world.way.outward[0]))
}

/// Requests with `status` of the client `label` that `tenant` can see.
async fn count(
    world: &World<'_>,
    tenant: &'static str,
    status: u32,
    label: &str,
) -> Result<f64, String> {
    let query = format!(
        r#"sum(http_server_request_duration_seconds_count{{http_route="/api",http_response_status_code="{status}",signalbox_client_id="{label}"}})"#
    );
    let values = reader(world, tenant)?.instant(&query, None).await?;
    Ok(values.first().copied().unwrap_or_default())
}

pub async fn metrics(world: &World<'_>, sent: &Result<Sent, String>) -> Result<String, String> {
    let sent = sent.as_ref().map_err(Clone::clone)?;
    for (_, _, tenant, ..) in CLIENTS {
        for (index, (client, requests, owner, _, label)) in CLIENTS.into_iter().enumerate() {
            let seen = count(world, tenant, sent.status, label).await?;
            let (seen, expected) = if tenant == owner {
                (seen - sent.before[index], f64::from(requests))
            } else {
                (seen, 0.0)
            };
            if seen != expected {
                return Err(format!(
                    "tenant {tenant} sees {seen} requests of client {client}, not {expected}: `make logs-cortex-tenant`"
                ));
            }
        }
    }
    Ok("11111 has its 3 requests, 22222 its 2, the default tenant the unknown one; none sees another's".into())
}

pub async fn logs(world: &World<'_>, sent: &Result<Sent, String>) -> Result<String, String> {
    let sent = sent.as_ref().map_err(Clone::clone)?;
    let mut seen = Vec::new();
    for (_, _, _, tenant, _) in CLIENTS {
        let reader = reader(world, tenant)?;
        for (client, requests, _, owner, _) in CLIENTS {
            let query = format!(
                r#"{{service_name="signalbox-api"}} | signalbox_request_id="{}" |= "/api""#,
                request_id(&sent.run, client)
            );
            let records = reader
                .logs(&query, sent.time - MINUTE, sent.time + 10 * MINUTE)
                .await?
                .len();
            let right = match tenant == owner {
                true => records >= requests as usize,
                false => records == 0,
            };
            if !right {
                return Err(format!(
                    "tenant {tenant} sees {records} records of client {client}, which sent {requests} requests: `make logs-cortex-tenant`"
                ));
            }
            if tenant == owner {
                seen.push(format!("{records} of {client}"));
            }
        }
    }
    Ok(format!(
        "records {}, each in its tenant alone",
        seen.join(", ")
    ))
}
