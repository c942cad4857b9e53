//! Whole numbers in JSON bodies. JSON has one kind of number, and to JSON Schema (draft 2020-12, "type") 4096.0 is the integer
//! 4096; serde alone refuses it, so that a body would be refused that fits its description.

use serde::{Deserialize, Deserializer, de::Error};

/// Largest size up to which a 64-bit float tells every whole number from the next.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// For `#[serde(deserialize_with)]`.
///
/// # Errors
/// Refuses what has a fraction, and what does not fit the type.
pub fn number<'de, D: Deserializer<'de>, T: TryFrom<i64>>(from: D) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let exact = |float: &f64| float.fract() == 0.0 && float.abs() <= EXACT;
    number
        .as_i64()
        .or_else(|| number.as_f64().filter(exact).map(|float| float as i64))
        .and_then(|whole| T::try_from(whole).ok())
        .ok_or_else(|| D::Error::custom(format!("{number} is no whole number that fits here")))
}

#[cfg(test)]
mod tests {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Body {
        #[serde(deserialize_with = "super::number")]
        count: u32,
    }

    #[test]
    fn a_whole_number_is_accepted_however_it_is_written() {
        for text in ["4096", "4096.0", "4.096e3"] {
            let body: Body = serde_json::from_str(&format!(r#"{{"count":{text}}}"#)).expect(text);
            assert_eq!(body, Body { count: 4096 });
        }
    }

    #[test]
    fn fractions_strings_and_what_does_not_fit_are_refused() {
        for text in ["0.5", "-1", "4294967296", "1e300", r#""1""#, "null"] {
            let body = serde_json::from_str::<Body>(&format!(r#"{{"count":{text}}}"#));
            assert!(body.is_err(), "{text}: {body:?}");
        }
    }
}
