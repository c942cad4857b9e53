//! What may be asked for: each fault with its bound, and the text that names them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Header that asks for faults in one request.
pub const HEADER: &str = "x-signalbox-fault";

/// Query parameter that does the same where a header cannot be set, as in a plain link.
pub const PARAMETER: &str = "fault";

/// What to inject into a request. Zero is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Milliseconds waited before the request is served.
    #[schema(maximum = 15_000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub latency_ms: u32,
    /// Part of the requests that fail with 500, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub error_rate: f64,
    /// Milliseconds of a query that is really slow in the database.
    #[schema(maximum = 3000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub slow_query_ms: u32,
    /// Milliseconds that an UPDATE waits at most for the row that `/demo/lock` keeps locked; nobody keeps it, nobody waits.
    #[schema(maximum = 3000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub lock_wait_ms: u32,
    /// Kibibytes that the request leaks; all requests together at most 256 MiB.
    #[schema(maximum = 4096)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub leak_kb: u32,
    /// Milliseconds that the request keeps its async thread busy, so that all others of that thread wait.
    #[schema(maximum = 1000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub block_ms: u32,
}

impl Plan {
    /// No fault at all.
    pub const OFF: Self = Self {
        latency_ms: 0,
        error_rate: 0.0,
        slow_query_ms: 0,
        lock_wait_ms: 0,
        leak_kb: 0,
        block_ms: 0,
    };
    /// Longest latency, in milliseconds.
    pub const MAX_LATENCY_MS: u32 = 15_000;
    /// Longest slow query, in milliseconds; below the default statement timeout.
    pub const MAX_SLOW_QUERY_MS: u32 = 3000;
    /// Longest lock wait, in milliseconds; below the default statement timeout.
    pub const MAX_LOCK_WAIT_MS: u32 = 3000;
    /// Largest leak of one request, in kibibytes.
    pub const MAX_LEAK_KB: u32 = 4096;
    /// Longest time that an async thread is kept busy, in milliseconds.
    pub const MAX_BLOCK_MS: u32 = 1000;

    /// What is outside its bounds, if anything.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("latency_ms", self.latency_ms, Self::MAX_LATENCY_MS),
            ("slow_query_ms", self.slow_query_ms, Self::MAX_SLOW_QUERY_MS),
            ("lock_wait_ms", self.lock_wait_ms, Self::MAX_LOCK_WAIT_MS),
            ("leak_kb", self.leak_kb, Self::MAX_LEAK_KB),
            ("block_ms", self.block_ms, Self::MAX_BLOCK_MS),
        ];
        if let Some((name, _, most)) = bounds.iter().find(|(_, value, most)| value > most) {
            return Err(format!("{name} must be 0 to {most}"));
        }
        if !(0.0..=1.0).contains(&self.error_rate) {
            return Err("error_rate must be 0 to 1".to_owned());
        }
        Ok(())
    }

    /// This plan with what `text` names replaced: `latency_ms=200,error_rate=1`. [`PATTERN`] is its grammar.
    pub fn overridden(mut self, text: &str) -> Result<Self, String> {
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is not name=value; names are latency_ms, error_rate, slow_query_ms, lock_wait_ms, leak_kb, block_ms")
            })?;
            let digits = |more: &[u8]| {
                let fit = |b: u8| b.is_ascii_digit() || more.contains(&b);
                (1..=6).contains(&value.len()) && value.bytes().all(fit)
            };
            let number = || match value.parse::<u32>() {
                Ok(number) if digits(b"") => Ok(number),
                _ => Err(format!("{name} must be a whole number")),
            };
            match name {
                "latency_ms" => self.latency_ms = number()?,
                "slow_query_ms" => self.slow_query_ms = number()?,
                "lock_wait_ms" => self.lock_wait_ms = number()?,
                "leak_kb" => self.leak_kb = number()?,
                "block_ms" => self.block_ms = number()?,
                "error_rate" => match value.parse() {
                    Ok(rate) if digits(b".") => self.error_rate = rate,
                    _ => return Err("error_rate must be a number, 0 to 1".to_owned()),
                },
                _ => return Err(format!("{name:?} is no fault")),
            }
        }
        self.check().map(|()| self)
    }
}

/// One fault, as a regular expression.
macro_rules! one {
    () => {
        concat!(
            "(latency_ms=([0-9]{1,4}|1[0-4][0-9]{3}|15000)",
            "|(slow_query_ms|lock_wait_ms)=([0-9]{1,3}|[12][0-9]{3}|3000)",
            "|leak_kb=([0-9]{1,3}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])",
            "|block_ms=([0-9]{1,3}|1000)",
            "|error_rate=(0|1|0\\.[0-9]{1,4}))"
        )
    };
}

/// What [`HEADER`] and [`PARAMETER`] may say, as a regular expression of the contract.
pub const PATTERN: &str = concat!("^", one!(), "(,", one!(), ")*$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_overrides_only_what_it_names() {
        let default = Plan {
            latency_ms: 100,
            error_rate: 0.5,
            ..Plan::OFF
        };
        let plan = default.overridden("error_rate=0,leak_kb=64");
        let expected = Plan {
            latency_ms: 100,
            leak_kb: 64,
            ..Plan::OFF
        };
        assert_eq!(plan, Ok(expected));
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_its_bound() {
        let cases = [
            ("latency_ms=15001", "latency_ms must be 0 to 15000"),
            ("error_rate=2", "error_rate must be 0 to 1"),
            ("error_rate=NaN", "error_rate must be a number, 0 to 1"),
            ("error_rate=1e-1", "error_rate must be a number, 0 to 1"),
            ("leak_kb=+1", "leak_kb must be a whole number"),
            ("lock_wait_ms=-1", "lock_wait_ms must be a whole number"),
            ("block_ms=1001", "block_ms must be 0 to 1000"),
            ("explode=1", "\"explode\" is no fault"),
        ];
        for (text, reason) in cases {
            assert_eq!(Plan::OFF.overridden(text), Err(reason.to_owned()));
        }
    }
}
